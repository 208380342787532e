"""Synthetic likelihood where summaries are Gaussian: no bias however few simulations, log Z and draws in closed form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import smcinfer
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.static.synthetic import log_gaussian, synthetic_likelihood
from tests.signatures import unchecked
from tests.statistics import assert_mean, assert_mean_one_log

Y = np.array([1.1, 0.4])
MOVES = smcinfer.Moves(6, 1, 0.5)


def simulate(key: Any, theta: Any) -> Any:
    return theta + jax.random.normal(key, (2,))


def plug_in(x: Any, draws: Any) -> Any:
    """The biased estimate: the density at the draws' mean and covariance."""
    return dist.MultivariateNormal(draws.mean(axis=0), jnp.cov(draws, rowvar=False)).log_prob(x)


def test_the_density_is_estimated_without_bias(precision: str) -> None:
    scale = np.array([[2.0, 0.0], [0.5, 0.3]])
    draws = jax.random.normal(jax.random.key(0), (20_000, 7, 2), precision) @ jnp.asarray(scale.T, precision)
    x = jnp.asarray([1.0, 0.5], precision)
    exact = float(scipy.stats.multivariate_normal(np.zeros(2), scale @ scale.T).logpdf(np.asarray(x)))
    found = jax.vmap(log_gaussian, (None, 0))(x, draws)
    assert found.dtype == precision
    assert_mean_one_log(np.asarray(found), exact)
    with pytest.raises(AssertionError):
        assert_mean_one_log(np.asarray(jax.vmap(plug_in, (None, 0))(x, draws)), exact)


def test_log_z_and_draws_are_exact_with_few_simulations() -> None:
    target = synthetic_likelihood(dist.Normal(0.0, 1.0), simulate, Y, num_simulations=8, moves=MOVES)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=24, num_runs=400, progress=False)
    exact = float(scipy.stats.multivariate_normal(np.zeros(2), np.eye(2) + 1.0).logpdf(Y))
    assert_mean_one_log(result.log_z_runs, exact, num_comparisons=3)
    weights = np.exp(result.log_z_runs - exact)[:, None] * np.exp(result.log_weights)
    theta, centre = result.particles["theta"], Y.sum() / 3
    assert_mean(np.sum(weights * theta, axis=1), centre, num_comparisons=3)
    assert_mean(np.sum(weights * theta**2, axis=1), centre**2 + 1 / 3, num_comparisons=3)
    with pytest.raises(AssertionError):
        assert_mean(np.sum(weights * theta, axis=1), 0.0)
    assert set(result.particles) == {"theta"} and "evidence of the summaries" in str(result)


@pytest.mark.slow
def test_a_simulator_on_the_host_that_fails_is_far() -> None:
    def pair(seed: Any, theta: Any) -> np.ndarray:
        found = theta + np.random.default_rng(seed).normal(size=2)
        return found if found[0] < 4.0 else np.full(2, np.nan)

    hosted = smcinfer.on_host(pair, shape=(2,))
    target = synthetic_likelihood(dist.Normal(0.0, 1.0), hosted, Y, num_simulations=8, moves=MOVES)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=64, num_runs=2, progress=False)
    assert np.isfinite(result.log_z) and hosted.tally.undefined > 0


def test_wrong_calls_are_refused() -> None:
    law = dist.Normal(0.0, 1.0)
    with unchecked():
        with pytest.raises(ArgumentError, match="num_simulations"):
            synthetic_likelihood(law, simulate, Y, num_simulations=5)
        with pytest.raises(TargetError, match="makes other data"):
            synthetic_likelihood(law, simulate, 1.0)
        with pytest.raises(TargetError, match="summaries raised"):
            synthetic_likelihood(law, simulate, Y, summaries=lambda data: data["y"])
        with pytest.raises(ArgumentError, match="moves"):
            synthetic_likelihood(law, simulate, Y, moves=3)  # pyright: ignore
