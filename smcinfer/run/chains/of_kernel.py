"""Chains of a move kernel on a density: tuned from all of them, and at their own pace where the kernel allows it."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Count, Float, KeyArray, PyTree, Scalar
from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, TemperedDensity
from smcinfer.kernels.ticks import TickKernel
from smcinfer.run.chains.sampler import LOCKSTEP, Info, Paced, Sampler

PACES = ("auto", "flat", "lockstep")

FIRST_PACE = 4

FLAT_ABOVE = 2.5
"""Lockstep evaluations over useful ones, above which chains run at their own pace: what a tick of that costs more."""


class Learned(eqx.Module):
    """What a warm-up has found out.

    Attributes:
        kernel: the kernel's parameters.
        warmup_evals: Float[""], density evaluations of the warm-up, all chains.
        lockstep_over_mean: Float[""], evaluations that lockstep would have made over those that were useful, in the
            last round.
        evals_per_step: Float[""], useful evaluations of a transition there.
    """

    kernel: PyTree[Any]
    warmup_evals: Scalar
    lockstep_over_mean: Scalar
    evals_per_step: Scalar


class OfKernel(Sampler):
    """Chains of a kernel (made by `of_kernel`).

    Attributes:
        kernel: how they move.
        density: what they leave invariant.
        starts: where they start, leading axis chains.
    """

    kernel: Kernel
    density: TemperedDensity
    starts: KernelState

    first = 0

    def begin(self, key: KeyArray, chain: Count) -> KernelState:
        """The chain's own starting state, which was given."""
        return jax.tree.map(lambda leaf: leaf[chain], self.starts)

    def prepare(self, states: KernelState) -> Learned:
        """The kernel tuned to where the chains start, which alone gives it the scale of a vague prior."""
        nothing = jnp.asarray(jnp.nan, jnp.result_type(float))
        kernel = tuned(self.kernel, None, states.position, nothing)
        return Learned(kernel, jnp.zeros((), jnp.result_type(float)), nothing, nothing)

    def share(self, key: KeyArray, params: Learned) -> Learned:
        """What the kernel shares among the chains of a transition, a trajectory's length say."""
        return eqx.tree_at(lambda tree: tree.kernel, params, self.kernel.share(key, params.kernel))

    def step(self, key: KeyArray, state: KernelState, params: Learned) -> tuple[KernelState, Info]:
        """One step of the kernel."""
        state, info = self.kernel.step(key, state, self.density, params.kernel)
        return state, _as_dict(info)

    def record(self, state: KernelState, info: Info) -> dict[str, Array]:
        """The position, and what the last transition cost, by which `tune` knows how chains differ."""
        return {"position": state.position, "last_evals": info["num_evals"]}

    def tune(self, params: Learned, rows: dict[str, Any]) -> Learned:
        """The kernel's own tuning, on the draws of all chains in a round."""
        dtype = jnp.result_type(float)
        acceptance = jnp.mean(rows["acceptance"]).astype(dtype)
        kernel = tuned(self.kernel, params.kernel, rows["position"].reshape(-1, rows["position"].shape[-1]), acceptance)
        last = rows["last_evals"].astype(dtype)
        ratio = jnp.mean(jnp.max(last, axis=1)) / jnp.mean(last)
        spent = params.warmup_evals + jnp.sum(rows["num_evals"].astype(dtype))
        return Learned(kernel, spent, ratio, jnp.mean(last))


class OfTickKernel(OfKernel, Paced):
    """Chains of a kernel whose transitions are machines.

    Attributes:
        chosen: Int[""], number in `PACES`: an array, so that one program serves every pace.
    """

    kernel: TickKernel
    chosen: Count

    def open(self, key: KeyArray, state: KernelState, params: Learned) -> Any:
        """The kernel's machine at the start of a transition."""
        return self.kernel.begin(key, state, self.density, params.kernel)

    def tick(self, machine: Any, params: Learned) -> Any:
        """One evaluation of the density."""
        return self.kernel.tick(machine, self.density, params.kernel)

    def close(self, machine: Any) -> tuple[KernelState, Info]:
        """Where the machine ended."""
        state, info = self.kernel.end(machine)
        return state, _as_dict(info)

    def pace(self, params: Learned, tuning: bool) -> int:
        """Wait for all chains where asked to, or where the last round of the warm-up says that little is lost by it."""
        ratio, cost = float(params.lockstep_over_mean), float(params.evals_per_step)
        chosen = PACES[int(self.chosen)]
        if chosen == "lockstep" or (chosen == "auto" and not tuning and ratio <= FLAT_ABOVE):
            return LOCKSTEP
        # A look costs as much as a few cheap evaluations; chains then wait for it about a fifth of a transition. Nobody
        # knows the cost of the first round, where a chain far out could make all others wait for very long.
        return FIRST_PACE if math.isnan(cost) else max(1, min(8, round(1 + 0.4 * cost)))


def of_kernel(kernel: Kernel, density: TemperedDensity, starts: KernelState, pace: str) -> OfKernel:
    """The sampler of a kernel on a density.

    Args:
        kernel, density: how chains move, and on what.
        starts: kernel states, leading axis chains.
        pace: for kernels whose chains can go at their own pace: ``"auto"``, ``"flat"`` or ``"lockstep"``.
    """
    # What all chains of a transition share keeps them together by design.
    if isinstance(kernel, TickKernel) and type(kernel).share is Kernel.share:
        return OfTickKernel(kernel, density, starts, jnp.asarray(PACES.index(pace), jnp.int32))
    return OfKernel(kernel, density, starts)


def tuned(kernel: Kernel, params: PyTree[Any], positions: Float[Array, "n dim"], acceptance: Scalar) -> PyTree[Any]:
    """A kernel's parameters from positions that all weigh the same.

    Args:
        kernel: what is tuned.
        params: its parameters so far; ``None`` before the first transition.
        positions: Float["n dim"].
        acceptance: Float[""], mean acceptance since it was last tuned.
    """
    before = kernel.parameters(positions.shape[1]) if params is None else params
    return kernel.tune(before, positions, jnp.zeros(positions.shape[0], jnp.result_type(float)), acceptance)


def _as_dict(info: KernelInfo) -> Info:
    return {"acceptance": info.acceptance, "num_evals": info.num_evals, "cap_reached": info.cap_reached}
