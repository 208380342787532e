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
from smcinfer.core.state import shard_state
from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Count, Flag, PyTree
from smcinfer.ground.errors import ArgumentError, surfacing
from smcinfer.ground.keys import small
from smcinfer.ground.memory import batch_that_fits, refuse_program_that_cannot_fit, refuse_what_cannot_fit, size_of
from smcinfer.ground.programs import compiled, executable
from smcinfer.results.finished import Run
from smcinfer.run.checkpoint import Checkpoint, Saved, Shape, joined, program_digest
from smcinfer.run.rows import Rows
from smcinfer.run.watch import compile_clock, watching

CHUNKS_PER_RUN = 20
ADAPTIVE_CHUNK = 16
# Families cannot report a relative variance much above one, however large it is: above this they are too few to tell.
SATURATED = 0.5


# Within one program each is traced once, however often it is asked for.
_init, _step = compiled(smc.init), compiled(smc.step)


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
    particle_batch: int | None = None,
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
        particle_batch: particles of each run that likelihoods, moves and networks take at a time: a program holds what
            they compute for so many only. The numbers are those of all at once, to rounding. Where ``None``, all that fit into
            the memory that is free.
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
    settings = Settings(num_particles, resampling, below, history, lag, islands, mesh, particle_batch)
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
    if model.on_host:
        validate.not_given("a model on the host", particle_batch=particle_batch)
    if model.on_host and mesh is not None:
        raise ArgumentError("a model on the host cannot be shared by devices", expected="devices=None", got=devices)
    if model.on_host and model.led:
        raise ArgumentError("a model on the host cannot be led", expected="led is False", got=type(model).__name__)
    # Over several devices a draw must be seen through, to be made where it is wanted.
    key = small(as_typed_key(key)) if mesh is None else as_typed_key(key)
    keys = jax.random.split(key, num_runs + model.led)
    capacity = chunk_steps or _capacity(model, progress or checkpoint is not None)
    started = time.perf_counter()
    with surfacing(), compile_clock() as compiling:
        store = Checkpoint.open(checkpoint, pause, lambda: _shape(model, settings, keys))
        with watching(progress, description or model.plan.label, store, compiling) as watch:
            unborn = _unborn(keys, model, settings, capacity)
            settings = _fitted(unborn, keys, model, settings, capacity)
            t, state, records = store.load_or(lambda: Saved(0, unborn, []))
            over = bool(records) and _over(t, state, model)
            while not over:
                count = min(watch.length(), capacity, model.num_steps - t)
                state, record = _advance(t, state, keys, model, settings, capacity, count, start=not records)
                records.append(record)
                t += count
                over = _over(t, state, model)
                if watch.on:
                    watch.look(*_glance(t, state, model), count, Saved(t, state, records), over=over)
        result = collect(t, state, records, model, settings)
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


def _unborn(keys: Array, model: FeynmanKac, settings: Settings, capacity: int) -> smc.SMCState | None:
    """Zeros in the shape of a state, for the first chunk to overwrite; ``None`` for a model on the host."""
    if model.on_host:
        return None
    state, record = eqx.filter_eval_shape(_init, keys, model, settings)
    refuse_what_cannot_fit(_population(keys, settings), size_of(state) + capacity * size_of(record))

    def zeros(shape: jax.ShapeDtypeStruct) -> Any:
        if not jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            return np.zeros(shape.shape, shape.dtype)
        words = jax.eval_shape(jax.random.key_data, shape)
        return jax.random.wrap_key_data(jnp.asarray(np.zeros(words.shape, words.dtype)), impl=jax.random.key_impl(keys))

    make = lambda: jax.tree.map(zeros, state)  # noqa: E731
    return make() if settings.mesh is None else jax.jit(lambda: shard_state(make(), settings))()


def _fitted(unborn: smc.SMCState | None, keys: Array, model: FeynmanKac, settings: Settings, capacity: int) -> Settings:
    """The settings with slices of the population, where they say nothing of slices, that fit into memory.

    Raises:
        ArgumentError: not even one particle at a time fits, or the slices that were asked for do not.
    """
    if unborn is None:
        return settings
    one = jnp.ones((), jnp.int32)

    @functools.cache
    def program(batch: int | None) -> Any:
        sized = dataclasses.replace(settings, particle_batch=batch)
        return executable(_steps, one, one, jnp.asarray(True), unborn, keys, model, sized, capacity)

    batch, size = settings.particle_batch, settings.num_particles
    hint = "" if batch is None else "particle_batch=None, which looks for slices that fit; "
    if batch is None and settings.mesh is None:
        batch = batch_that_fits(size, program)
    what = _population(keys, settings) + ("" if batch is None else f", {batch} of them at a time,")
    refuse_program_that_cannot_fit(what, size, program(batch), hint=hint)
    return dataclasses.replace(settings, particle_batch=batch)


def _population(keys: Array, settings: Settings) -> str:
    return f"a population of {settings.num_particles} particles in {keys.shape[0]} runs"


def _advance(
    t: int,
    state: Any,
    keys: Array,
    model: FeynmanKac,
    settings: Settings,
    capacity: int,
    count: int,
    *,
    start: bool,
) -> tuple[smc.SMCState, smc.Record]:
    """The state ``count`` steps after step ``t``, and their records on the host; with ``start``, that of step 0 too."""
    if not model.on_host:
        after, most = jnp.asarray(t, jnp.int32), jnp.asarray(count, jnp.int32)
        state, rows = _steps(after, most, jnp.asarray(start), state, keys, model, settings, capacity)
        return state, rows.record(_to_host(rows.arrays), slice(1 - start, 1 + count))
    state, first = smc.init(keys, model, settings) if start else (state, None)
    parts = [jax.tree.map(lambda leaf: leaf[:, None], _to_host(first))] * start
    if count:
        state, record = smc.scan(jnp.asarray(t + 1, jnp.int32), state, model, settings, count)
        parts.append(_to_host(record))
    return state, joined(parts)


@compiled
def _steps(
    t: Count,
    count: Count,
    start: Flag,
    state: smc.SMCState,
    keys: Array,
    model: FeynmanKac,
    settings: Settings,
    capacity: int,
) -> tuple[smc.SMCState, Rows]:
    """The start where it is asked for, and at most ``count`` steps after step ``t``, fewer where every run is done.

    Returns:
        The state, and records: the start's, whose row is else blank, and those of the steps, of which there are ``capacity``
        at most.
    """

    def once(carry: tuple[Count, smc.SMCState, Rows]) -> tuple[Count, smc.SMCState, Rows]:
        taken, state, rows = carry
        state, record = _step(t + taken, state, model, settings)
        return taken + 1, state, rows.put(record, taken)

    def more(carry: tuple[Count, smc.SMCState, Rows]) -> Flag:
        taken, state, _ = carry
        return (taken <= count) & (True if model.fixed_horizon else ~jnp.all(state.done))

    def born(state: smc.SMCState, rows: Rows) -> tuple[smc.SMCState, Rows]:
        state, record = _init(keys, model, settings)
        return state, rows.put(record, 0)

    rows = Rows.room(jax.eval_shape(lambda state: _step(t, state, model, settings)[1], state), capacity + 1)
    state, rows = jax.lax.cond(start, born, lambda *given: given, state, rows)
    _, state, rows = jax.lax.while_loop(more, once, (jnp.ones((), jnp.int32), state, rows))
    return state, rows


def _shape(model: FeynmanKac, settings: Settings, keys: Array) -> Shape:
    """What a checkpoint of this run holds."""
    state, record = eqx.filter_eval_shape(smc.init, keys, model, settings)
    # How many particles at a time is a matter of the machine that takes the run on.
    settings = dataclasses.replace(settings, particle_batch=None)
    identity = program_digest(
        (settings, model.num_steps),
        lambda state, model: smc.step(jnp.ones((), jnp.int32), state, model, settings),
        (state, model),
        [*jax.tree.leaves(eqx.filter(model, eqx.is_array)), keys],
    )
    return Shape(identity, state, record)


def _to_host(tree: PyTree[Any]) -> PyTree[Any]:
    """Arrays as numpy ones, whole on every process; random keys stay what they are."""
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda leaf: leaf if is_key(leaf) else np.asarray(leaf), _whole(tree))


def _whole(tree: PyTree[Any]) -> PyTree[Any]:
    """Arrays whole on every process: what several processes share is gathered, the rest is left alone."""

    def fetch(leaf: Any) -> Any:
        here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated
        return leaf if here else multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(fetch, tree)


def _over(t: int, state: smc.SMCState, model: FeynmanKac) -> bool:
    if t >= model.num_steps:
        return True
    return not model.fixed_horizon and bool(_to_host(state.done).all())


def _standing(t: Count, state: smc.SMCState, model: FeynmanKac) -> tuple[Array, Array]:
    """Of every run, the fraction that is done after step t, and whether it would be unfinished if it ended here."""
    one = lambda shared, _: (model.progress(t, shared), model.unfinished(shared))  # noqa: E731
    return jax.vmap(one)(state.shared, state.num_steps)


_look = compiled(_standing)


def _asked(t: int, state: smc.SMCState, model: FeynmanKac) -> tuple[np.ndarray, np.ndarray]:
    """`_standing` on the host, from one small program."""
    return _to_host((_standing if model.on_host else _look)(jnp.asarray(t, jnp.int32), state, model))


def _glance(t: int, state: smc.SMCState, model: FeynmanKac) -> tuple[float, str]:
    """Fraction done and a few words, for the progress bar."""
    fraction, _ = _asked(t, state, model)
    size, log_z = _to_host((state.ess, state.log_z))
    return float(fraction.min()), f"step {t}  ESS {size.min():.0f}  log Z {log_z.mean():.2f}"


_without_leader = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf[1:], tree))


def collect(t: int, state: smc.SMCState, records: list[smc.Record], model: FeynmanKac, settings: Settings) -> Run:
    """Everything a finished run is asked for, with what only the end can tell about its status.

    Args:
        t: the last step.
        state: after it.
        records: the history in parts, empty dicts where none was kept.
        model, settings: of the run.
    """
    unfinished = _asked(t, state, model)[1]
    particles = _without_leader(state.population.particles) if model.led else state.population.particles
    rest = _to_host(eqx.tree_at(lambda tree: tree.population.particles, state, None))
    history = joined(records)
    if model.led:
        rest, history, unfinished = jax.tree.map(lambda leaf: leaf[1:], (rest, history, unfinished))
    log_weights, num_ancestors = rest.population.log_weights, model.num_ancestors(settings.num_particles)
    families = [jax.tree.map(lambda leaf, run=run: leaf[run], rest.lineage) for run in range(len(log_weights))]
    spread = [lineage.variances(*pair, num_ancestors) for pair in zip(families, log_weights, strict=True)]
    variance, eve = np.asarray(spread, log_weights.dtype).T
    shares = jax.vmap(model.family_shares, axis_size=len(log_weights))(rest.shared)
    if shares is not None:
        pairs = zip(families, np.asarray(shares), strict=True)
        variance = np.asarray([lineage.variance_of_shares(*pair) for pair in pairs], log_weights.dtype)
    roots = np.asarray([lineage.num_roots(family) for family in families], np.int32)
    status = rest.status.copy()
    status[unfinished] |= int(Status.SCHEDULE_UNFINISHED)
    spent = roots <= settings.islands if settings.lag == 0 and shares is None else variance > SATURATED
    status[spent & (settings.num_particles > 1)] |= int(Status.GENEALOGY_COALESCED)
    return Run(
        particles=_whole(particles),
        log_weights=log_weights,
        log_z=rest.log_z + rest.log_z_error,
        log_z_variance=variance,
        eve_variance=eve,
        num_roots=roots,
        num_steps=rest.num_steps,
        status=status,
        history=jax.tree.map(lambda leaf: leaf[:, : int(rest.num_steps.max()) + 1], history),
        shared=rest.shared,
        seconds=0.0,
        compile_seconds=0.0,
    )
