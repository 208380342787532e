"""Pooling all exponents: exact log Z and means from exact draws of every step, with less variance than the plain product."""

from typing import Any

import jax
import numpy as np
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError
from smcinfer.models import conjugate
from smcinfer.results.mixture import POTENTIAL, pool

RUNS, SIZE, SHARP = 200, 64, 40.0
EXPONENTS = np.array([0.0, 0.02, 0.1, 0.3, 1.0])
EXACT = -0.5 * np.log1p(SHARP)


def history(bound: float = np.inf, shift: float = 0.0) -> tuple[dict[str, Any], np.ndarray]:
    """Exact draws of N(0, 1) exp(-lambda SHARP x^2 / 2) at every exponent, none above a bound, and plain estimates."""
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(RUNS, len(EXPONENTS), SIZE))
    if np.isfinite(bound):
        # The half line above the bound has no likelihood: base draws fall there, others do not.
        draws[:, 1:] = np.minimum(-np.abs(draws[:, 1:]), bound)
    draws = draws / np.sqrt(1 + SHARP * EXPONENTS)[:, None]
    potential = np.where(draws < bound, -0.5 * SHARP * draws**2, -np.inf)
    rises = np.diff(EXPONENTS)[:, None] * potential[:, :-1]
    steps = np.logaddexp.reduce(rises, axis=2) - np.log(SIZE)
    told = {
        POTENTIAL: potential,
        "particles.position": draws,
        "exponent": np.broadcast_to(EXPONENTS + shift * (EXPONENTS > 0) * (EXPONENTS < 1), (RUNS, len(EXPONENTS))),
        "log_weights": np.full(potential.shape, -np.log(SIZE)),
        "log_z_increment": np.concatenate([np.zeros((RUNS, 1)), steps], axis=1),
    }
    return told, steps.sum(axis=1)


def pooled(told: dict[str, Any], plain: np.ndarray) -> Any:
    return pool(told, np.full(RUNS, len(EXPONENTS) - 1), plain)


def test_pooled_estimates_are_exact_and_vary_less() -> None:
    told, plain = history()
    found = pooled(told, plain)
    error = found.log_z_runs.std(ddof=1) / np.sqrt(RUNS)
    assert abs(found.log_z_runs.mean() - EXACT) < 4 * error and error < 0.02
    assert found.log_z_runs.var() < 0.85 * plain.var()
    assert abs(found.log_z - EXACT) < 4 * found.log_z_se
    mean, spread = found.expectation(told["particles.position"] ** 2)
    assert abs(mean - 1 / (1 + SHARP)) < 4 * spread < 0.1 * mean
    wrong = pooled(*history(shift=0.05))
    assert abs(wrong.log_z_runs.mean() - EXACT) > 4 * error


def test_draws_outside_the_support_count_as_draws_of_the_base() -> None:
    told, plain = history(bound=0.0)
    found = pooled(told, plain)
    error = found.log_z_runs.std(ddof=1) / np.sqrt(RUNS)
    assert abs(found.log_z_runs.mean() - (EXACT + np.log(0.5))) < 4 * error + 0.5 / SIZE


def test_the_fixed_point_is_one() -> None:
    """Started far away it ends at the same place."""
    told, plain = history()
    far = told | {"log_z_increment": told["log_z_increment"] + 0.5}
    np.testing.assert_allclose(pooled(far, plain).log_z_runs, pooled(told, plain).log_z_runs, atol=2e-3)


@pytest.mark.slow
def test_a_run_that_kept_its_particles_pools_them() -> None:
    model = conjugate.EXAMPLES["gaussian_mean"]()
    exact: Any = model.posterior
    common = {"num_particles": 256, "num_runs": 8, "kernel": "random_walk", "progress": False}
    result = smcinfer.sample(jax.random.key(0), model.target, history="full", **common)
    assert abs(result.pooled.log_z - model.log_z) < 5 * result.pooled.log_z_se
    mean, error = result.pooled.expectation(result.history["particles.position"])
    assert np.all(np.abs(mean - np.asarray(exact.mean)) < 6 * error)


def test_what_was_not_kept_cannot_be_pooled() -> None:
    told, plain = history()
    with pytest.raises(ArgumentError, match="history"):
        pooled({"exponent": told["exponent"]}, plain)
    with pytest.raises(ArgumentError, match="values"):
        pooled(told, plain).expectation(plain)
