"""Results made by hand, with every number known: what the tests of results, figures and commands look at."""

from typing import Any

import numpy as np

from smcinfer.results import Result


def make_result(num_runs: int = 4, num_particles: int = 50, steps: int = 6, seed: int = 0, **changes: Any) -> Result:
    """A result of random numbers with everything a run records; ``changes`` replace arguments of `Result`.

    Run 0 stops two steps before the others where there are several, at about the same log Z.
    """
    rng = np.random.default_rng(seed)
    log_weights = rng.normal(0.0, 0.5, (num_runs, num_particles))
    log_weights -= np.logaddexp.reduce(log_weights, axis=1)[:, None]
    num_steps = np.full(num_runs, steps)
    num_steps[0] -= 2 if num_runs > 1 else 0
    increments = rng.normal(-1.0, 0.1, (num_runs, steps + 1))
    if num_runs > 1:
        increments[0, num_steps[0]] -= 2.0
    taken = np.arange(steps + 1) <= num_steps[:, None]
    ancestors = np.sort(rng.integers(0, num_particles, (num_runs, steps + 1, num_particles)), axis=-1)
    ancestors[:, 0] = np.arange(num_particles)
    arguments: dict[str, Any] = {
        "particles": {
            "theta": rng.normal(size=(num_runs, num_particles, 2)),
            "tau": np.exp(rng.normal(size=(num_runs, num_particles))).astype(np.float32),
        },
        "log_weights": log_weights,
        "log_z": np.where(taken, increments, 0.0).sum(axis=1),
        "log_z_variance": np.full(num_runs, 0.04),
        "status": np.zeros(num_runs, np.int32),
        "num_steps": num_steps,
        "history": {
            "ess": num_particles * rng.uniform(0.5, 1.0, (num_runs, steps + 1)),
            "log_z_increment": increments,
            "resampled": np.ones((num_runs, steps + 1), bool),
            "exponent": np.tile(np.linspace(0.0, 1.0, steps + 1) ** 3, (num_runs, 1)),
            "acceptance": rng.uniform(0.6, 0.9, (num_runs, steps + 1)),
            "num_evals": np.full((num_runs, steps + 1), 10.0),
            "ancestors": ancestors.astype(np.int32),
        },
        "settings": {"kernel": "hmc", "num_particles": num_particles, "weighted_for": "the posterior"},
        "seconds": 3.0,
        "compile_seconds": 1.0,
    }
    return Result(**(arguments | changes))


def two_points(log_z: list[float], values: list[list[float]], weights: list[list[float]]) -> Result:
    """Runs of few particles of one variable ``x``, small enough to check by hand."""
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.array(weights))
    return make_result(
        len(log_z),
        len(values[0]),
        particles={"x": np.array(values)},
        log_weights=log_weights,
        log_z=np.array(log_z),
        log_z_variance=np.full(len(log_z), np.nan),
    )
