"""The host loop around the compiled step: chunks, progress, checkpoints, and the finished run.

Between chunks the host looks at a few scalars; inside a chunk nothing leaves the device. The number of steps of a chunk is an
argument of one compiled program: the clock may choose it, and a run that was stopped and resumed still ends bit for bit where
it would have ended.
"""

import dataclasses
import functools
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from smcinfer.core import lineage, smc
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.core.settings import PARTICLES, Settings
from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Count, Flag, PyTree
from smcinfer.ground.errors import ArgumentError, surfacing
from smcinfer.ground.memory import refuse_what_cannot_fit, size_of
from smcinfer.results.finished import Run
from smcinfer.run.checkpoint import Checkpoint, Saved, Shape, joined, program_digest
from smcinfer.run.watch import compile_clock, watching

CHUNKS_PER_RUN = 20
ADAPTIVE_CHUNK = 16
# Families cannot report a relative variance much above one, however large it is: above this they are too few to tell.
SATURATED = 0.5


_init = eqx.filter_jit(smc.init)


@functools.partial(eqx.filter_jit)
def _finish(state: smc.SMCState, num_ancestors: int) -> tuple[Array, Array, Array]:
    """Variances and roots of every run."""

    def one(family: lineage.Lineage, log_weights: Array) -> tuple[Array, Array, Array]:
        return *lineage.variances(family, log_weights, num_ancestors), lineage.num_roots(family)

    return jax.vmap(one)(state.lineage, state.population.log_weights)


def as_typed_key(key: Any) -> Array:
    """A typed key from a typed or an old-style (uint32) one; a clear error for anything else."""
    if isinstance(key, int) or not hasattr(key, "dtype"):
        raise ArgumentError("key is not a random key", expected="jax.random.key(seed)", got=repr(key))
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        typed = key
    elif key.dtype == jnp.uint32:
        typed = jax.random.wrap_key_data(key)
    else:
        raise ArgumentError("key is not a random key", expected="jax.random.key(seed)", got=f"dtype {key.dtype}")
    if typed.shape != ():
        raise ArgumentError("one key is wanted", expected="shape ()", got=f"shape {typed.shape}")
    return typed


def run(
    key: Any,
    model: FeynmanKac,
    num_particles: int,
    *,
    num_runs: int = 1,
    resampling: str = "systematic",
    resample_below: float | None = None,
    history: str = "scalars",
    lag: int = 0,
    islands: int = 1,
    devices: Sequence[Any] | None = None,
    progress: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    chunk_steps: int | None = None,
    description: str | None = None,
) -> Run:
    """Run a Feynman-Kac model to its end.

    Args:
        key: one random key; the same key gives the same result bit for bit, resumed or not.
        model: a `FeynmanKac`.
        num_particles: particles of each run.
        num_runs: independent runs, mapped over in one program: the chains in ArviZ, the replicates of log Z. A led model
            takes one run more, which is not among the results.
        resampling, history, lag, islands: see `Settings`; a lag of 0 counts families from t = 0, which is cheap and noisy on
            long runs (`smcinfer.sample` takes the lag of the model's plan).
        resample_below: as in `Settings`; what the model's plan says where ``None``.
        devices: share the particles of every run among these (`jax.devices()`, of all processes where JAX's distributed
            runtime was started); resampling is global, or stays on each device with ``islands``.
        progress: draw a bar on stderr.
        checkpoint: a file. Where it exists the run resumes from it (and must be the same run); it is written now and then,
            at the end, and after Ctrl-C, complete or not at all.
        checkpoint_seconds: the least time from one writing to the next, seconds.
        chunk_steps: most steps between two looks of the host; chosen from the horizon where ``None``.
        description: the label of the progress bar; what the model's plan says where ``None``.

    Returns:
        The finished `Run`.

    Raises:
        ArgumentError: for settings out of range, before any work.
        CheckpointError: for a checkpoint that is damaged or belongs to another run.
        Interrupted: after Ctrl-C where there is a bar or a checkpoint, at the end of the step under way.
    """
    num_runs = validate.count("num_runs", num_runs)
    progress = validate.flag("progress", progress)
    pause = validate.seconds("checkpoint_seconds", checkpoint_seconds)
    mesh, below = _mesh(devices), model.plan.threshold(resample_below)
    settings = Settings(num_particles, resampling, below, history, lag, islands, mesh)
    model.num_ancestors(num_particles)  # raises if the population cannot be split
    if model.on_host and not model.fixed_horizon:
        raise ArgumentError(
            "a model on the host must have a fixed horizon", expected="fixed_horizon", got=type(model).__name__
        )
    if model.on_host and checkpoint is not None:
        raise ArgumentError(
            "a model on the host cannot be checkpointed",
            expected="checkpoint=None",
            got=checkpoint,
            hint="what it computes outside JAX is not in the state",
        )
    if model.on_host and mesh is not None:
        raise ArgumentError("a model on the host cannot be shared by devices", expected="devices=None", got=devices)
    if model.on_host and model.led:
        raise ArgumentError("a model on the host cannot be led", expected="led is False", got=type(model).__name__)
    keys = jax.random.split(as_typed_key(key), num_runs + model.led)
    capacity = chunk_steps or _capacity(model, progress or checkpoint is not None)
    started = time.perf_counter()
    with surfacing(), compile_clock() as compiling:
        store = Checkpoint.open(checkpoint, pause, lambda: _shape(model, settings, keys))
        with watching(progress, description or model.plan.label, store, compiling) as watch:
            t, state, records = store.load_or(lambda: _start(keys, model, settings, capacity))
            over = _over(t, state, model)
            while not over:
                count = min(watch.length(), capacity, model.num_steps - t)
                state, record = _advance(t + 1, state, model, settings, capacity, count)
                records.append(record)
                t += count
                over = _over(t, state, model)
                if watch.on:
                    watch.look(*_glance(t, state, model), count, Saved(t, state, records), over=over)
        result = collect(state, records, model, settings)
    return dataclasses.replace(result, seconds=time.perf_counter() - started, compile_seconds=compiling[0])


def _mesh(devices: Any) -> Mesh | None:
    """The devices in a row, as a mesh that particles are laid over."""
    if devices is None:
        return None
    listed = [] if isinstance(devices, str) or not isinstance(devices, Iterable) else list(devices)
    if not listed or not all(isinstance(one, jax.Device) for one in listed) or len(set(listed)) < len(listed):
        raise ArgumentError(
            "devices are no list of devices", expected="distinct devices, jax.devices() say, or None", got=repr(devices)
        )
    return Mesh(np.asarray(listed), (PARTICLES,))


def _capacity(model: FeynmanKac, watched: bool) -> int:
    """Most steps between two looks: the whole horizon where nobody looks, a part where its length is not known."""
    if not model.fixed_horizon:
        return min(ADAPTIVE_CHUNK, model.num_steps)
    return max(1, -(-model.num_steps // CHUNKS_PER_RUN)) if watched else max(1, model.num_steps)


def _start(keys: Array, model: FeynmanKac, settings: Settings, capacity: int) -> Saved:
    if not model.on_host:
        # Traced once: the call below finds the program that this one looked at.
        state, record = eqx.filter_eval_shape(_init, keys, model, settings)
        needed = size_of(state) + capacity * size_of(record)
        refuse_what_cannot_fit(f"a population of {settings.num_particles} particles in {keys.shape[0]} runs", needed)
    state, record = (smc.init if model.on_host else _init)(keys, model, settings)
    return Saved(0, state, [jax.tree.map(lambda leaf: leaf[:, None], _to_host(record))])


def _advance(
    t: int, state: smc.SMCState, model: FeynmanKac, settings: Settings, capacity: int, count: int
) -> tuple[smc.SMCState, smc.Record]:
    """``count`` steps from step ``t`` on, and their records on the host."""
    first = jnp.asarray(t, jnp.int32)
    if model.on_host:
        state, record = smc.scan(first, state, model, settings, count)
    else:
        state, record = _steps(first, state, model, settings, capacity, jnp.asarray(count, jnp.int32))
    return state, jax.tree.map(lambda leaf: leaf[:, :count], _to_host(record))


@eqx.filter_jit
def _steps(
    t: Count, state: smc.SMCState, model: FeynmanKac, settings: Settings, capacity: int, count: Count
) -> tuple[smc.SMCState, smc.Record]:
    """At most ``count`` steps, fewer where every run is done; their records, on axis 1, have room for ``capacity``."""

    def once(carry: tuple[Count, smc.SMCState, smc.Record]) -> tuple[Count, smc.SMCState, smc.Record]:
        taken, state, rows = carry
        state, record = smc.step(t + taken, state, model, settings)
        put = lambda rows, row: jax.lax.dynamic_update_index_in_dim(rows, row, taken, 0)  # noqa: E731
        return taken + 1, state, jax.tree.map(put, rows, record)

    def more(carry: tuple[Count, smc.SMCState, smc.Record]) -> Flag:
        taken, state, _ = carry
        return (taken < count) & (True if model.fixed_horizon else ~jnp.all(state.done))

    shapes = jax.eval_shape(lambda state: smc.step(t, state, model, settings)[1], state)
    rows = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)
    _, state, rows = jax.lax.while_loop(more, once, (jnp.zeros((), jnp.int32), state, rows))
    return state, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), rows)


def _shape(model: FeynmanKac, settings: Settings, keys: Array) -> Shape:
    """What a checkpoint of this run holds."""
    state, record = eqx.filter_eval_shape(smc.init, keys, model, settings)
    identity = program_digest(
        (settings, model.num_steps),
        lambda state, model: smc.step(jnp.ones((), jnp.int32), state, model, settings),
        (state, model),
        [*jax.tree.leaves(eqx.filter(model, eqx.is_array)), keys],
    )
    return Shape(identity, state, record)


def _to_host(record: smc.Record) -> smc.Record:
    return jax.tree.map(np.asarray, _whole(record))


def _whole(tree: PyTree[Any]) -> PyTree[Any]:
    """Arrays whole on every process: what several processes share is gathered, the rest is left alone."""

    def fetch(leaf: Any) -> Any:
        here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated
        return leaf if here else multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(fetch, tree)


def _over(t: int, state: smc.SMCState, model: FeynmanKac) -> bool:
    if t >= model.num_steps:
        return True
    return not model.fixed_horizon and bool(jnp.all(state.done))


def _glance(t: int, state: smc.SMCState, model: FeynmanKac) -> tuple[float, str]:
    """Fraction done and a few words, for the progress bar."""
    step = jnp.asarray(t)
    fraction = float(jnp.min(jax.vmap(lambda shared, _: model.progress(step, shared))(state.shared, state.num_steps)))
    size = float(jnp.min(state.ess))
    return fraction, f"step {t}  ESS {size:.0f}  log Z {float(jnp.mean(state.log_z)):.2f}"


def collect(state: smc.SMCState, records: list[smc.Record], model: FeynmanKac, settings: Settings) -> Run:
    """Everything a finished run is asked for, with what only the end can tell about its status.

    Args:
        state: after the last step.
        records: the history in parts, empty dicts where none was kept.
        model, settings: of the run.
    """
    if model.led:
        state, records = jax.tree.map(lambda leaf: leaf[1:], (state, records))
    variance, eve, roots = _finish(state, model.num_ancestors(settings.num_particles))
    state = _whole(eqx.tree_at(lambda tree: tree.lineage, state, None))
    steps = int(jnp.max(state.num_steps))
    history = jax.tree.map(lambda leaf: leaf[:, : steps + 1], joined(records))
    status = np.asarray(state.status).copy()
    unfinished = jax.vmap(lambda shared, _: model.unfinished(shared))(state.shared, state.num_steps)
    status[np.asarray(unfinished)] |= int(Status.SCHEDULE_UNFINISHED)
    spent = np.asarray(roots) <= settings.islands if settings.lag == 0 else np.asarray(variance) > SATURATED
    status[spent & (settings.num_particles > 1)] |= int(Status.GENEALOGY_COALESCED)
    return Run(
        particles=state.population.particles,
        log_weights=state.population.log_weights,
        log_z=state.log_z + state.log_z_error,
        log_z_variance=variance,
        eve_variance=eve,
        num_roots=roots,
        num_steps=state.num_steps,
        status=jnp.asarray(status),
        history=history,
        shared=state.shared,
        seconds=0.0,
        compile_seconds=0.0,
    )
