r"""Many transitions of many lanes: side by side in lockstep, or each lane at its own pace.

Under ``vmap`` a transition of varying cost takes as long as its slowest lane, every time:

.. math:: \text{ticks}_{\text{lockstep}} = \sum_{i=1}^{K} \max_\ell c_{\ell i}, \qquad
    \text{ticks}_{\text{flat}} = \max_\ell \sum_{i=1}^{K} c_{\ell i}

with :math:`c_{\ell i}` the evaluations of lane l in its transition i. The flat machine runs all lanes tick by tick and
starts a lane's next transition as soon as it has ended one; what luck made slow in one transition evens out over K.
Each lane ends after K *transitions*: stopping all at one tick instead would favour what is quick to reach, and
bias every figure.

Transition i of a lane draws from ``fold_in(lane's key, i)`` whatever the pace, and one compiled program serves every pace,
so the draws of `flat` do not depend on it by a single bit.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Count, Float, Int, Key, KeyArray, PyTree
from smcinfer.kernels.base import Kernel, KernelState, TemperedDensity
from smcinfer.kernels.ticks import TickKernel

LOCKSTEP = 2**31 - 1
"""A ``burst`` that never ends before the last lane has."""


class Trace(eqx.Module):
    """Recorded states and what led to them, leading axes (records, lanes); one record sums up ``thin`` transitions.

    Attributes:
        position: where each lane was.
        acceptance: mean acceptance.
        num_evals: Int, density evaluations.
        cap_reached: Int, transitions in which a bounded loop stopped at its bound.
        last_evals: Int, density evaluations of the last transition alone.
    """

    position: Float[Array, "*lanes dim"]
    acceptance: Float[Array, "*lanes"]
    num_evals: Int[Array, "*lanes"]
    cap_reached: Int[Array, "*lanes"]
    last_evals: Int[Array, "*lanes"]


def at_own_pace(kernel: Kernel) -> bool:
    """Whether the lanes of a kernel can run without waiting for each other: its transitions are machines."""
    # What all lanes of a sweep share keeps them together by design.
    return isinstance(kernel, TickKernel) and type(kernel).share is Kernel.share


def flat(
    keys: Key[Array, " lanes"],
    states: KernelState,
    density: TemperedDensity,
    kernel: TickKernel,
    params: PyTree[Any],
    num_records: int,
    *,
    first: Int[Array, ""] | int = 0,
    thin: Int[Array, ""] | int = 1,
    burst: Int[Array, ""] | int = 4,
) -> tuple[KernelState, Trace, Count]:
    """``num_records * thin`` transitions of every lane, each lane at its own pace.

    Args:
        keys: one key a lane.
        states: kernel states, leading axis lanes.
        density: what the kernel leaves invariant.
        kernel, params: the kernel and its parameters, the same for all lanes.
        num_records: states to record of each lane; static.
        first: number of the first transition, at least 0: the same key continues a chain.
        thin: transitions a record, at least 1; may be traced.
        burst: ticks between two looks for lanes that have ended, at least 1; may be traced. A look costs all lanes the
            noise of a new transition: one tick to a look suits dear densities, many suit cheap ones, and `LOCKSTEP`
            looks when all have ended.

    Returns:
        The last states, the records, and the ticks it took: batched density evaluations.
    """
    lanes = jnp.arange(states.position.shape[0])
    wanted = jnp.asarray(num_records * thin, jnp.int32)
    begin = jax.vmap(lambda key, n, state: kernel.begin(jax.random.fold_in(key, n), state, density, params))
    tick = jax.vmap(lambda machine: kernel.tick(machine, density, params))

    def running(carry: tuple[Any, Array]) -> Array:
        machines, ticks = carry
        return (ticks < burst) & ~jnp.all(machines.finished)

    def once(carry: tuple[Any, Array]) -> tuple[Any, Array]:
        machines, ticks = carry
        return _select(machines.finished, machines, tick(machines)), ticks + 1

    def unfinished(carry: tuple[Any, ...]) -> Array:
        return jnp.any(carry[1] < wanted)

    def look(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        machines, count, sums, trace, total = carry
        machines, ticks = jax.lax.while_loop(running, once, (machines, jnp.zeros((), jnp.int32)))
        ended = machines.finished & (count < wanted)
        states, info = jax.vmap(kernel.end)(machines)
        sums = jax.tree.map(lambda total, new: total + jnp.where(ended, new, 0), sums, _counted(info))
        count = count + ended
        full = ended & (count % thin == 0)
        # A lane with nothing to record writes past the end, where it is dropped.
        row = jnp.where(full, count // thin - 1, num_records)
        record = Trace(states.position, *sums, info.num_evals)
        trace = jax.tree.map(lambda rows, new: rows.at[row, lanes].set(new, mode="drop"), trace, record)
        sums = jax.tree.map(lambda total: jnp.where(full, 0, total), sums)
        machines = _select(ended & (count < wanted), begin(keys, first + count, states), machines)
        return machines, count, sums, trace, total + ticks

    count = jnp.zeros(lanes.shape, jnp.int32)
    machines = begin(keys, first + count, states)
    sums = _no_sums(lanes.shape)
    blank = jax.tree.map(
        lambda leaf: jnp.zeros((num_records, *leaf.shape), leaf.dtype), Trace(states.position, *sums, count)
    )
    carry = (machines, count, sums, blank, jnp.zeros((), jnp.int32))
    machines, _, _, trace, ticks = jax.lax.while_loop(unfinished, look, carry)
    return jax.vmap(kernel.end)(machines)[0], _averaged(trace, thin), ticks


def lockstep(
    keys: Key[Array, " lanes"],
    states: KernelState,
    density: TemperedDensity,
    kernel: Kernel,
    params: PyTree[Any],
    num_records: int,
    *,
    share_key: KeyArray | None = None,
    first: Int[Array, ""] | int = 0,
    thin: Int[Array, ""] | int = 1,
) -> tuple[KernelState, Trace, Count]:
    """As `flat`, for a kernel of any kind: all lanes take a transition together, then the next.

    Args:
        share_key: what lanes share in transition i is drawn from ``fold_in(share_key, i)``; ``None`` for a kernel
            that shares nothing.

    Returns:
        As `flat`; a transition takes as many ticks as its slowest lane has evaluations.
    """
    step = jax.vmap(
        lambda key, n, state, params: kernel.step(jax.random.fold_in(key, n), state, density, params),
        in_axes=(0, None, 0, None),
    )

    def once(done: Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        states, sums, _, ticks = carry
        number = first + done
        shared = params if share_key is None else kernel.share(jax.random.fold_in(share_key, number), params)
        states, info = step(keys, number, states, shared)
        return states, jax.tree.map(jnp.add, sums, _counted(info)), info.num_evals, ticks + jnp.max(info.num_evals)

    def record(carry: tuple[KernelState, Count], index: Array) -> tuple[tuple[KernelState, Count], Trace]:
        states, ticks = carry
        start = (states, _no_sums(keys.shape), jnp.zeros(keys.shape, jnp.int32), ticks)
        states, sums, last, ticks = jax.lax.fori_loop(index * thin, (index + 1) * thin, once, start)
        return (states, ticks), Trace(states.position, *sums, last)

    (states, ticks), trace = jax.lax.scan(record, (states, jnp.zeros((), jnp.int32)), jnp.arange(num_records))
    return states, _averaged(trace, thin), ticks


def _no_sums(shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    zero = jnp.zeros(shape, jnp.int32)
    return jnp.zeros(shape, jnp.result_type(float)), zero, zero


def _counted(info: Any) -> tuple[Array, Array, Array]:
    return info.acceptance, info.num_evals, info.cap_reached


def _averaged(trace: Trace, thin: Array | int) -> Trace:
    return eqx.tree_at(lambda t: t.acceptance, trace, trace.acceptance / thin)


def _select(condition: Array, on_true: PyTree[Any], on_false: PyTree[Any]) -> PyTree[Any]:
    """Lane by lane ``on_true`` where the condition holds."""
    return jax.vmap(lambda flag, new, old: jax.tree.map(lambda a, b: jnp.where(flag, a, b), new, old))(
        condition, on_true, on_false
    )
