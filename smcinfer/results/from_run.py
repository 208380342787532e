"""A `Result` from a finished run, and what its settings say of how it was made."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.ground.arrays import Array
from smcinfer.ground.names import leaves_by_name
from smcinfer.results.finished import Run
from smcinfer.results.result import Result


def record(key: Array, done: Run, model: FeynmanKac, num_particles: int, **common: Any) -> Result:
    """The result of a finished run, showing what its model exports.

    Args:
        key: the run's key.
        done: the run.
        model: what ran.
        num_particles: of each run.
        **common: further settings of the run, by name, as JSON can hold them.
    """
    shown = leaves_by_name(jax.vmap(model.exported)(done.particles))
    return result_of(done, shown, settings_of(key, model, num_particles, **common))


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


def result_of(done: Run, particles: Mapping[str, Any], settings: dict[str, Any]) -> Result:
    """The record of a finished run.

    Args:
        done: the run.
        particles: its final particles by name, each of shape ``(num_runs, num_particles, ...)``.
        settings: how it was made (`settings_of`).
    """
    genealogy = {
        "eve_variance": np.asarray(done.eve_variance).tolist(),
        "num_roots": np.asarray(done.num_roots).tolist(),
    }
    return Result(
        particles={name: np.asarray(value) for name, value in particles.items()},
        log_weights=done.log_weights,
        log_z=done.log_z,
        log_z_variance=done.log_z_variance,
        status=done.status,
        num_steps=done.num_steps,
        history=done.history,
        settings=settings | genealogy,
        seconds=done.seconds,
        compile_seconds=done.compile_seconds,
    )
