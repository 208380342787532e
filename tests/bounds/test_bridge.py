"""Bridge sampling between two results, against the exact ratio of evidences."""

import dataclasses
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pytest

from smcinfer import bounds
from smcinfer.ground.errors import ArgumentError
from smcinfer.results import Result
from smcinfer.static import posterior

RUNS, SIZE, Y, NOISE = 40, 400, 1.3, 0.7


def result_and_exact(scale: float, seed: int) -> tuple[Any, Result, float]:
    """The posterior of a mean under a normal prior, exact draws of it with weights from a wider law, and log Z."""
    prior = dist.Normal(0.0, scale)
    target = posterior(prior, lambda x: dist.Normal(x, NOISE).log_prob(Y))
    variance = 1 / (1 / scale**2 + 1 / NOISE**2)
    mean, wide = variance * Y / NOISE**2, 1.3 * variance**0.5
    draws = np.random.default_rng(seed).normal(mean, wide, (RUNS, SIZE))
    log_weights = -0.5 * (draws - mean) ** 2 / variance + 0.5 * ((draws - mean) / wide) ** 2
    log_weights -= np.logaddexp.reduce(log_weights, axis=1)[:, None]
    zero = np.zeros(RUNS, np.int32)
    made: dict[str, Any] = {
        "particles": {"theta": draws},
        "log_weights": log_weights,
        "status_runs": zero,
        "num_steps": zero,
    }
    made |= {"log_z_runs": np.zeros(RUNS), "log_z_variance": np.ones(RUNS), "history": {}, "settings": {}}
    result = Result(**made, seconds=0.0, compile_seconds=0.0)
    return target, result, float(dist.Normal(0.0, (scale**2 + NOISE**2) ** 0.5).log_prob(Y))


def test_the_ratio_of_two_evidences(x64: None) -> None:
    first, first_result, first_z = result_and_exact(1.0, 1)
    second, second_result, second_z = result_and_exact(3.0, 2)
    found = bounds.evidence_ratio(first, first_result, second, second_result)
    assert abs(found.value - (first_z - second_z)) < 4 * found.se < 0.06
    assert bounds.evidence_ratio(second, second_result, first, first_result).value == pytest.approx(
        -found.value, abs=0.01
    )
    moved = dataclasses.replace(first_result, particles={"theta": first_result.particles["theta"] + 0.5})
    wrong = bounds.evidence_ratio(first, moved, second, second_result)
    assert abs(wrong.value - (first_z - second_z)) > 4 * wrong.se, "draws of another law"


def test_results_must_match() -> None:
    with jax.enable_x64(True):
        first, result, _ = result_and_exact(1.0, 1)
    names = ("log_weights", "log_z_runs", "log_z_variance", "status_runs", "num_steps")
    cut: dict[str, Any] = {name: getattr(result, name)[:3] for name in names}
    fewer = dataclasses.replace(result, **cut, particles={"theta": result.particles["theta"][:3]})
    with pytest.raises(ArgumentError, match="numbers of runs"):
        bounds.evidence_ratio(first, result, first, fewer)
    renamed = dataclasses.replace(result, particles={"beta": result.particles["theta"]})
    with pytest.raises(ArgumentError, match="same parameters"):
        bounds.evidence_ratio(first, result, first, renamed)
