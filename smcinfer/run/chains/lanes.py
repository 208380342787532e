r"""Many transitions of many chains: in step, or each chain at its own pace.

Under ``vmap`` a transition of varying cost takes as long as its slowest lane, every time:

.. math:: \text{ticks}_{\text{in step}} = \sum_{i=1}^{K} \max_\ell c_{\ell i}, \qquad
    \text{ticks}_{\text{own pace}} = \max_\ell \sum_{i=1}^{K} c_{\ell i}

with :math:`c_{\ell i}` the evaluations of lane l in its transition i. At their own pace all lanes run tick by tick, and a
lane's next transition starts as soon as it has ended one; what luck made slow in one transition evens out over K.
Each lane ends after K *transitions*: stopping all at one tick instead would favour what is quick to reach, and
bias every figure.

Transition i of a lane draws from ``fold_in(lane's key, i)`` whatever the pace. Lanes may be stopped and taken up again
anywhere, so the draws depend neither on the pace nor on the clock by a single bit.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Bool, Count, Int, Key, KeyArray, PyTree
from smcinfer.run.chains.sampler import Info, Paced, Sampler


class Lanes(eqx.Module):
    """Chains somewhere in a segment of their way.

    Attributes:
        states: where they are, leading axis lanes; machines under way where each has its own pace.
        count: Int["lanes"], transitions that each has ended in this segment.
        sums: what they did since their last record.
        rows: records, leading axes (capacity, lanes); those not yet reached hold nothing of meaning.
        ticks: Int[""], batched evaluations so far.
    """

    states: PyTree[Any]
    count: Int[Array, " lanes"]
    sums: Info
    rows: dict[str, Any]
    ticks: Count


class Course(NamedTuple):
    """What every lane has to do in a segment; all traced, so that one program serves every segment.

    Attributes:
        first: Int[""], number of the first transition.
        wanted: Int[""], transitions of each lane.
        thin: Int[""], transitions a record.
        pace: Int[""], evaluations between two looks for lanes that have ended a transition. A look costs all lanes the
            noise of a new transition: one tick to a look suits dear densities, many suit cheap ones.
    """

    first: Count
    wanted: Count
    thin: Count
    pace: Count


Keys = Key[Array, " lanes"]


def set_out(
    sampler: Sampler, keys: Keys, states: PyTree[Any], params: PyTree[Any], first: Count, capacity: int
) -> Lanes:
    """Lanes at the start of a segment, with room for its records.

    Args:
        sampler: the chain.
        keys: Key["lanes"], one a lane; every transition folds its number in.
        states: where the chains are, leading axis lanes.
        params: of the sampler in this segment.
        first: Int[""], number of the segment's first transition.
        capacity: the most records that any segment keeps.
    """
    if isinstance(sampler, Paced):
        states = _opened(sampler, keys, jnp.broadcast_to(first, keys.shape), states, params)
        look = lambda states: jax.vmap(sampler.close)(states)  # noqa: E731
    else:
        look = lambda states: _stepped(sampler, keys, first, states, sampler.share(keys[0], params))  # noqa: E731
    ended, info = jax.eval_shape(look, states)
    record = jax.eval_shape(jax.vmap(sampler.record), ended, info)
    rows = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), record | info)
    count = jnp.zeros(keys.shape, jnp.int32)
    return Lanes(states, count, _zeros(info), rows, jnp.zeros((), jnp.int32))


def set_out_again(
    sampler: Sampler, keys: Keys, lanes: Lanes, states: PyTree[Any], params: PyTree[Any], first: Count
) -> Lanes:
    """Lanes that have arrived, at the start of their next segment; the room for records is used again.

    Args:
        sampler: the chain.
        keys: Key["lanes"], one a lane.
        lanes: as they arrived.
        states: where the chains are, leading axis lanes.
        params: of the sampler in the next segment.
        first: Int[""], number of the next segment's first transition.
    """
    if isinstance(sampler, Paced):
        states = _opened(sampler, keys, jnp.broadcast_to(first, keys.shape), states, params)
    return Lanes(states, jnp.zeros_like(lanes.count), _zeros(lanes.sums), lanes.rows, jnp.zeros_like(lanes.ticks))


def arrived(sampler: Sampler, lanes: Lanes) -> PyTree[Any]:
    """Where lanes are that have ended their segment."""
    return jax.vmap(sampler.close)(lanes.states)[0] if isinstance(sampler, Paced) else lanes.states


def advance(
    lanes: Lanes,
    sampler: Sampler,
    keys: Keys,
    share_key: KeyArray | None,
    params: PyTree[Any],
    course: Course,
    budget: Count,
) -> Lanes:
    """Take lanes on, to the end of their segment or until the budget is spent.

    Args:
        lanes: where they are.
        sampler, params: the chain, and its parameters of this segment, the same for all lanes.
        keys: one key a lane.
        share_key: what lanes share in transition i is drawn from ``fold_in(share_key, i)``; ``None`` for a chain that
            shares nothing.
        course: the segment.
        budget: Int[""], transitions of each lane, or ticks where each has its own pace; at least one.
    """
    if isinstance(sampler, Paced):
        return _own_pace(lanes, sampler, keys, params, course, budget)
    return _in_step(lanes, sampler, keys, share_key, params, course, budget)


def _in_step(
    lanes: Lanes,
    sampler: Sampler,
    keys: Keys,
    share_key: KeyArray | None,
    params: PyTree[Any],
    course: Course,
    budget: Count,
) -> Lanes:
    """All lanes take a transition together, then the next; it lasts as long as its slowest lane."""
    stop = jnp.minimum(lanes.count[0] + budget, course.wanted)

    def transition(done: Count, carry: tuple[PyTree[Any], Info, Info, Count]) -> tuple[PyTree[Any], Info, Info, Count]:
        states, sums, _, ticks = carry
        number = course.first + done
        shared = params if share_key is None else sampler.share(jax.random.fold_in(share_key, number), params)
        states, info = _stepped(sampler, keys, number, states, shared)
        return states, jax.tree.map(jnp.add, sums, info), info, ticks + jnp.max(info["num_evals"])

    def to_the_next_record(lanes: Lanes) -> Lanes:
        done = lanes.count[0]
        until = jnp.minimum(done - done % course.thin + course.thin, stop)
        start = (lanes.states, lanes.sums, _zeros(lanes.sums), lanes.ticks)
        states, sums, info, ticks = jax.lax.fori_loop(done, until, transition, start)
        # Where the budget ends between two records, what is written here is written over by the whole record.
        at = (until - 1) // course.thin
        row = jax.vmap(sampler.record)(states, info) | sums
        rows = jax.tree.map(lambda rows, new: jax.lax.dynamic_update_index_in_dim(rows, new, at, 0), lanes.rows, row)
        sums = jax.tree.map(lambda total: jnp.where(until % course.thin == 0, 0, total), sums)
        return Lanes(states, jnp.full_like(lanes.count, until), sums, rows, ticks)

    return jax.lax.while_loop(lambda lanes: lanes.count[0] < stop, to_the_next_record, lanes)


def _own_pace(lanes: Lanes, sampler: Paced, keys: Keys, params: PyTree[Any], course: Course, budget: Count) -> Lanes:
    """Each lane starts its next transition as soon as it has ended one."""
    numbers = jnp.arange(keys.shape[0])
    limit = lanes.ticks + budget

    def running(carry: tuple[Any, Array]) -> Array:
        machines, ticks = carry
        return (ticks < course.pace) & ~jnp.all(machines.finished)

    def once(carry: tuple[Any, Array]) -> tuple[Any, Array]:
        machines, ticks = carry
        ticked = jax.vmap(sampler.tick, in_axes=(0, None))(machines, params)
        return _select(machines.finished, machines, ticked), ticks + 1

    def look(lanes: Lanes) -> Lanes:
        machines, ticks = jax.lax.while_loop(running, once, (lanes.states, jnp.zeros((), jnp.int32)))
        ended = machines.finished & (lanes.count < course.wanted)
        states, info = jax.vmap(sampler.close)(machines)
        sums = jax.tree.map(lambda total, new: total + jnp.where(ended, new, 0), lanes.sums, info)
        count = lanes.count + ended
        full = ended & (count % course.thin == 0)
        record = jax.vmap(sampler.record)(states, info) | sums
        # A lane with nothing to record writes past the end, where it is dropped.
        past = jax.tree.leaves(lanes.rows)[0].shape[0]
        at = jnp.where(full, count // course.thin - 1, past)
        rows = jax.tree.map(lambda rows, new: rows.at[at, numbers].set(new, mode="drop"), lanes.rows, record)
        sums = jax.tree.map(lambda total: jnp.where(full, 0, total), sums)
        fresh = _opened(sampler, keys, course.first + count, states, params)
        machines = _select(ended & (count < course.wanted), fresh, machines)
        return Lanes(machines, count, sums, rows, lanes.ticks + ticks)

    def unfinished(lanes: Lanes) -> Array:
        return jnp.any(lanes.count < course.wanted) & (lanes.ticks < limit)

    return jax.lax.while_loop(unfinished, look, lanes)


def _stepped(
    sampler: Sampler, keys: Keys, number: Count, states: PyTree[Any], params: PyTree[Any]
) -> tuple[PyTree[Any], Info]:
    """One transition of every lane."""

    def one(key: KeyArray, state: PyTree[Any], params: PyTree[Any]) -> tuple[PyTree[Any], Info]:
        return sampler.step(jax.random.fold_in(key, number), state, params)

    return jax.vmap(one, in_axes=(0, 0, None))(keys, states, params)


def _opened(
    sampler: Paced, keys: Keys, numbers: Int[Array, " lanes"], states: PyTree[Any], params: PyTree[Any]
) -> PyTree[Any]:
    """Machines at the start of each lane's transition of that number."""

    def one(key: KeyArray, number: Count, state: PyTree[Any]) -> PyTree[Any]:
        return sampler.open(jax.random.fold_in(key, number), state, params)

    return jax.vmap(one)(keys, numbers, states)


def _zeros(tree: PyTree[Any]) -> PyTree[Any]:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def _select(condition: Bool[Array, " lanes"], on_true: PyTree[Any], on_false: PyTree[Any]) -> PyTree[Any]:
    """Lane by lane ``on_true`` where the condition holds."""
    return jax.vmap(lambda flag, new, old: jax.tree.map(lambda a, b: jnp.where(flag, a, b), new, old))(
        condition, on_true, on_false
    )
