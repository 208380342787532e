"""The contract of a whole Feynman-Kac model, and of one composed of the four nouns, part by part."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.checks.functions import check_potential, check_twist
from smcinfer.checks.process import check_process
from smcinfer.checks.proposal import check_proposal
from smcinfer.checks.report import Check, Report, none_of
from smcinfer.core import smc
from smcinfer.core.compose import Composed
from smcinfer.core.feynman_kac import RUNS, FeynmanKac, Mutation, Population
from smcinfer.core.settings import Settings
from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, KeyArray, PyTree
from smcinfer.ground.errors import TargetError
from smcinfer.ground.programs import compiled
from smcinfer.static.contract import abstract_output, describe

STEPS = 5


def check_model(model: FeynmanKac, key: KeyArray, *, num_particles: int = 512) -> Report:
    """Check that a Feynman-Kac model keeps its shapes from step to step and weighs its particles with numbers.

    Args:
        model: what is checked; a composed one is checked part by part too.
        key: random key.
        num_particles: particles of the trial run of a few steps.

    Returns:
        `Report`.
    """
    model = validate.instance("model", model, FeynmanKac, "a FeynmanKac model, made by compose or state_space say")
    num_particles = validate.count("num_particles", num_particles)
    name = f"model {type(model).__name__}"
    try:
        checks = _structure(model, key, num_particles)
    except TargetError as error:
        return Report(name, (Check("can be traced", False, message=str(error)),))
    if not all(check.passed for check in checks):
        return Report(name, tuple(checks))
    run_key, parts_key = jax.random.split(key)
    checks += _trial(model, run_key, num_particles)
    if isinstance(model, Composed):
        checks += _parts(model, parts_key)
    return Report(name, tuple(checks))


def _structure(model: FeynmanKac, key: KeyArray, num_particles: int) -> list[Check]:
    """Whether init returns a mutation, and adapt and mutate return what they were given."""
    num_ancestors = model.num_ancestors(num_particles)

    def first_step(key: KeyArray, t: Array, flag: Array) -> Any:
        first = model.init(key, num_particles)
        if not isinstance(first, Mutation):
            return [first]
        shared = model.adapt(t, Population(first.particles, first.log_weights), first.shared)
        ancestors = jax.tree.map(lambda leaf: leaf[:num_ancestors], first.particles)
        return first, shared, model.mutate(key, t, ancestors, shared, flag)

    time, flag = jnp.ones((), jnp.int32), jnp.asarray(True)
    if model.on_host:
        traced = first_step(key, time, flag)
    else:
        # Models may look across runs, so they are traced as the driver runs them: mapped over a named axis.
        mapped = jax.vmap(first_step, in_axes=(0, None, None), axis_name=RUNS)
        runs = abstract_output("model", mapped, jax.random.split(key, 1), time, flag)
        traced = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), runs)
    if not isinstance(traced[-1], Mutation):
        return [Check("init and mutate return a Mutation", False, type(traced[-1]).__name__, "Mutation")]
    first, shared, later = traced
    return [
        _alike("one log weight a particle", later.log_weights, jnp.zeros((num_particles,))),
        _alike("adapt keeps the structure of shared", shared, first.shared),
        _alike("mutate keeps the structure of the particles", later.particles, first.particles),
        _alike("mutate keeps the structure of shared", later.shared, first.shared),
        _alike("mutate reports the info that init does", later.info, first.info),
    ]


def _alike(name: str, observed: PyTree[Any], expected: PyTree[Any]) -> Check:
    found, wanted = describe(observed), describe(expected)
    if found == wanted:
        return Check(name, True)
    return Check(name, False, found, wanted, "every step must return the same pytree, shapes and dtypes")


def _run(model: FeynmanKac, key: Array, settings: Settings, length: int) -> smc.SMCState:
    state, _ = smc.init(key, model, settings)
    return smc.scan(jnp.ones((), jnp.int32), state, model, settings, length)[0]


_compiled_run = compiled(_run)


def _trial(model: FeynmanKac, key: KeyArray, num_particles: int) -> list[Check]:
    """A few steps of one run."""
    run = _run if model.on_host else _compiled_run
    state = run(model, jax.random.split(key, 1), Settings(num_particles), min(STEPS, model.num_steps))
    status = int(state.status[0])
    log_z = np.asarray(state.log_z)
    zero = bool(status & Status.ALL_WEIGHTS_ZERO)
    return [
        Check("no log weight is NaN or +inf", not status & Status.NON_FINITE_POTENTIAL),
        Check("some particle keeps a weight", not zero, "all weights zero" if zero else "yes", "yes"),
        none_of("log Z is not NaN or +inf", np.isnan(log_z) | (log_z == np.inf)),
    ]


def _parts(model: Composed, key: KeyArray) -> list[Check]:
    """The four nouns, each by its own check."""
    steps = max(1, min(STEPS, model.num_steps))
    keys = jax.random.split(key, 4)
    reports = [
        check_process(model.process, keys[0], num_steps=steps),
        check_potential(model.potential, model.process, keys[1], num_steps=steps),
    ]
    if model.twist is not None and model.num_steps > 0:
        reports.append(check_twist(model.twist, model.process, keys[2], num_steps=model.num_steps))
    if model.num_steps > 0:
        reports.append(
            check_proposal(
                model.proposal, model.process, keys[3], potential=model.potential, num_steps=min(steps, model.num_steps)
            )
        )
    return [
        dataclasses.replace(check, name=f"{report.name}: {check.name}") for report in reports for check in report.checks
    ]
