r"""The sequential Monte Carlo driver: one step, for every family, under jit.

.. math::
    \hat Z_t = \hat Z_{t-1} \sum_i W_{t-1}^i w_t^i, \qquad
    W_t^i \propto W_{t-1}^i w_t^i \;\text{ or }\; 1/N \text{ after resampling.}

Weights are always carried: a step that does not resample loses nothing. Several independent runs share a step:
the functions here take and return states whose leaves have a leading axis of runs, and map over it *inside* the
scan over time, so that "nobody resamples" and "everybody is done" stay plain branches on the device.

A state keeps one key, which is never used to draw: step t folds t into it, so a resumed run continues bit for bit.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core import lineage as lineages
from smcinfer.core import resampling
from smcinfer.core.feynman_kac import RUNS, FeynmanKac, Population, follow_leader
from smcinfer.core.resampling import in_islands, in_place
from smcinfer.core.settings import Settings, shard
from smcinfer.core.status import Status, raise_bit
from smcinfer.core.weights import compensated_add, normalise_and_measure
from smcinfer.ground.arrays import Array, Bool, Float, Int, Key, LogWeights, PyTree
from smcinfer.ground.errors import ArgumentError


class SMCState(eqx.Module):
    """Where runs stand after step t; every leaf has a leading axis of ``num_runs``.

    Attributes:
        key: one key a run, never drawn from directly.
        population: particles with their normalised log weights.
        ess: effective sample size of the population, particles.
        log_z, log_z_error: log of Z_hat so far and its rounding error; their sum is the estimate, nats.
        shared: what the model's ``adapt`` keeps.
        lineage: family names for the error bar, with an axis of islands.
        line: Int["num_runs islands n"], the seats of particles that are moved in place (`in_place`), in the
            order that schemes see; ``None`` where particles are small and lie in that order.
        status: Int["num_runs"], bits of `Status`.
        num_steps: Int["num_runs"], steps taken.
        done: Bool["num_runs"], whether an adaptive model has ended.
    """

    key: Key[Array, "*num_runs"]
    population: Population
    ess: Float[Array, "*num_runs"]
    log_z: Float[Array, "*num_runs"]
    log_z_error: Float[Array, "*num_runs"]
    shared: PyTree[Any]
    lineage: lineages.Lineage
    line: Int[Array, "*num_runs islands n"] | None
    status: Int[Array, "*num_runs"]
    num_steps: Int[Array, "*num_runs"]
    done: Bool[Array, "*num_runs"]


Record = dict[str, Any]
Resampled = tuple[PyTree[Any], lineages.Lineage, Array | None, Array | None]
"""Particles (``None`` where they are moved in place afterwards), families, line, and parents where they are asked for."""


def _over_runs(model: FeynmanKac, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of one run, applied to all: mapped on the device, or one by one for a model that lives on the host."""
    if not model.on_host:
        return jax.vmap(function, axis_name=RUNS)

    def one_by_one(*trees: PyTree[Any]) -> PyTree[Any]:
        num_runs = jax.tree.leaves(trees)[0].shape[0]
        done = [function(*jax.tree.map(lambda leaf, run=run: leaf[run], trees)) for run in range(num_runs)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *done)

    return one_by_one


class _Weighed(eqx.Module):
    """Normalised log weights after an increment, log of the mean increment, effective sample size and status bits."""

    log_weights: LogWeights
    log_increment: Array
    ess: Array
    status: Array


def _weigh(log_weights: LogWeights, increments: LogWeights) -> _Weighed:
    """Increments put on normalised weights; bad increments weigh zero."""
    bad = jnp.isnan(increments) | (increments == jnp.inf)
    normalised, log_increment, size = normalise_and_measure(log_weights + jnp.where(bad, -jnp.inf, increments))
    status = raise_bit(jnp.zeros((), jnp.int32), Status.NON_FINITE_POTENTIAL, jnp.any(bad))
    status = raise_bit(status, Status.ALL_WEIGHTS_ZERO, log_increment == -jnp.inf)
    return _Weighed(normalised, log_increment, size, status)


def _shard_state(state: SMCState, settings: Settings) -> SMCState:
    if settings.mesh is None:
        return state
    family = state.lineage
    at = 1 if settings.islands > 1 else 2
    family = eqx.tree_at(
        lambda tree: (tree.eve, tree.recent),
        family,
        (shard(family.eve, settings.mesh, at), shard(family.recent, settings.mesh, 1 if at == 1 else 3)),
    )
    population = shard(state.population, settings.mesh, 1)
    return eqx.tree_at(lambda tree: (tree.population, tree.lineage), state, (population, family))


def _record(
    settings: Settings, mutation_info: Record, population: Population, ancestors: Array | None, scalars: Record
) -> Record:
    """What the history keeps of one step, by level."""
    if settings.history == "none":
        return {}
    record = scalars | mutation_info
    if settings.history in ("ancestors", "full"):
        record["ancestors"] = ancestors
    if settings.history == "full":
        record["particles"] = population.particles
        record["log_weights"] = population.log_weights
    return record


def init(key: Key[Array, " num_runs"], model: FeynmanKac, settings: Settings) -> tuple[SMCState, Record]:
    """The weighted population at t = 0 of every run, and its record.

    Args:
        key: one typed key a run, shape ``("num_runs",)``.
        model: a Feynman-Kac model.
        settings: static settings.

    Returns:
        The state, and the record of t = 0 (a dict, empty at history level ``"none"``).
    """
    num_particles = settings.num_particles

    def start(run_key: Array) -> tuple[SMCState, Record]:
        mutation = model.init(jax.random.fold_in(run_key, 0), num_particles)
        mutation.check(num_particles, "init")
        uniform = jnp.full((num_particles,), -jnp.log(num_particles), jnp.result_type(float))
        weighed = _weigh(uniform, mutation.log_weights)
        population = Population(mutation.particles, weighed.log_weights)
        state = SMCState(
            key=run_key,
            population=population,
            ess=weighed.ess,
            log_z=weighed.log_increment,
            log_z_error=jnp.zeros_like(weighed.log_increment),
            shared=mutation.shared,
            lineage=lineages.founders(num_particles, settings.lag, settings.islands),
            line=_first_line(model, settings, mutation.particles),
            status=weighed.status | mutation.status,
            num_steps=jnp.zeros((), jnp.int32),
            done=weighed.log_increment == -jnp.inf,
        )
        scalars = {"ess": weighed.ess, "log_z_increment": weighed.log_increment, "resampled": jnp.asarray(False)}
        ancestors = jnp.arange(num_particles, dtype=jnp.int32)
        info = mutation.info | model.record(jnp.zeros((), jnp.int32), population)
        return state, _record(settings, info, population, ancestors, scalars)

    state, record = _over_runs(model, start)(key)
    return _shard_state(state, settings), record


def _first_line(model: FeynmanKac, settings: Settings, particles: PyTree[Any]) -> Array | None:
    """Everybody in order, where large particles are to be moved in place."""
    # Waste-free runs change the number of particles, a given path must lie in slot 0, and rows on other devices are far.
    whole = model.num_ancestors(settings.num_particles) == settings.num_particles and not model.conditional
    if model.on_host or settings.mesh is not None or not whole or not in_place.pays(particles):
        return None
    size = settings.num_particles // settings.islands
    return jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (settings.islands, size))


def step(t: Int[Array, ""], state: SMCState, model: FeynmanKac, settings: Settings) -> tuple[SMCState, Record]:
    """Step t of every run: adapt, look ahead, resample, mutate, weigh.

    Args:
        t: Int[""], the step, from 1.
        state: the state after step t - 1.
        model, settings: as in `init`.

    Returns:
        The state after step t and the step's record. Runs that were done stay as they were.

    Properly weighted for: the model's target at t, ``E[Z_hat_t sum_i W_t^i f(x_t^i)] = gamma_t(f)``, whenever the
    model's own weights are and nothing in ``adapt`` depends on the particles.
    """
    num_particles, islands = settings.num_particles, settings.islands
    size = num_particles // islands
    num_ancestors = model.num_ancestors(num_particles)
    always = num_ancestors != num_particles
    if islands > 1 and (always or model.conditional):
        raise ArgumentError(
            "this model cannot be split into islands",
            expected="islands=1 for waste-free and conditional models",
            got=islands,
        )
    scheme = resampling.by_name(settings.resampling, conditional=model.conditional)
    even = settings.resampling in resampling.EVEN
    informative = model.informative(t)
    needs_parents = settings.history in ("ancestors", "full") or state.line is not None
    stay = jnp.arange(size, dtype=jnp.int32)
    dtype = state.population.log_weights.dtype

    def look(run: SMCState) -> tuple[Any, ...]:
        shared = model.adapt(t, run.population, run.shared)
        ahead = model.look_ahead(t, run.population.particles, shared)
        if ahead is None:
            nothing = jnp.zeros((), dtype)
            seen = _Weighed(run.population.log_weights, nothing, run.ess, jnp.zeros((), jnp.int32))
        else:
            seen = _weigh(run.population.log_weights, ahead)
        if islands == 1:
            blocks, log_shares, sizes = seen.log_weights[None], jnp.zeros((1,), dtype), seen.ess[None]
        else:
            blocks, log_shares, sizes = jax.vmap(normalise_and_measure)(seen.log_weights.reshape(islands, size))
        # An ESS of N exactly (weights all equal) is left alone even where resampling is asked for at every step.
        needed = sizes < settings.resample_below * size * (1 - 1e-6)
        needed = jnp.ones_like(needed) if always else needed
        needed = needed if informative is None else needed & informative
        needed = follow_leader(needed) if model.led else needed
        fresh = jnp.broadcast_to(log_shares[:, None] - jnp.log(size).astype(dtype), blocks.shape)
        after = jnp.where(needed[:, None], fresh, seen.log_weights.reshape(blocks.shape)).reshape(-1)
        visible = jnp.asarray(jnp.inf, dtype) if ahead is None else seen.ess
        keys = jax.random.split(jax.random.fold_in(run.key, t), 2)
        return shared, blocks, needed, after, seen.log_increment, seen.status, visible, keys

    shared, blocks, needed, log_weights, look_increment, look_status, visible, keys = _over_runs(model, look)(state)

    def resample(particles: PyTree[Any], family: lineages.Lineage, line: Array | None) -> Resampled:
        if settings.lag:

            def count(family: lineages.Lineage) -> lineages.Lineage:
                close = jax.vmap(jax.vmap(lambda *island: lineages.close(*island, num_ancestors // islands)))
                return jax.tree.map(lambda new, old: _pick(needed, new, old), close(family, blocks), family)

            family = jax.lax.cond(jnp.any(needed & family.due), count, lambda family: family, family)

        def one(
            key: Array,
            blocks: Array,
            needed: Array,
            shared: Any,
            particles: PyTree[Any],
            family: lineages.Lineage,
            line: Array | None,
        ) -> Resampled:
            in_line = blocks if line is None else jnp.take_along_axis(blocks, line, axis=1)
            if islands == 1:
                key, reconnect_key = jax.random.split(key) if model.conditional else (key, key)
                parent = model.reconnect(reconnect_key, t, Population(particles, blocks[0]), shared)
                if parent is None:
                    ancestors = scheme(key, in_line[0], num_ancestors)[None].astype(jnp.int32)
                else:
                    # Turned until the parent comes first: conditional schemes keep the first, and systematic
                    # resampling knows its particles only up to a rotation.
                    turned = (stay + parent) % size
                    ancestors = turned[scheme(key, blocks[0][turned], num_ancestors)][None].astype(jnp.int32)
            else:
                island_keys = jax.random.split(key, islands)
                ancestors = jax.vmap(lambda key, block: scheme(key, block, size))(island_keys, in_line).astype(
                    jnp.int32
                )
            if not always:
                ancestors = jnp.where(needed[:, None], ancestors, stay)
            if line is None:
                parents = jnp.repeat(ancestors, num_particles // num_ancestors, axis=1)
                particles = jax.tree.map(lambda leaf: in_islands.gather(leaf, ancestors), particles)
            else:
                line, parents = jax.vmap(in_place.seat)(line, ancestors)
            heirs = jax.vmap(lambda *island: lineages.inherit(*island, num_ancestors // islands, even=even))(
                family, blocks, parents
            )
            heirs = jax.tree.map(lambda new, old: _pick(needed, new, old), heirs, family)
            return particles, heirs, line, in_islands.number(parents) if needs_parents else None

        return jax.vmap(one)(keys[:, 0], blocks, needed, shared, particles, family, line)

    def keep(particles: PyTree[Any], family: lineages.Lineage, line: Array | None) -> Resampled:
        everyone = jnp.arange(num_particles, dtype=jnp.int32)
        parents = jnp.broadcast_to(everyone, (needed.shape[0], num_particles)) if needs_parents else None
        return particles, family, line, parents

    particles = state.population.particles
    before = (particles if state.line is None else None, state.lineage, state.line)
    if always:
        chosen, family, line, parents = resample(*before)
    else:
        # One branch for all runs: a state is copied, and genealogies grow, only when some run resamples.
        chosen, family, line, parents = jax.lax.cond(jnp.any(needed), resample, keep, *before)
    particles = chosen if line is None else in_place.follow(particles, parents)

    def move(
        run: SMCState, key: Array, particles: PyTree[Any], shared: Any, needed: Array, log_weights: Array, before: Array
    ) -> Any:
        mutation = model.mutate(key, t, particles, shared, jnp.any(needed))
        mutation.check(num_particles, "mutate")
        if informative is None:
            weighed = _weigh(log_weights, mutation.log_weights)
        else:
            as_before = _Weighed(log_weights, jnp.zeros((), dtype), run.ess, jnp.zeros((), jnp.int32))
            weighed = jax.lax.cond(informative, _weigh, lambda *_: as_before, log_weights, mutation.log_weights)
        population = Population(mutation.particles, weighed.log_weights)
        increment = before + weighed.log_increment
        log_z, log_z_error = compensated_add(run.log_z, run.log_z_error, increment)
        info = mutation.info | model.record(t, population)
        return (
            population,
            weighed.ess,
            mutation.shared,
            info,
            log_z,
            log_z_error,
            increment,
            # What a model says of particles that are all dead already is nothing to report.
            weighed.status | jnp.where(run.log_z == -jnp.inf, 0, mutation.status),
        )

    population, sizes, shared, info, log_z, log_z_error, increment, status = _over_runs(model, move)(
        state, keys[:, 1], particles, shared, needed, log_weights, look_increment
    )
    dead = log_z == -jnp.inf
    new = SMCState(
        key=state.key,
        population=population,
        ess=sizes,
        log_z=log_z,
        log_z_error=log_z_error,
        shared=shared,
        lineage=family,
        line=line,
        status=state.status | look_status | status,
        num_steps=jnp.full_like(state.num_steps, t),
        done=jax.vmap(lambda shared, _: model.done(shared))(shared, dead) | dead,
    )
    scalars = {
        "ess": jnp.minimum(visible, sizes),
        "log_z_increment": increment,
        "resampled": jnp.any(needed, axis=1),
    }
    record = _record(settings, info, population, parents, scalars)
    if not model.fixed_horizon:
        new = _freeze(state.done, state, new)
    return _shard_state(new, settings), record


def _pick(condition: Array, new: Array, old: Array) -> Array:
    """Where the condition holds along its (leading) axes, the new value."""
    return jnp.where(condition.reshape(condition.shape + (1,) * (new.ndim - condition.ndim)), new, old)


def _freeze(done: Bool[Array, " num_runs"], old: SMCState, new: SMCState) -> SMCState:
    """Runs that are done keep their old state."""

    def pick(before: Array, after: Array) -> Array:
        if jnp.issubdtype(after.dtype, jax.dtypes.prng_key):
            return before
        return _pick(done, before, after)

    return jax.tree.map(pick, old, new)


def scan(
    t: Int[Array, ""], state: SMCState, model: FeynmanKac, settings: Settings, length: int
) -> tuple[SMCState, Record]:
    """``length`` steps from step ``t`` on, with no host work between them.

    Steps after every run is done cost nothing; a model that lives on the host takes its steps in a Python loop, each through
    the same `step`. Differentiable in the model's arrays where its steps are.

    Returns:
        The last state, and the records stacked on axis 1 (after runs), zeros for steps that were not taken.
    """

    def body(carry: tuple[Array, SMCState], _: None) -> tuple[tuple[Array, SMCState], Record]:
        t, state = carry
        advance: Callable[[SMCState], tuple[SMCState, Record]] = lambda state: step(t, state, model, settings)  # noqa: E731
        if model.fixed_horizon:
            state, record = advance(state)
        else:
            blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(advance, state)[1])
            over = jnp.all(state.done) | (t > model.num_steps)
            state, record = jax.lax.cond(over, lambda state: (state, blank), advance, state)
        return (t + 1, state), record

    if model.on_host:
        taken = []
        for offset in range(length):
            state, record = step(t + offset, state, model, settings)
            taken.append(record)
        return state, jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *taken)
    (_, state), records = jax.lax.scan(body, (t, state), None, length=length)
    return state, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), records)
