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
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core import lineage as lineages
from smcinfer.core.feynman_kac import FeynmanKac, Population
from smcinfer.core.resampler import Decision, Resampled, Resampler
from smcinfer.core.settings import Settings
from smcinfer.core.state import Record, SMCState, freeze, over_runs, record, shard_state
from smcinfer.core.weights import Weighed, compensated_add, unweighed, weigh
from smcinfer.ground.arrays import Array, Float, Int, Key, PyTree
from smcinfer.ground.keys import plain
from smcinfer.ground.programs import merged
from smcinfer.ground.slices import sliced

__all__ = ["Record", "SMCState", "init", "scan", "step"]


def init(key: Key[Array, " num_runs"], model: FeynmanKac, settings: Settings) -> tuple[SMCState, Record]:
    """The weighted population at t = 0 of every run, and its record.

    Args:
        key: one typed key a run, shape ``("num_runs",)``.
        model: a Feynman-Kac model.
        settings: static settings.

    Returns:
        The state, and the record of t = 0 (a dict, empty at history level ``"none"``).
    """
    with merged(settings.mesh is not None), sliced(settings.particle_batch):
        return _started(key, model, settings)


def _started(key: Key[Array, " num_runs"], model: FeynmanKac, settings: Settings) -> tuple[SMCState, Record]:
    num_particles = settings.num_particles

    def start(run_key: Array) -> tuple[SMCState, Record]:
        mutation = model.init(plain(jax.random.fold_in(run_key, 0)), num_particles)
        mutation.check(num_particles, "init")
        uniform = jnp.full((num_particles,), -jnp.log(num_particles), jnp.result_type(float))
        weighed = weigh(uniform, mutation.log_weights)
        population = Population(mutation.particles, weighed.log_weights)
        state = SMCState(
            key=run_key,
            population=population,
            ess=weighed.ess,
            log_z=weighed.log_increment,
            log_z_error=jnp.zeros_like(weighed.log_increment),
            shared=mutation.shared,
            lineage=lineages.founders(num_particles, settings.lag, settings.islands),
            line=Resampler.of(model, settings).first_line(mutation.particles),
            status=weighed.status | mutation.status,
            num_steps=jnp.zeros((), jnp.int32),
            done=weighed.log_increment == -jnp.inf,
        )
        scalars = {"ess": weighed.ess, "log_z_increment": weighed.log_increment, "resampled": jnp.asarray(False)}
        ancestors = jnp.arange(num_particles, dtype=jnp.int32)
        info = mutation.info | model.record(jnp.zeros((), jnp.int32), population)
        return state, record(settings, info, population, ancestors, scalars)

    state, first = over_runs(model, start)(key)
    return shard_state(state, settings), first


def step(t: Int[Array, ""], state: SMCState, model: FeynmanKac, settings: Settings) -> tuple[SMCState, Record]:
    """Step t of every run: adapt and look ahead, resample, mutate, weigh.

    Args:
        t: Int[""], the step, from 1.
        state: the state after step t - 1.
        model, settings: as in `init`.

    Returns:
        The state after step t and the step's record. Runs that were done stay as they were.

    Properly weighted for: the model's target at t, ``E[Z_hat_t sum_i W_t^i f(x_t^i)] = gamma_t(f)``, whenever the
    model's own weights are and nothing in ``adapt`` depends on the particles.
    """
    with merged(settings.mesh is not None), sliced(settings.particle_batch):
        return _stepped(t, state, model, settings)


def _stepped(t: Int[Array, ""], state: SMCState, model: FeynmanKac, settings: Settings) -> tuple[SMCState, Record]:
    resampler = Resampler.of(model, settings)
    ahead = over_runs(model, partial(_look_ahead, t, model, resampler))(state)
    chosen = resampler.apply(t, ahead.key[:, 0], ahead.decision, ahead.shared, state)
    moved = over_runs(model, partial(_move, t, model))(state, ahead, chosen.particles)
    new = _advanced(t, model, state, ahead, chosen, moved)
    scalars = {
        "ess": jnp.minimum(ahead.visible, moved.ess),
        "log_z_increment": moved.increment,
        "resampled": jnp.any(ahead.decision.needed, axis=1),
    }
    kept = record(settings, moved.info, moved.population, chosen.parents, scalars)
    # Runs that are led end together.
    ended_apart = not (model.fixed_horizon or model.led)
    return shard_state(freeze(state.done, state, new) if ended_apart else new, settings), kept


class _Ahead(eqx.Module):
    """What is known of a step before particles move: by whom they are chosen, and what that has weighed already."""

    shared: PyTree[Any]
    decision: Decision
    increment: Array
    status: Array
    visible: Array
    key: Array


def _look_ahead(t: Int[Array, ""], model: FeynmanKac, resampler: Resampler, run: SMCState) -> _Ahead:
    """One run adapted, its particles weighed as far as they can be before they move, and whether it resamples."""
    shared = model.adapt(t, run.population, run.shared)
    known = model.look_ahead(t, run.population.particles, shared)
    log_weights = run.population.log_weights
    seen: Weighed = unweighed(log_weights, run.ess) if known is None else weigh(log_weights, known)
    decision = resampler.decide(seen, model.informative(t))
    visible = jnp.asarray(jnp.inf, log_weights.dtype) if known is None else seen.ess
    keys = jax.random.split(jax.random.fold_in(run.key, t), 2)
    return _Ahead(shared, decision, seen.log_increment, seen.status, visible, keys)


class _Moved(eqx.Module):
    """A run after its particles moved and were weighed."""

    population: Population
    shared: PyTree[Any]
    info: Record
    ess: Array
    log_z: Float[Array, "*num_runs"]
    log_z_error: Float[Array, "*num_runs"]
    increment: Array
    status: Array


def _move(t: Int[Array, ""], model: FeynmanKac, run: SMCState, ahead: _Ahead, particles: PyTree[Any]) -> _Moved:
    """One run's chosen particles moved, and weighed by what the look-ahead did not hold."""
    mutation = model.mutate(plain(ahead.key[1]), t, particles, ahead.shared, jnp.any(ahead.decision.needed))
    log_weights, informative = ahead.decision.log_weights, model.informative(t)
    mutation.check(log_weights.shape[0], "mutate")
    if informative is None:
        weighed = weigh(log_weights, mutation.log_weights)
    else:
        as_before = unweighed(log_weights, run.ess)
        weighed = jax.lax.cond(informative, weigh, lambda *_: as_before, log_weights, mutation.log_weights)
    population = Population(mutation.particles, weighed.log_weights)
    increment = ahead.increment + weighed.log_increment
    log_z, log_z_error = compensated_add(run.log_z, run.log_z_error, increment)
    info = mutation.info | model.record(t, population)
    status = weighed.status | mutation.status
    return _Moved(population, mutation.shared, info, weighed.ess, log_z, log_z_error, increment, status)


def _advanced(
    t: Int[Array, ""], model: FeynmanKac, state: SMCState, ahead: _Ahead, chosen: Resampled, moved: _Moved
) -> SMCState:
    """The state after the step, of all runs, whether or not they were done before."""
    dead = moved.log_z == -jnp.inf
    return SMCState(
        key=state.key,
        population=moved.population,
        ess=moved.ess,
        log_z=moved.log_z,
        log_z_error=moved.log_z_error,
        shared=moved.shared,
        lineage=chosen.lineage,
        line=chosen.line,
        # What happens to particles that are all dead already is nothing to report.
        status=jnp.where(state.log_z == -jnp.inf, state.status, state.status | ahead.status | moved.status),
        num_steps=jnp.full_like(state.num_steps, t),
        done=jax.vmap(lambda shared, _: model.done(shared))(moved.shared, dead) | dead,
    )


def scan(
    t: Int[Array, ""], state: SMCState, model: FeynmanKac, settings: Settings, length: int
) -> tuple[SMCState, Record]:
    """``length`` steps from step ``t`` on, with no host work between them.

    Steps after every run is done cost nothing; a model that lives on the host takes its steps in a Python loop, each through
    the same `step`. Differentiable in the model's arrays where its steps are.

    Args:
        t: Int[""], the first step to take, from 1.
        state: after step t - 1.
        model: the target and how its particles move.
        settings: of the run.
        length: steps to take; fixed when compiled.

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
