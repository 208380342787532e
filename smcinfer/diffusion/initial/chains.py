"""Initial points by Markov chains on the noise: one chain a particle, or a tempered path that keeps log Z."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.diffusion.alignment import Alignment
from smcinfer.diffusion.initial.noise import Noise, start_from
from smcinfer.diffusion.initial.pooled import pool
from smcinfer.diffusion.initial.tries import Selected, tries
from smcinfer.diffusion.initial.ula import ULA
from smcinfer.diffusion.watched import Watched
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.programs import compiled
from smcinfer.kernels import MALA, Kernel, KernelState
from smcinfer.kernels.registry import by_name

LANGEVIN = {"mala": lambda: MALA(metric="diagonal"), "ula": lambda: ULA(metric="diagonal")}
PILOT_CHAINS, PILOT_ROUNDS, PILOT_STEPS = 32, 8, 3


class Chain(Noise):
    r"""Where a chain that started from the chosen one of M draws of noise stands after some steps.

    .. math:: \log w = \log \tfrac1M \textstyle\sum_m e^{\kappa V(\xi_m)} - \kappa V(x_K)

    A draw chosen in proportion to :math:`e^{\kappa V}` is properly weighted for the tilted noise by the mean over the
    draws, and steps that leave the tilted noise invariant keep it so. A chain that has forgotten its start need not
    carry that mean: taken for converged, it weighs :math:`-\kappa V(x_K)`.

    Attributes:
        process, share: as in `Noise`.
        first: the choice among M draws.
        kernel, params: the move and its frozen parameters.
        num_steps: K.
        converged: whether chains are taken to have forgotten their start.
    """

    process: Watched
    share: Scalar
    first: Selected
    kernel: Kernel
    params: PyTree[Any]
    num_steps: int = eqx.field(static=True)
    converged: bool = eqx.field(static=True)

    @property
    def num_evaluations(self) -> int:
        """One a try, and one a step."""
        return self.first.num_evaluations + self.num_steps * self.once

    def __call__(self, key: KeyArray) -> tuple[Array, Scalar]:
        """The end of one chain and its log weight."""
        start_key, chain_key = jax.random.split(key)
        x, log_w = self.first(start_key)
        start, end = self.walk(chain_key, x.reshape(-1))
        earned = 0.0 if self.converged else log_w + self.share * start.log_potential
        return self.as_point(end.position), earned - self.share * end.log_potential

    def walk(self, key: KeyArray, x: Float[Array, " dim"]) -> tuple[KernelState, KernelState]:
        """The first and the last state of a chain from x."""
        density = self.density(self.share)
        start = self.kernel.init(x, density)
        step = lambda state, key: (self.kernel.step(key, state, density, self.params)[0], None)  # noqa: E731
        return start, jax.lax.scan(step, start, jax.random.split(key, self.num_steps))[0]


class Annealed(Noise):
    r"""The end of a path of kernel steps whose share of V grows from zero to kappa, weighted exactly.

    .. math:: \log w = \sum_k (\kappa_k - \kappa_{k-1}) V(x_{k-1}) - \kappa V(x_K)

    Source: Neal (2001), annealed importance sampling; the last term undoes the tilt.

    Attributes:
        shares: Float["steps"], growing to kappa; one kernel step at each.
    """

    process: Watched
    share: Scalar
    kernel: Kernel
    params: PyTree[Any]
    shares: Float[Array, " steps"]

    @property
    def num_evaluations(self) -> int:
        """One a step, and the start."""
        return (self.shares.shape[0] + 1) * self.once

    def __call__(self, key: KeyArray) -> tuple[Array, Scalar]:
        """The end of one path and its log weight."""
        start_key, chain_key = jax.random.split(key)
        state = self.kernel.init(self.prior(start_key, 1)[0], self.density(0.0))
        rises = jnp.diff(self.shares, prepend=0.0)

        def step(carry: tuple[Any, Scalar], parts: tuple[Array, Array, Array]) -> tuple[tuple[Any, Scalar], None]:
            (state, log_w), (key, share, rise) = carry, parts
            log_w = log_w + rise * state.log_potential
            return (self.kernel.step(key, state, self.density(share), self.params)[0], log_w), None

        keys = jax.random.split(chain_key, self.shares.shape[0])
        log_w = jnp.zeros((), state.log_potential.dtype)
        (state, log_w), _ = jax.lax.scan(step, (state, log_w), (keys, self.shares, rises))
        return self.as_point(state.position), log_w - self.share * state.log_potential


def chains(
    key: Any,
    target: FeynmanKac,
    kernel: str | Kernel = "pcnl",
    *,
    num_steps: int = 20,
    num_tries: int = 1,
    share: float = 1.0,
    pooled: bool = True,
    converged: bool = False,
    step_size: float | None = None,
) -> Alignment:
    r"""The target started from a Markov chain a particle, on the noise tilted by the reward it is foreseen to earn.

    Args:
        key: for the pilot chains that tune the step; not used where ``step_size`` is given.
        target: made by `smcinfer.diffusion.alignment`, with a look-ahead.
        kernel: ``"pcnl"``, ``"pcn"``, ``"mala"``, ``"ula"``, or any `Kernel`.
        num_steps: of each chain; an evaluation of V, with its gradient where the kernel uses it, each.
        num_tries: draws of plain noise a chain, to choose starts from in proportion to :math:`e^{\kappa V}`.
        share: kappa, alpha over the chains' own temperature; less than one asks less of the noise.
        pooled: choose the starts of all chains among the tries of all (`Pooled`): those that are foreseen to fail are not
            walked from. Founders are then related, so that the error bar of a single run is too small; that between
            runs is right.
        converged: with ``pooled=False``, take the chains to have forgotten their starts, as published: all then weigh
            alike at kappa = 1.
        step_size: of the kernel; tuned on chains of its own where ``None``
            (32 of 24 steps, whose evaluations are not counted among the target's).

    Returns:
        The target with this start.

    Raises:
        ArgumentError: an unknown kernel, a target without a look-ahead, numbers out of range.

    Properly weighted for: the target, log Z included, with a kernel that leaves its density invariant (not ``"ula"``).
    Where chains are taken for converged: the target up to a constant that nobody knows, so that log Z is not its, and
    only as far as they are.

    Source: Yoon et al. (2025), the Psi-sampler, with pCNL of Cotter et al. (2013).
    """
    first, mover, params = _prepared(key, target, kernel, num_tries, num_steps, share, step_size)
    if pooled and converged:
        raise ArgumentError("pooled starts are weighted exactly", expected="converged=False, or pooled=False", got=True)
    started = start_from(target, Chain(first.process, first.share, first, mover, params, num_steps, converged))
    return pool(started) if pooled else started


def annealed_chains(
    key: Any,
    target: FeynmanKac,
    kernel: str | Kernel = "pcnl",
    *,
    num_steps: int = 20,
    share: float = 1.0,
    step_size: float | None = None,
) -> Alignment:
    r"""`chains` whose share of the reward grows step by step, so that the start is weighted exactly whatever its length.

    Args:
        key, target, kernel, num_steps, share, step_size: as in `chains`; shares grow as the square of the step. An
            unadjusted kernel (``"ula"``) is refused: it leaves no density invariant.

    Returns:
        The target with this start.

    Properly weighted for: the target, log Z included.
    """
    first, mover, params = _prepared(key, target, kernel, 1, num_steps, share, step_size)
    if isinstance(mover, ULA):
        raise ArgumentError("an unadjusted kernel cannot be weighted", expected="pcnl | pcn | mala", got="ula")
    shares = first.share * (jnp.arange(1, num_steps + 1) / num_steps) ** 2
    return start_from(target, Annealed(first.process, first.share, mover, params, shares))


def _prepared(
    key: Any,
    target: FeynmanKac,
    kernel: str | Kernel,
    num_tries: int,
    num_steps: int,
    share: float,
    step_size: float | None,
) -> tuple[Selected, Kernel, PyTree[Any]]:
    """The tries, the kernel, and parameters with a step that was given or that pilot chains have found."""
    first = tries(target, num_tries, share)
    if num_steps < 1:
        raise ArgumentError("a chain needs steps", expected="num_steps at least 1", got=num_steps)
    # A diagonal metric: noise may have as many coordinates as an image has pixels.
    mover = LANGEVIN[kernel]() if isinstance(kernel, str) and kernel in LANGEVIN else by_name(kernel)
    params = mover.parameters(math.prod(first.process.model.shape))
    if step_size is None:
        return first, mover, _pilot(key, first, mover, params)
    validate.number("step_size", step_size, above=0.0)
    return first, mover, eqx.tree_at(lambda tree: tree.step_size, params, jnp.asarray(step_size, float))


@compiled
def _pilot(key: KeyArray, noise: Noise, kernel: Kernel, params: PyTree[Any]) -> PyTree[Any]:
    """Parameters after rounds of a few steps of pilot chains, each followed by the kernel's own tuning."""
    density = noise.density(noise.share)
    start_key, rounds_key = jax.random.split(key)
    states = jax.vmap(lambda x: kernel.init(x, density))(noise.prior(start_key, PILOT_CHAINS))
    flat = jnp.zeros((PILOT_CHAINS,))

    def one_round(carry: tuple[Any, Any], key: KeyArray) -> tuple[tuple[Any, Any], None]:
        states, params = carry

        def sweep(states: Any, key: KeyArray) -> tuple[Any, Array]:
            keys = jax.random.split(key, PILOT_CHAINS)
            states, moved = jax.vmap(lambda key, state: kernel.step(key, state, density, params))(keys, states)
            return states, moved.acceptance

        states, acceptance = jax.lax.scan(sweep, states, jax.random.split(key, PILOT_STEPS))
        return (states, kernel.tune(params, states.position, flat, jnp.mean(acceptance))), None

    (_, params), _ = jax.lax.scan(one_round, (states, params), jax.random.split(rounds_key, PILOT_ROUNDS))
    return params
