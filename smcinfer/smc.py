r"""The sequential Monte Carlo driver: one step, for every family, under jit.

.. math::
    \hat Z_t = \hat Z_{t-1} \sum_i W_{t-1}^i w_t^i, \qquad
    W_t^i \propto W_{t-1}^i w_t^i \;\text{ or }\; 1/N \text{ after resampling.}

Weights are always carried: a step that does not resample loses nothing. Several independent runs share a step:
the functions here take and return states whose leaves have a leading axis of runs, and map over it *inside* the
scan over time, so that "nobody resamples" and "everybody is done" stay plain branches on the device.

A state keeps one key, which is never used to draw: step t folds t into it, so a resumed run continues bit for bit.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer import lineage as lineages
from smcinfer import resampling
from smcinfer.arrays import Array, Bool, Float, Int, Key, LogWeights, PyTree
from smcinfer.errors import ArgumentError
from smcinfer.feynman_kac import RUNS, FeynmanKac, Mutation, Population, follow_leader
from smcinfer.status import Status, raise_bit
from smcinfer.weights import compensated_add, ess, normalise

HISTORY_LEVELS: tuple[str, ...] = ("none", "scalars", "ancestors", "full")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What shapes a run and is fixed at compile time.

    Attributes:
        num_particles: N, particles of each run.
        resampling: name of a scheme (`smcinfer.resampling.SCHEMES`).
        resample_below: resample where the effective sample size falls below this fraction of N; 1 resamples at
            every step at which weights differ, 0 never.
        history: what is recorded a step: ``"none"``, ``"scalars"``, ``"ancestors"`` or ``"full"`` (particles too).
        lag: steps of genealogy kept for the error bar (`smcinfer.lineage`); 0 counts families from t = 0.
    """

    num_particles: int
    resampling: str = "systematic"
    resample_below: float = 0.5
    history: str = "scalars"
    lag: int = 0

    def __post_init__(self) -> None:
        if self.num_particles < 1:
            raise ArgumentError("num_particles is out of range", expected="at least 1", got=self.num_particles)
        if not 0.0 <= self.resample_below <= 1.0:
            raise ArgumentError(
                "resample_below is a fraction of num_particles", expected="a number in [0, 1]", got=self.resample_below
            )
        if self.history not in HISTORY_LEVELS:
            raise ArgumentError("unknown history level", expected=" | ".join(HISTORY_LEVELS), got=self.history)
        if self.lag < 0:
            raise ArgumentError("lag is a number of steps", expected="at least 0", got=self.lag)
        resampling.by_name(self.resampling)


class SMCState(eqx.Module):
    """Where runs stand after step t; every leaf has a leading axis of ``num_runs``.

    Attributes:
        key: one key a run, never drawn from directly.
        population: particles with their normalised log weights.
        log_z, log_z_error: log of Z_hat so far and its rounding error; their sum is the estimate, nats.
        shared: what the model's ``adapt`` keeps.
        lineage: family names for the error bar.
        status: Int["num_runs"], bits of `Status`.
        num_steps: Int["num_runs"], steps taken.
        done: Bool["num_runs"], whether an adaptive model has ended.
    """

    key: Key[Array, "*num_runs"]
    population: Population
    log_z: Float[Array, "*num_runs"]
    log_z_error: Float[Array, "*num_runs"]
    shared: PyTree[Any]
    lineage: lineages.Lineage
    status: Int[Array, "*num_runs"]
    num_steps: Int[Array, "*num_runs"]
    done: Bool[Array, "*num_runs"]


Record = dict[str, Any]


def _over_runs(model: FeynmanKac, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of one run, applied to all: mapped on the device, or one by one for a model that lives on the host."""
    if not model.on_host:
        return jax.vmap(function, axis_name=RUNS)

    def one_by_one(*trees: PyTree[Any]) -> PyTree[Any]:
        num_runs = jax.tree.leaves(trees)[0].shape[0]
        done = [function(*jax.tree.map(lambda leaf, run=run: leaf[run], trees)) for run in range(num_runs)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *done)

    return one_by_one


def _weigh(log_weights: LogWeights, increments: LogWeights) -> tuple[LogWeights, Array, Array]:
    """Normalised sum, log of the mean increment, and status bits; bad increments weigh zero."""
    bad = jnp.isnan(increments) | (increments == jnp.inf)
    normalised, log_increment = normalise(log_weights + jnp.where(bad, -jnp.inf, increments))
    status = raise_bit(jnp.zeros((), jnp.int32), Status.NON_FINITE_POTENTIAL, jnp.any(bad))
    status = raise_bit(status, Status.ALL_WEIGHTS_ZERO, log_increment == -jnp.inf)
    return normalised, log_increment, status


def _record(
    settings: Settings, mutation_info: Record, population: Population, ancestors: Array, scalars: Record
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
        _check_mutation(mutation, num_particles, "init")
        uniform = jnp.full((num_particles,), -jnp.log(num_particles), jnp.result_type(float))
        log_weights, log_z, status = _weigh(uniform, mutation.log_weights)
        population = Population(mutation.particles, log_weights)
        state = SMCState(
            key=run_key,
            population=population,
            log_z=log_z,
            log_z_error=jnp.zeros_like(log_z),
            shared=mutation.shared,
            lineage=lineages.founders(num_particles, settings.lag),
            status=status | mutation.status,
            num_steps=jnp.zeros((), jnp.int32),
            done=log_z == -jnp.inf,
        )
        scalars = {"ess": ess(log_weights), "log_z_increment": log_z, "resampled": jnp.asarray(False)}
        ancestors = jnp.arange(num_particles, dtype=jnp.int32)
        return state, _record(settings, mutation.info, population, ancestors, scalars)

    return _over_runs(model, start)(key)


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
    num_particles = settings.num_particles
    num_ancestors = model.num_ancestors(num_particles)
    always = num_ancestors != num_particles
    scheme = resampling.by_name(settings.resampling, conditional=model.conditional)
    stay = jnp.arange(num_particles, dtype=jnp.int32)
    uniform = jnp.full((num_particles,), -jnp.log(num_particles), state.population.log_weights.dtype)

    def look(run: SMCState) -> tuple[Any, ...]:
        shared = model.adapt(t, run.population, run.shared)
        ahead = model.look_ahead(t, run.population.particles, shared)
        increments = jnp.zeros_like(uniform) if ahead is None else ahead
        log_weights, log_increment, status = _weigh(run.population.log_weights, increments)
        size = ess(log_weights)
        # An ESS of N exactly (weights all equal) is left alone even where resampling is asked for at every step.
        needed = jnp.asarray(True) if always else size < settings.resample_below * num_particles * (1 - 1e-6)
        needed = follow_leader(needed) if model.led else needed
        family = lineages.look(run.lineage, log_weights, num_ancestors, needed)
        visible = size if ahead is not None else jnp.asarray(jnp.inf, uniform.dtype)
        keys = jax.random.split(jax.random.fold_in(run.key, t), 2)
        return shared, log_weights, log_increment, status, visible, needed, family, keys

    shared, log_weights, look_increment, look_status, visible, needed, family, keys = _over_runs(model, look)(state)

    def resample(particles: PyTree[Any], family: lineages.Lineage) -> tuple[PyTree[Any], lineages.Lineage, Array]:
        def one(key: Array, weights: Array, needed: Array, particles: PyTree[Any], family: lineages.Lineage) -> Any:
            ancestors = scheme(key, weights, num_ancestors).astype(jnp.int32)
            if not always:
                ancestors = jnp.where(needed, ancestors, stay)
            parents = jnp.repeat(ancestors, num_particles // num_ancestors)
            chosen = jax.tree.map(lambda leaf: leaf[ancestors], particles)
            return chosen, lineages.inherit(family, parents, num_ancestors), parents

        return jax.vmap(one)(keys[:, 0], log_weights, needed, particles, family)

    def keep(particles: PyTree[Any], family: lineages.Lineage) -> tuple[PyTree[Any], lineages.Lineage, Array]:
        aged = jax.vmap(lambda one: lineages.inherit(one, stay, num_particles))(family)
        return particles, aged, jnp.broadcast_to(stay, (needed.shape[0], num_particles))

    if always:
        particles, family, parents = resample(state.population.particles, family)
    else:
        # One branch for all runs: a large state is copied only when some run resamples.
        particles, family, parents = jax.lax.cond(jnp.any(needed), resample, keep, state.population.particles, family)
    log_weights = jnp.where(needed[:, None], uniform, log_weights)

    def move(
        run: SMCState, key: Array, particles: PyTree[Any], shared: Any, needed: Array, log_weights: Array, before: Array
    ) -> Any:
        mutation = model.mutate(key, t, particles, shared, needed)
        _check_mutation(mutation, num_particles, "mutate")
        log_weights, log_increment, status = _weigh(log_weights, mutation.log_weights)
        increment = before + log_increment
        log_z, log_z_error = compensated_add(run.log_z, run.log_z_error, increment)
        return (
            Population(mutation.particles, log_weights),
            mutation.shared,
            mutation.info,
            log_z,
            log_z_error,
            increment,
            status | mutation.status,
        )

    population, shared, info, log_z, log_z_error, increment, status = _over_runs(model, move)(
        state, keys[:, 1], particles, shared, needed, log_weights, look_increment
    )
    dead = log_z == -jnp.inf
    new = SMCState(
        key=state.key,
        population=population,
        log_z=log_z,
        log_z_error=log_z_error,
        shared=shared,
        lineage=family,
        status=state.status | look_status | status,
        num_steps=jnp.full_like(state.num_steps, t),
        done=jax.vmap(lambda shared, _: model.done(shared))(shared, dead) | dead,
    )
    scalars = {
        "ess": jnp.minimum(visible, jax.vmap(ess)(population.log_weights)),
        "log_z_increment": increment,
        "resampled": needed,
    }
    record = _record(settings, info, population, parents, scalars)
    if not model.fixed_horizon:
        new = _freeze(state.done, state, new)
    return new, record


def _freeze(done: Bool[Array, " num_runs"], old: SMCState, new: SMCState) -> SMCState:
    """Runs that are done keep their old state."""

    def pick(before: Array, after: Array) -> Array:
        if jnp.issubdtype(after.dtype, jax.dtypes.prng_key):
            return before
        return jnp.where(done.reshape(done.shape + (1,) * (after.ndim - 1)), before, after)

    return jax.tree.map(pick, old, new)


def _check_mutation(mutation: Mutation, num_particles: int, where: str) -> None:
    """Shapes are static, so a wrong one is caught while tracing."""
    if mutation.log_weights.shape != (num_particles,):
        raise ArgumentError(
            f"{where} of the model returned log weights of the wrong shape",
            expected=(num_particles,),
            got=mutation.log_weights.shape,
            hint="return one log weight a particle",
        )
    for leaf in jax.tree.leaves(mutation.particles):
        if leaf.shape[:1] != (num_particles,):
            raise ArgumentError(
                f"{where} of the model returned particles without the particle axis",
                expected=f"every leaf with leading axis {num_particles}",
                got=leaf.shape,
            )


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
