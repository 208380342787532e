"""The loop of all Markov chains: rounds of warm-up that tune, then draws, with a bar, a checkpoint and Ctrl-C.

Whatever a `Sampler` is, the same key gives the same draws bit for bit, watched or not, stopped and resumed or not: what
the host decides between two chunks changes how far the compiled program runs at once, and nothing that it computes.
"""

import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Count, Key, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import surfacing
from smcinfer.ground.programs import compiled
from smcinfer.results.finished import Driven
from smcinfer.run.chains import lanes as ways
from smcinfer.run.chains.lanes import Course, Lanes
from smcinfer.run.chains.plan import Segment
from smcinfer.run.chains.sampler import Sampler
from smcinfer.run.checkpoint import Checkpoint, Saved, Shape, joined, program_digest
from smcinfer.run.runner import as_typed_key
from smcinfer.run.watch import compile_clock, watching


class Progress(eqx.Module):
    """A run between two chunks.

    Attributes:
        lanes: the chains, in the segment under way.
        params: the sampler's parameters there.
        done: Int[""], transitions of each chain before that segment.
        ticks: Float[""], batched evaluations of the draws so far.
    """

    lanes: Lanes
    params: PyTree[Any]
    done: Count
    ticks: Scalar


def drive(
    key: Any,
    sampler: Sampler,
    plan: list[Segment],
    *,
    num_chains: int,
    share_key: KeyArray | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    description: str = "chains",
) -> Driven:
    """Run chains of a sampler side by side, in one program.

    Args:
        key: one random key; the same key gives the same chains bit for bit, resumed or not.
        sampler: the chain.
        plan: segments of the way, one after the other.
        num_chains: chains.
        share_key: for what chains draw together, where the sampler does.
        progress: draw a bar on stderr.
        checkpoint: a file to resume from and to save to, complete or not at all.
        checkpoint_seconds: least time between two writes, seconds.
        description: label of the bar.

    Returns:
        `Driven`: the records of all draws, and the run's end.

    Raises:
        ArgumentError: for a file that cannot be written. CheckpointError: for a checkpoint that is damaged or of another run.
        Interrupted: after Ctrl-C where there is a bar or a checkpoint, at the end of the transition under way.
    """
    keys = jax.random.split(as_typed_key(key), num_chains)
    capacity = max(segment.records for segment in plan)
    total = sum(segment.transitions for segment in plan)
    started, draw_seconds = time.perf_counter(), 0.0
    with surfacing(), compile_clock() as compiling:
        template = lambda: eqx.filter_eval_shape(_begin, sampler, keys, capacity)  # noqa: E731
        store = Checkpoint.open(
            checkpoint, checkpoint_seconds, lambda: _shape(template(), sampler, keys, share_key, plan)
        )
        with watching(progress, description, store, compiling) as watch:
            start = lambda: Saved(0, _begin(sampler, keys, capacity), [_blank(template())])  # noqa: E731
            number, state, history = store.load_or(start)
            while number < len(plan):
                segment, before = plan[number], time.perf_counter() - compiling[0]
                state, looked = _advance(
                    state,
                    sampler,
                    keys,
                    share_key,
                    _course(segment, sampler, state),
                    jnp.asarray(watch.length(), jnp.int32),
                )
                spent, count, acceptance, ended = jax.device_get(looked)
                if ended:
                    state, rows = _close(
                        state, sampler, keys, jnp.asarray(segment.thin), segment.records, segment.tuning
                    )
                    history += [] if segment.tuning else [jax.tree.map(_by_chain, rows)]
                    number += 1
                if not segment.tuning:
                    draw_seconds += time.perf_counter() - compiling[0] - before
                if watch.on:
                    made = int(state.done) + (0 if ended else count)
                    message = f"{'warm-up' if segment.tuning else 'draws'}  acceptance {acceptance:.2f}"
                    over = number == len(plan)
                    watch.look(float(made / total), message, int(spent), Saved(number, state, history), over=over)
    records = joined(history)
    return Driven(records, state, time.perf_counter() - started, compiling[0], draw_seconds)


@compiled
def _begin(sampler: Sampler, keys: Key[Array, " chains"], capacity: int) -> Progress:
    numbers = jnp.arange(keys.shape[0], dtype=jnp.int32)
    states = jax.vmap(lambda key, number: sampler.begin(jax.random.fold_in(key, 0), number))(keys, numbers)
    params = sampler.prepare(states)
    first = jnp.asarray(sampler.first, jnp.int32)
    lanes = ways.set_out(sampler, keys, states, params, first, capacity)
    return Progress(lanes, params, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.result_type(float)))


def _course(segment: Segment, sampler: Sampler, state: Progress) -> Course:
    pace = sampler.pace(state.params, segment.tuning) if sampler.own_pace else 1
    whole = (segment.transitions, segment.thin, pace)
    return Course(state.done + sampler.first, *(jnp.asarray(each, jnp.int32) for each in whole))


@compiled
def _advance(
    state: Progress,
    sampler: Sampler,
    keys: Key[Array, " chains"],
    share_key: KeyArray | None,
    course: Course,
    budget: Count,
) -> tuple[Progress, tuple[Count, Scalar, Scalar, Array]]:
    """A part of a segment; and how much of the budget it took, transitions so far, their acceptance, whether it has ended."""
    before = state.lanes
    lanes = ways.advance(before, sampler, keys, share_key, state.params, course, budget)
    spent = lanes.ticks - before.ticks if sampler.own_pace else lanes.count[0] - before.count[0]
    # Rows not yet reached hold what was there before; a record under way is in the sums, whatever its row holds.
    whole = jnp.arange(lanes.rows["acceptance"].shape[0])[:, None] < lanes.count // course.thin
    accepted = jnp.sum(jnp.where(whole, lanes.rows["acceptance"], 0)) + jnp.sum(lanes.sums["acceptance"])
    acceptance = accepted / jnp.maximum(jnp.sum(lanes.count), 1)
    count = jnp.mean(lanes.count.astype(jnp.result_type(float)))
    ended = jnp.all(lanes.count >= course.wanted)
    return Progress(lanes, state.params, state.done, state.ticks), (spent, count, acceptance, ended)


@compiled
def _close(
    state: Progress, sampler: Sampler, keys: Key[Array, " chains"], thin: Count, num_records: int, tuning: bool
) -> tuple[Progress, dict[str, Any]]:
    """The next segment's start, the sampler tuned where it is to be, and the records of the segment that has ended."""
    rows = jax.tree.map(lambda leaf: leaf[:num_records], state.lanes.rows)
    rows = rows | {"acceptance": rows["acceptance"] / thin}
    params = sampler.tune(state.params, rows) if tuning else state.params
    ticks = state.ticks if tuning else state.ticks + state.lanes.ticks
    done = state.done + num_records * thin
    states = ways.arrived(sampler, state.lanes)
    lanes = ways.set_out_again(sampler, keys, state.lanes, states, params, done + sampler.first)
    return Progress(lanes, params, done, ticks), rows


def _by_chain(rows: Array) -> np.ndarray:
    """Records on the host, axes (chains, records, ...)."""
    return np.moveaxis(np.asarray(rows), 0, 1)


def _blank(template: Progress) -> dict[str, Any]:
    """The records of no draws yet."""
    return jax.tree.map(lambda leaf: np.zeros((leaf.shape[1], 0, *leaf.shape[2:]), leaf.dtype), template.lanes.rows)


def _shape(template: Progress, sampler: Sampler, keys: Array, share_key: KeyArray | None, plan: list[Segment]) -> Shape:
    """What a checkpoint of this run holds."""
    number: Any = jax.ShapeDtypeStruct((), jnp.int32)

    def program(state: Progress, sampler: Sampler, keys: Array, share_key: Any, course: Course, budget: Count) -> Any:
        state, _ = _advance(state, sampler, keys, share_key, course, budget)
        return _close(state, sampler, keys, course.thin, plan[0].records, plan[0].tuning)

    arguments = (template, sampler, keys, share_key, Course(number, number, number, number), number)
    arrays = [*jax.tree.leaves(eqx.filter((sampler, share_key), eqx.is_array)), keys]
    identity = program_digest((type(sampler).__name__, plan), program, arguments, arrays)
    record = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), template.lanes.rows)
    return Shape(identity, template, record)
