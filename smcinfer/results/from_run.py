"""A `Result`, or a bound, from a finished run, and what the settings say of how it was made."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.core.status import Status
from smcinfer.ground.arrays import Array
from smcinfer.ground.names import leaves_by_name
from smcinfer.ground.programs import compiled
from smcinfer.results.evidence import Bound, mean_bound
from smcinfer.results.finished import Run
from smcinfer.results.result import Result
from smcinfer.results.sandwich import Sandwich
from smcinfer.results.survivors import Runs, fewest, floor_under, unit_of_rounding


def record(key: Array, done: Run, model: FeynmanKac, num_particles: int, **common: Any) -> Result:
    """The result of a finished run, showing what its model exports.

    Args:
        key: the run's key.
        done: the run.
        model: what ran.
        num_particles: of each run.
        **common: further settings of the run, by name, as JSON can hold them.
    """
    if not model.plan.tells_variance:
        done = dataclasses.replace(done, log_z_variance=np.full_like(np.asarray(done.log_z), np.nan))
    shown = leaves_by_name((_shown if model.on_host else _shown_compiled)(model, done.particles))
    found = result_of(done, shown, settings_of(key, model, num_particles, **common))
    return dataclasses.replace(found, described=model.described, model=model)


def _shown(model: FeynmanKac, particles: Any) -> Any:
    """What a model exports of the particles of every run."""
    return jax.vmap(model.exported)(particles)


_shown_compiled = compiled(_shown)


def settings_of(key: Array, model: FeynmanKac, num_particles: int, **common: Any) -> dict[str, Any]:
    """How a run was made and what its particles are weighted for, as JSON can hold it.

    Args:
        key: the run's key.
        model: what ran.
        num_particles: of each run.
        **common: further settings of the run, by name.
    """
    return (
        common
        | {
            "num_particles": num_particles,
            "model": type(model).__name__,
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "precision": str(jax.numpy.result_type(float)),
            "jax": jax.__version__,
        }
        | model.plan.described()
    )


def result_of(done: Run, particles: Mapping[str, Any], settings: dict[str, Any], model: Any = None) -> Result:
    """The record of a finished run.

    Args:
        done: the run.
        particles: its final particles by name, each of shape ``(num_runs, num_particles, ...)``.
        settings: how it was made (`settings_of`).
        model: what ran, where a result may be asked to go on with it.
    """
    genealogy = {
        "eve_variance": np.asarray(done.eve_variance).tolist(),
        "num_roots": np.asarray(done.num_roots).tolist(),
    }
    return Result(
        particles={name: np.asarray(value) for name, value in particles.items()},
        log_weights=np.asarray(done.log_weights),
        log_z_runs=np.asarray(done.log_z),
        log_z_variance=np.asarray(done.log_z_variance),
        status_runs=np.asarray(done.status),
        num_steps=np.asarray(done.num_steps),
        history=done.history,
        model=model,
        settings=settings | genealogy,
        seconds=done.seconds,
        compile_seconds=done.compile_seconds,
    )


def sandwich_of(lower: Run, upper: Run, settings: dict[str, Any], **rest: Any) -> Sandwich:
    """The record of runs from the base and of runs through exact draws.

    Args:
        lower, upper: the runs.
        settings: how they were made (`settings_of`).
        **rest: further fields of `Sandwich`.
    """
    bits = np.bitwise_or.reduce(np.concatenate([np.asarray(lower.status), np.asarray(upper.status)]))
    return Sandwich(
        num_particles=int(settings["num_particles"]),
        lower_runs=np.asarray(lower.log_z),
        upper_runs=np.asarray(upper.log_z),
        lower_fewest=_fewest(lower),
        upper_fewest=_fewest(upper),
        # The errors come from the spread between runs, not from genealogies.
        status=Status(int(bits)) & ~Status.GENEALOGY_COALESCED,
        settings=settings | {"weighted_for": Sandwich.WEIGHTED_FOR},
        seconds=lower.seconds + upper.seconds,
        compile_seconds=lower.compile_seconds + upper.compile_seconds,
        **rest,
    )


def bound_of(done: Run) -> Bound:
    """The mean of log Z_hat over a finished run's populations, and its standard error.

    It is a lower bound on log Z in expectation, or an upper one where every run went through an exact draw of the target
    (`smcinfer.condition`): then `Result.with_upper_bound` takes it.
    """
    log_z = np.asarray(done.log_z)
    wide, num_particles = log_z.astype(np.float64), np.shape(done.log_weights)[1]
    return mean_bound(wide, floor_under(wide, _fewest(done), num_particles, unit_of_rounding(log_z)))


def _fewest(done: Run) -> Runs:
    return fewest(np.asarray(done.log_weights), done.history, np.asarray(done.num_steps))
