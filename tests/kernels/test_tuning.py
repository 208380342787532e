"""What kernels learn from a cloud: moments, a factor that always exists, a step that follows acceptance."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from smcinfer.kernels import tuning
from tests.statistics import assert_mean

fit = jax.jit(tuning.fit_cloud)


def cloud_of(num: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws from N(m, A A^T), with random log weights that do not depend on them; and the covariance."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(dim, dim)) * np.logspace(-2, 2, dim)[:, None]
    draws = rng.normal(size=(num, dim)) @ factor.T + rng.normal(size=dim)
    return draws, rng.normal(size=num), factor @ factor.T


def test_moments_of_a_weighted_cloud(precision: str) -> None:
    draws, log_weights, _ = cloud_of(500, 4)
    cloud = fit(tuning.unit_cloud(4, "diagonal"), jnp.asarray(draws, float), jnp.asarray(log_weights, float))
    weights = np.exp(log_weights)
    rtol = 1e-4 if precision == "float32" else 1e-10
    np.testing.assert_allclose(cloud.mean, np.average(draws, axis=0, weights=weights), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(cloud.scale, np.sqrt(np.diag(np.cov(draws.T, aweights=weights))), rtol=rtol)


def test_particles_of_weight_zero_do_not_count() -> None:
    draws, log_weights, _ = cloud_of(100, 3)
    log_weights[:30] = -np.inf
    clean = fit(tuning.unit_cloud(3), jnp.asarray(draws, float), jnp.asarray(log_weights, float))
    draws[:20], draws[20:30] = np.nan, np.inf
    wild = fit(tuning.unit_cloud(3), jnp.asarray(draws, float), jnp.asarray(log_weights, float))
    for one, other in zip(jax.tree.leaves(clean), jax.tree.leaves(wild), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("metric", tuning.METRICS)
def test_whitening_recovers_a_unit_cloud(metric: str) -> None:
    draws, _, covariance = cloud_of(20_000, 5)
    if metric == "diagonal":
        draws = (draws - draws.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(covariance)).T * [1, 2, 3, 4, 50]
    cloud = fit(tuning.unit_cloud(5, metric), jnp.asarray(draws, float), jnp.zeros(len(draws)))
    white, back = jax.jit(jax.vmap(lambda x: (cloud.whiten(x), cloud.mean + cloud.stretch(cloud.whiten(x)))))(
        jnp.asarray(draws, float)
    )
    np.testing.assert_allclose(np.cov(np.asarray(white).T), np.eye(5), atol=0.05)
    np.testing.assert_allclose(back, draws, rtol=1e-3, atol=1e-3 * np.abs(draws).max())
    vector, other = jnp.arange(5.0), jnp.asarray([1.0, -1.0, 2.0, 0.5, 3.0])
    assert float(other @ cloud.stretch(vector)) == pytest.approx(float(cloud.pull_back(other) @ vector), rel=1e-4)


def degenerate_clouds() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Clouds of 200 points in 12 dimensions, and their log weights."""
    rng = np.random.default_rng(1)
    draws, even = rng.normal(size=(200, 12)), np.zeros(200)

    def first(num: int) -> np.ndarray:
        return np.where(np.arange(200) < num, 0.0, -np.inf)

    flat = draws.copy()
    flat[:, 3] = 7.0
    return {
        "fewer points than dimensions": (draws, first(5)),
        "as many points as dimensions": (draws, first(12)),
        "a line": (draws[:, :1] * np.ones(12) * np.logspace(-3, 3, 12), even),
        "a plane": (draws[:, :2] @ rng.normal(size=(2, 12)), even),
        "a coordinate without spread": (flat, even),
        "one point": (np.ones((200, 12)), even),
        "one particle has all the weight": (draws, first(1)),
        "no weight at all": (draws, first(0)),
        "far from the origin": (draws + 1e4, even),
    }


@pytest.mark.dealt
@pytest.mark.parametrize("metric", tuning.METRICS)
def test_the_factor_exists_however_degenerate_the_cloud(metric: str, precision: str) -> None:
    whiten = jax.jit(lambda cloud, draws: jax.vmap(cloud.whiten)(draws))
    for name, (draws, log_weights) in degenerate_clouds().items():
        cloud = fit(tuning.unit_cloud(12, metric), jnp.asarray(draws, float), jnp.asarray(log_weights, float))
        assert cloud.scale.dtype == precision
        scale, white = np.asarray(cloud.scale), np.asarray(whiten(cloud, jnp.asarray(draws, float)))
        assert np.all(np.isfinite(scale)) and np.all(np.isfinite(cloud.mean)) and np.all(np.isfinite(white)), name
        assert np.all((scale if metric == "diagonal" else np.diag(scale)) > 0), name


def test_a_cloud_without_spread_keeps_the_previous_shape() -> None:
    draws, log_weights, covariance = cloud_of(400, 3)
    before = fit(tuning.unit_cloud(3), jnp.asarray(draws, float), jnp.asarray(log_weights, float))
    after = fit(before, jnp.ones((50, 3)), jnp.zeros(50))
    np.testing.assert_allclose(jnp.linalg.norm(after.scale, axis=1), jnp.linalg.norm(before.scale, axis=1), rtol=1e-5)
    np.testing.assert_allclose(after.mean, np.ones(3), rtol=1e-5)


def test_shrinkage_follows_the_evidence() -> None:
    strong = jnp.asarray([[1.0, 0.9], [0.9, 1.0]])
    weak = jnp.asarray([[1.0, 0.05], [0.05, 1.0]])
    assert float(tuning.shrinkage(strong, jnp.asarray(1e4))) < 1e-3
    assert float(tuning.shrinkage(weak, jnp.asarray(20.0))) == 1.0
    assert float(tuning.shrinkage(jnp.eye(3), jnp.asarray(100.0))) == 1.0
    amounts = [float(tuning.shrinkage(strong, jnp.asarray(float(n)))) for n in (3, 30, 300)]
    assert amounts == sorted(amounts, reverse=True)


def test_shrinkage_brings_the_factor_nearer_the_truth() -> None:
    dim, num = 20, 25
    truth = np.eye(dim)
    shrunk, plain = [], []
    for seed in range(30):
        draws = jnp.asarray(np.random.default_rng(seed).normal(size=(num, dim)), float)
        scale = np.asarray(fit(tuning.unit_cloud(dim), draws, jnp.zeros(num)).scale)
        shrunk.append(np.linalg.norm(scale @ scale.T - truth))
        plain.append(np.linalg.norm(np.cov(draws.T) - truth))
    assert max(shrunk) < min(plain)


def step_after(acceptance: Any, *, target: float = 0.5, order: float = 1, step: float = 1.0) -> float:
    value = tuning.feedback(
        jnp.asarray(step, float), jnp.asarray(acceptance, float), target=target, order=order, lower=1e-3, upper=50.0
    )
    assert value.dtype == jnp.result_type(float)
    return float(value)


def test_feedback_moves_toward_the_target_and_stays_bounded(precision: str) -> None:
    assert step_after(0.5) == pytest.approx(1.0, rel=1e-5)
    assert step_after(0.2) < 1.0 < step_after(0.8)
    assert step_after(jnp.nan) == 1.0
    assert 1 / 3 - 1e-5 <= step_after(0.0) < 0.5 and step_after(1.0) == pytest.approx(3.0, rel=1e-5)
    assert step_after(1.0, step=40.0) == 50.0 and step_after(0.0, step=1.2e-3) == pytest.approx(1e-3)


@pytest.mark.parametrize(("order", "actual_order"), [(1, 1), (1, 2), (2, 2), (2, 3), (2, 4), (3, 3), (3, 4), (3, 7)])
def test_feedback_settles_on_its_law_and_on_steeper_ones(order: int, actual_order: int) -> None:
    def law(step: float) -> float:
        return float(2 * norm.cdf(-0.8 * step**actual_order))

    step, target = 0.2, law(1.0)
    for _ in range(20):
        step = step_after(law(step), target=target, order=order, step=step)
    assert step == pytest.approx(1.0, rel=0.02)


def test_variances_of_a_weighted_cloud_are_unbiased() -> None:
    rng = np.random.default_rng(4)
    draws = jnp.asarray(rng.normal(size=(4000, 6, 2)), float)
    log_weights = jnp.asarray(rng.normal(size=6), float)
    fits = jax.jit(jax.vmap(tuning.fit_cloud, in_axes=(None, 0, None)))(
        tuning.unit_cloud(2, "diagonal"), draws, log_weights
    )
    variances = np.asarray(fits.scale) ** 2
    assert_mean(variances, 1.0)
    # Dividing by the plain sum of weights is biased low: the check must see it.
    weights = np.exp(log_weights) / np.exp(log_weights).sum()
    with pytest.raises(AssertionError, match="mean differs"):
        assert_mean(variances * (1 - np.sum(weights**2)), 1.0)
