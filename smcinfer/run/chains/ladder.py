r"""Parallel tempering: a chain at every exponent of a ladder, and swaps between neighbours.

.. math:: \pi_l(x) \propto \mu(x)\, e^{\lambda_l \Phi(x)}, \qquad 0 = \lambda_0 < \dots < \lambda_L = 1, \qquad
    \alpha_l = \min\{1, e^{(\lambda_{l+1} - \lambda_l)(\Phi(x_l) - \Phi(x_{l+1}))}\}

At the foot a state is drawn anew from the base, exactly and independently of all that was there. Even and odd pairs swap in
turn and not at random: a state that was let up goes on up until it is refused, so that trips to the top and back take a time
of the order of the ladder's length and not of its square. In the warm-up the exponents are set so that all pairs refuse
equally often, which makes those trips as frequent as they can be.

Source: Syed, Bouchard-Cote, Deligiannidis & Doucet (2022), algorithms 1 and 4.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Count, Flag, Float, Int, KeyArray, PyTree, Scalar
from smcinfer.kernels.base import Kernel, KernelState
from smcinfer.run.chains.of_kernel import tuned
from smcinfer.run.chains.sampler import Info, Sampler
from smcinfer.static.guard import guarded_density
from smcinfer.static.target import StaticTarget

FOOT, TOP = 0, 1


class Rungs(eqx.Module):
    """States of one ladder, and which journeys they are on.

    Attributes:
        states: leading axis rungs, from the base to the target.
        came_from: Int["rungs"], the end that each state has visited last: `FOOT`, `TOP`, or -1 for neither.
        odd: Bool[""], whether pairs (1, 2), (3, 4) ... are next to swap, or (0, 1), (2, 3) ...
    """

    states: KernelState
    came_from: Int[Array, " rungs"]
    odd: Flag


class Spacing(eqx.Module):
    """What a warm-up has found out.

    Attributes:
        exponents: Float["rungs"], from 0 to 1.
        kernel: the kernel's parameters at every rung but the foot, leading axis rungs - 1.
        warmup_evals: Float[""], density evaluations of the warm-up.
    """

    exponents: Float[Array, " rungs"]
    kernel: PyTree[Any]
    warmup_evals: Scalar


class Ladder(Sampler):
    """Parallel tempering of a static target by a kernel.

    Attributes:
        target: what the top rung draws.
        kernel: what moves the states between swaps.
        num_rungs: chains of one ladder, the foot and the top among them.
    """

    target: StaticTarget
    kernel: Kernel
    num_rungs: int = eqx.field(static=True)

    def begin(self, key: KeyArray, chain: Count) -> Rungs:
        """Draws of the base on all rungs."""
        del chain
        positions = self.target.sample_base(key, self.num_rungs).astype(jnp.result_type(float))
        neither = jnp.full((self.num_rungs,), -1, jnp.int32)
        return Rungs(jax.vmap(self._state)(positions), neither, jnp.zeros((), bool))

    def prepare(self, states: Rungs) -> Spacing:
        """Even exponents, and the kernel tuned to draws of the base."""
        exponents = jnp.linspace(0.0, 1.0, self.num_rungs, dtype=jnp.result_type(float))
        above = jnp.swapaxes(states.states.position, 0, 1)[1:]
        unknown = jnp.full((self.num_rungs - 1,), jnp.nan, exponents.dtype)
        kernel = jax.vmap(lambda cloud, rate: tuned(self.kernel, None, cloud, rate))(above, unknown)
        return Spacing(exponents, kernel, jnp.zeros((), exponents.dtype))

    def share(self, key: KeyArray, params: Spacing) -> Spacing:
        """What the kernel shares among the ladders, rung by rung."""
        keys = jax.random.split(key, self.num_rungs - 1)
        return eqx.tree_at(lambda tree: tree.kernel, params, jax.vmap(self.kernel.share)(keys, params.kernel))

    def step(self, key: KeyArray, state: Rungs, params: Spacing) -> tuple[Rungs, Info]:
        """Every rung moves, then every other pair of neighbours may swap."""
        move_key, base_key, swap_key = jax.random.split(key, 3)
        foot = self._state(self.target.sample_base(base_key, 1)[0].astype(jnp.result_type(float)))

        def move(key: KeyArray, state: KernelState, exponent: Scalar, params: PyTree[Any]) -> Any:
            return self.kernel.step(key, state, guarded_density(self.target, exponent), params)

        above = jax.tree.map(lambda leaf: leaf[1:], state.states)
        keys = jax.random.split(move_key, self.num_rungs - 1)
        above, info = jax.vmap(move)(keys, above, params.exponents[1:], params.kernel)
        states = jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), foot, above)

        chances = swap_chances(params.exponents, states.log_potential)
        order = swapped(swap_key, chances, state.odd)
        states, came_from = jax.tree.map(lambda leaf: leaf[order], (states, state.came_from))
        trips = (came_from[0] == TOP).astype(jnp.int32)
        came_from = came_from.at[0].set(FOOT).at[-1].set(TOP)
        did = {
            "acceptance": jnp.mean(info.acceptance),
            "num_evals": 1 + jnp.sum(info.num_evals),
            "cap_reached": jnp.sum(info.cap_reached),
            "rung_acceptance": info.acceptance,
            "swap_rejection": 1.0 - chances,
            "round_trips": trips,
            "transitions": jnp.ones((), jnp.int32),
        }
        return Rungs(states, came_from, ~state.odd), did

    def record(self, state: Rungs, info: Info) -> dict[str, Array]:
        """All rungs: the warm-up tunes by them, and log Z is known from the potentials of them all."""
        del info
        return {"positions": state.states.position, "potentials": state.states.log_potential}

    def tune(self, params: Spacing, rows: dict[str, Any]) -> Spacing:
        """Exponents at which all pairs refuse alike, and the kernel tuned to the draws of each rung."""
        dtype = params.exponents.dtype
        transitions = jnp.sum(rows["transitions"]).astype(dtype)
        exponents = even_exponents(params.exponents, jnp.sum(rows["swap_rejection"], axis=(0, 1)) / transitions)
        acceptance = jnp.sum(rows["rung_acceptance"], axis=(0, 1)) / transitions
        clouds = jnp.moveaxis(rows["positions"], 2, 0)[1:]
        clouds = clouds.reshape(self.num_rungs - 1, -1, clouds.shape[-1])
        kernel = jax.vmap(lambda before, cloud, rate: tuned(self.kernel, before, cloud, rate))(
            params.kernel, clouds, acceptance
        )
        spent = params.warmup_evals + jnp.sum(rows["num_evals"].astype(dtype))
        return Spacing(exponents, kernel, spent)

    def _state(self, position: Float[Array, " dim"]) -> KernelState:
        # The parts of a state are the same at every exponent.
        return self.kernel.init(position, guarded_density(self.target, jnp.ones((), jnp.result_type(float))))


def swap_chances(exponents: Float[Array, " rungs"], potentials: Float[Array, " rungs"]) -> Float[Array, " pairs"]:
    """Probability that each pair of neighbours would swap; one where the upper state is outside the support.

    Args:
        exponents: of the rungs.
        potentials: of the states that stand on them, nats.
    """
    lower, upper = potentials[:-1], potentials[1:]
    log_ratio = jnp.diff(exponents) * (lower - upper)
    # Both outside: nothing is gained by a swap, and the difference is no number.
    return jnp.where(jnp.isneginf(lower) & jnp.isneginf(upper), 0.0, jnp.exp(jnp.minimum(log_ratio, 0.0)))


def swapped(key: KeyArray, chances: Float[Array, " pairs"], odd: Flag) -> Int[Array, " rungs"]:
    """Which state stands on each rung after the swaps of every other pair.

    Args:
        key: one random key.
        chances: of all pairs.
        odd: Bool[""], whether the pairs that begin at an odd rung are those that may swap.
    """
    pairs = jnp.arange(chances.shape[0])
    taken = (pairs % 2 == odd.astype(pairs.dtype)) & (jax.random.uniform(key, chances.shape, chances.dtype) < chances)
    up = jnp.concatenate([taken, jnp.zeros((1,), bool)]).astype(pairs.dtype)
    down = jnp.concatenate([jnp.zeros((1,), bool), taken]).astype(pairs.dtype)
    return jnp.arange(chances.shape[0] + 1) + up - down


def even_exponents(exponents: Float[Array, " rungs"], rejections: Float[Array, " pairs"]) -> Float[Array, " rungs"]:
    r"""Exponents between which the communication barrier :math:`\Lambda(\lambda)` grows evenly.

    The sum of the refusals below an exponent estimates :math:`\Lambda` there, whatever the ladder it was measured on.

    Args:
        exponents: of the ladder that was run, from 0 to 1.
        rejections: Float["pairs"], mean probability that a swap was refused.
    """
    # A share that no pair is denied keeps the sum rising where nothing was ever refused.
    rises = rejections + 1e-3
    barrier = jnp.concatenate([jnp.zeros((1,), rises.dtype), jnp.cumsum(rises)])
    levels = jnp.linspace(0.0, 1.0, exponents.shape[0], dtype=exponents.dtype) * barrier[-1]
    return jnp.interp(levels, barrier, exponents).at[0].set(0.0).at[-1].set(1.0)
