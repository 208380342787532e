"""The loop that particle Markov chains share: rounds of warm-up that tune, then draws, in chunks on the device."""

import abc
import time
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Count, Flag, Float, Key, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.files import check_writable
from smcinfer.ground.progress import bar
from smcinfer.results.finished import Driven
from smcinfer.run.checkpoint import Checkpoint, program_digest
from smcinfer.run.runner import CHUNKS_PER_RUN, as_typed_key, compile_clock

MAX_ROUNDS = 5
"""Most rounds of warm-up; each is twice as long as the one before."""


CHECKPOINT_SECONDS = 30.0
"""Least time between two writes of a checkpoint."""


class Sampler(eqx.Module):
    """A Markov chain: how it begins, how it moves, and what is kept of it."""

    @abc.abstractmethod
    def begin(self, key: KeyArray) -> PyTree[Any]:
        """Where one chain starts."""

    @abc.abstractmethod
    def step(self, key: KeyArray, state: PyTree[Any], params: PyTree[Any]) -> tuple[PyTree[Any], Scalar]:
        """One transition of one chain, and its mean acceptance."""

    @abc.abstractmethod
    def record(self, state: PyTree[Any]) -> dict[str, PyTree[Any]]:
        """What is kept of a state; ``position``, where it is there, is what tuning looks at."""

    @abc.abstractmethod
    def tune(self, params: PyTree[Any], positions: Float[Array, "n dim"], acceptance: Scalar) -> PyTree[Any]:
        """Parameters from the positions of all chains in a round; ``params`` is ``None`` before the first."""


class Progress(eqx.Module):
    """A run between two chunks: the chains, their parameters, mean acceptance of the last chunk, transitions so far."""

    states: PyTree[Any]
    params: PyTree[Any]
    acceptance: Scalar
    done: Count


class Plan(NamedTuple):
    """Transitions made in one call: ``records`` of them are kept, one in ``thin``; the kernel is tuned after or not."""

    records: int
    thin: int
    tuning: bool


def drive(
    key: Any,
    sampler: Sampler,
    *,
    num_chains: int,
    num_draws: int,
    num_warmup: int,
    thin: int,
    progress: bool,
    checkpoint: str | Path | None,
    description: str,
) -> Driven:
    """Run chains of a sampler side by side.

    Args:
        key: one random key; the same key gives the same chains bit for bit, resumed or not.
        sampler: the chain.
        num_chains, num_draws, num_warmup, thin: how many, how long, how long before, and transitions a draw.
        progress: draw a bar on stderr.
        checkpoint: a file to resume from and to save to, complete or not at all.
        description: label of the bar.

    Raises:
        ArgumentError: for numbers out of range. CheckpointError: for a checkpoint of another run.
    """
    least = {"num_chains": 1, "num_draws": 1, "num_warmup": 0, "thin": 1}
    for name, value in {
        "num_chains": num_chains,
        "num_draws": num_draws,
        "num_warmup": num_warmup,
        "thin": thin,
    }.items():
        if value < least[name]:
            raise ArgumentError(f"{name} is out of range", expected=f"at least {least[name]}", got=value)
    keys = jax.random.split(as_typed_key(key), num_chains)
    chunks = _plan(num_draws, num_warmup, thin)
    started = time.perf_counter()
    with compile_clock() as compiling, bar(progress, description) as report:
        store = _store(checkpoint, sampler, keys, chunks)
        done, state, records = store.load_or(lambda: (0, _begin(sampler, keys), []))
        for number in range(done, len(chunks)):
            chunk = chunks[number]
            state, record = _run_chunk(state, sampler, keys, *_traced(chunk), chunk.records)
            if not chunk.tuning:
                records.append(_to_host(record))
            phase = "warm-up" if chunk.tuning else "draws"
            report((number + 1) / len(chunks), f"{phase}  acceptance {float(state.acceptance):.2f}")
            if records:
                store.save(number + 1, state, records, final=number + 1 == len(chunks))
        joined = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *records)
    return Driven(joined, state, time.perf_counter() - started, compiling[0])


def _to_host(record: dict[str, Any]) -> dict[str, Any]:
    return jax.tree.map(np.asarray, record)


def _plan(num_draws: int, num_warmup: int, thin: int) -> list[Plan]:
    """Rounds of warm-up, each twice as long as the one before, then equal chunks of draws.

    All keep equally many records, and differ in thinning alone, so that one program serves them all; a warm-up shorter
    than a chunk is one round with a program of its own.
    """
    chunks = max(n for n in range(1, CHUNKS_PER_RUN + 1) if num_draws % n == 0)
    size = num_draws // chunks
    draws = [Plan(size, thin, False)] * chunks
    if num_warmup < size:
        return [Plan(num_warmup, 1, True)] * (num_warmup > 0) + draws
    rounds = min(MAX_ROUNDS, (num_warmup // size + 1).bit_length() - 1)
    thins = [2**number for number in range(rounds)]
    thins[-1] += num_warmup // size - sum(thins)
    return [Plan(size, each, True) for each in thins] + draws


@eqx.filter_jit
def _begin(sampler: Sampler, keys: Key[Array, " chains"]) -> Progress:
    states = jax.vmap(lambda key: sampler.begin(jax.random.fold_in(key, 0)))(keys)
    nothing = jnp.asarray(jnp.nan, jnp.result_type(float))
    return Progress(states, _tuned(sampler, None, states, nothing), nothing, jnp.zeros((), jnp.int32))


def _tuned(sampler: Sampler, params: PyTree[Any], states: PyTree[Any], acceptance: Scalar) -> PyTree[Any]:
    positions = jax.vmap(sampler.record)(states).get("position")
    return params if positions is None else sampler.tune(params, positions, acceptance)


@eqx.filter_jit
def _run_chunk(
    progress: Progress,
    sampler: Sampler,
    keys: Key[Array, " chains"],
    thin: Count,
    tuning: Flag,
    num_records: int,
) -> tuple[Progress, dict[str, Any]]:
    """One chunk of every chain, and the tuning after it where it is asked for."""
    dtype = jnp.result_type(float)

    def transition(number: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
        states, total = carry
        lanes = jax.vmap(lambda key: jax.random.fold_in(key, number + 1))(keys)
        states, acceptance = jax.vmap(lambda key, state: sampler.step(key, state, progress.params))(lanes, states)
        return states, total + acceptance.astype(dtype)

    def one(carry: tuple[Any, Array], _: None) -> tuple[tuple[Any, Array], dict[str, Any]]:
        states, done = carry
        start = (states, jnp.zeros(keys.shape, dtype))
        states, total = jax.lax.fori_loop(done, done + thin, transition, start)
        kept = jax.vmap(sampler.record)(states)
        return (states, done + thin), kept | {"acceptance": total / thin}

    (states, done), records = jax.lax.scan(one, (progress.states, progress.done), None, length=num_records)
    records = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), records)
    acceptance = jnp.mean(records["acceptance"])
    params = progress.params
    if "position" in records:
        positions = records["position"].reshape(-1, records["position"].shape[-1])
        tuned = sampler.tune(params, positions, acceptance)
        params = jax.tree.map(lambda new, old: jnp.where(tuning, new, old), tuned, params)
    return Progress(states, params, acceptance, done), records


def _store(path: str | Path | None, sampler: Sampler, keys: Array, chunks: list[Plan]) -> Checkpoint:
    """Where the run keeps itself between chunks of draws; does nothing without a path."""
    if path is None:
        return Checkpoint(None, "", None, 0.0)
    check_writable(Path(path))
    template = eqx.filter_eval_shape(_begin, sampler, keys)
    last = chunks[-1]

    def program(progress: Progress, sampler: Sampler, keys: Array, thin: Count, tuning: Flag) -> Any:
        return _run_chunk(progress, sampler, keys, thin, tuning, last.records)

    arguments = (template, sampler, keys, *_traced(last))
    record = eqx.filter_eval_shape(program, *arguments)[1]
    record = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[:1] + leaf.shape[2:], leaf.dtype), record)
    arrays = [*jax.tree.leaves(eqx.filter(sampler, eqx.is_array)), keys]
    identity = program_digest(("particle_mcmc", chunks), program, arguments, arrays)
    return Checkpoint(Path(path), identity, (template, record), CHECKPOINT_SECONDS, jax.random.key_impl(keys))


def _traced(chunk: Plan) -> tuple[Count, Flag]:
    """What differs between chunks of one program."""
    return jnp.asarray(chunk.thin, jnp.int32), jnp.asarray(chunk.tuning)
