"""One transition of every particle by few lanes: a lane that has ended one takes the next particle that waits.

In lockstep all particles wait for the slowest. In a queue of :math:`L` lanes for :math:`N` particles, particle i of
:math:`c_i` evaluations,

.. math:: L \\cdot \\text{ticks} \\le \\textstyle\\sum_i c_i + L \\max_i c_i + (\\text{pace} - 1)\\, N

instead of :math:`N \\max_i c_i`: with L a sixteenth of N it is less than twice what is needed. A transition's randomness is
that of its own key, so that particles end where they would have ended in lockstep.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import in_any_run
from smcinfer.core.state import pick
from smcinfer.ground.arrays import Array, Count, Int, Key, PyTree
from smcinfer.ground.slices import slice_size
from smcinfer.kernels.base import KernelInfo, KernelState, TemperedDensity
from smcinfer.kernels.ticks import TickKernel

LEAST_LANES = 64
SHARE = 16
PACE = 2
"""Evaluations between two looks for lanes that have ended: a look costs all of them the noise of a new transition."""


def num_lanes(size: int) -> int:
    """Lanes for so many particles: all of them where they are few, and no more than may be evaluated at once."""
    return min(size, slice_size() or size, max(LEAST_LANES, size // SHARE))


def queued(
    kernel: TickKernel,
    keys: Key[Array, " n"],
    states: KernelState,
    density: TemperedDensity,
    params: PyTree[Any],
    lanes: int,
) -> tuple[KernelState, KernelInfo, Count]:
    """One transition of every particle, what it did, and how often all lanes evaluated the density.

    Args:
        kernel: whose transitions are machines.
        keys: one a particle.
        states: where they are, leading axis particles.
        density, params: as of `TickKernel.step`.
        lanes: how many run side by side.
    """
    size = keys.shape[0]

    def begun(at: Int[Array, " lanes"]) -> Any:
        def one(key: Array, state: KernelState) -> Any:
            return kernel.begin(key, state, density, params)

        return jax.vmap(one)(*jax.tree.map(lambda leaf: leaf[at], (keys, states)))

    def tick(_: Array, machines: Any) -> Any:
        ticked = jax.vmap(lambda one: kernel.tick(one, density, params))(machines)
        return jax.tree.map(partial(pick, machines.finished), machines, ticked)

    def look(carry: tuple[Any, Array, Count, Any, Count]) -> tuple[Any, Array, Count, Any, Count]:
        machines, at, given, found, ticks = carry
        free = machines.finished
        at = jnp.where(free, jnp.minimum(given + jnp.cumsum(free, dtype=jnp.int32) - 1, size), at)
        fresh = begun(jnp.minimum(at, size - 1))
        machines = jax.tree.map(partial(pick, free & (at < size)), fresh, machines)
        machines = jax.lax.fori_loop(0, PACE, tick, machines)
        # A lane that is not through, or has nobody, writes past the end, where it is dropped.
        place = jnp.where(machines.finished, at, size)
        ended = jax.vmap(kernel.end)(machines)
        found = jax.tree.map(lambda rows, new: rows.at[place].set(new, mode="drop"), found, ended)
        return machines, at, jnp.minimum(given + jnp.sum(free, dtype=jnp.int32), size), found, ticks + PACE

    def unfinished(carry: tuple[Any, Array, Count, Any, Count]) -> Array:
        machines, _, given, _, _ = carry
        return in_any_run((given < size) | ~jnp.all(machines.finished))

    nobody = jnp.full((lanes,), size, jnp.int32)
    shapes = jax.eval_shape(begun, nobody)
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    idle = jax.tree.map(lambda leaf: keys[:lanes] if is_key(leaf) else jnp.zeros(leaf.shape, leaf.dtype), shapes)
    idle = eqx.tree_at(lambda machines: machines.finished, idle, jnp.ones((lanes,), bool))
    ends = jax.eval_shape(jax.vmap(kernel.end), shapes)
    room = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape[1:]), leaf.dtype), ends)
    zero = jnp.zeros((), jnp.int32)
    _, _, _, (states, info), ticks = jax.lax.while_loop(unfinished, look, (idle, nobody, zero, room, zero))
    return states, info, ticks
