"""Frames, guidance and the rare on a mixture in the plane, where sums over a grid know every answer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer import diffusion
from smcinfer.models import gaussian_mixtures
from smcinfer.run.runner import run
from tests.statistics import assert_mean_one_log, assert_weighted_mean

pytestmark = pytest.mark.slow

SCHEDULE = diffusion.VariancePreserving()
MEANS, STD = [[-1.5, 0.0], [1.5, 1.0], [0.5, -1.5]], 0.5
LAW = gaussian_mixtures.mixture(MEANS, STD, [0.5, 0.2, 0.3])
AXIS = np.linspace(-4.2, 4.2, 43)
CELL = (AXIS[1] - AXIS[0]) ** 2
GRID = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1).reshape(-1, 2)
# What 100 steps of a chain that knows the size of its data may be off, nats.
KERNEL, BIAS = diffusion.DDPM(1.5), 0.04


def on_grid(function: Any) -> np.ndarray:
    return np.asarray(jax.vmap(function)(jnp.asarray(GRID, float)), np.float64)


def normal(x: np.ndarray, means: np.ndarray, std: float) -> np.ndarray:
    """Densities of every point under every mean."""
    squares = np.sum((x[:, None] - means) ** 2, axis=-1)
    return np.exp(-0.5 * squares / std**2) / (2 * np.pi * std**2)


def assert_near(target: Any, exact: float) -> None:
    """Z_hat is unbiased up to the bias of the chain, and its standard error is small itself."""
    log_z = np.asarray(run(jax.random.key(0), target, 1000, num_runs=16, history="none").log_z)
    assert np.exp(log_z - exact).std(ddof=1) < 4 * 0.03
    assert_mean_one_log(log_z, exact, bias=BIAS)


def test_guidance_is_the_product_it_means() -> None:
    """Powers of a law and of its restriction to two modes, by exact ratios."""
    some = gaussian_mixtures.mixture(MEANS[:2], STD, [0.3, 0.7])
    density = on_grid(lambda x: -0.5 * LAW.log_density(x) + 1.5 * some.log_density(x))
    exact = float(np.log(np.exp(density).sum() * CELL))
    models = some.model(SCHEDULE), LAW.model(SCHEDULE)
    target = diffusion.guided(
        *models, 1.5, num_steps=40, data_std=1.5, log_densities=[some.noised(SCHEDULE), LAW.noised(SCHEDULE)]
    )
    done = run(jax.random.key(0), target, 200, num_runs=100, history="none")
    assert_mean_one_log(done.log_z, exact)
    with pytest.raises(AssertionError):
        assert_mean_one_log(done.log_z, exact + 0.2)
    nearest = lambda x: np.asarray(LAW.nearest(jnp.asarray(x))).ravel()  # noqa: E731
    masses = np.bincount(nearest(GRID), np.exp(density - exact) * CELL, 3)
    particles: Any = done.particles
    modes = nearest(particles.state.x.reshape(-1, 2)).reshape(100, 200)
    shares = np.sum(np.exp(done.log_weights)[..., None] * (modes[..., None] == np.arange(3)), axis=1)
    assert_weighted_mean(done.log_z, exact, shares, masses)


def test_the_rare_of_a_mixture() -> None:
    model = LAW.model(SCHEDULE)
    rare = diffusion.low_density(model, 0.3)
    density, reward = on_grid(LAW.log_density), on_grid(rare)
    # What is rewarded is rare: the reward falls as the density grows.
    assert np.corrcoef(density, reward)[0, 1] < -0.5
    exact = float(np.log(np.sum(np.exp(density + reward / 0.5)) * CELL))
    assert abs(exact) > 4 * BIAS
    assert_near(diffusion.alignment(model, rare, 0.5, kernel=KERNEL), exact)


def test_frames_of_a_mixture() -> None:
    """Two frames, the second from the noised turn of the first: sums over the grid for the noised point and both frames."""
    warm_time = 0.35
    alpha, sigma = (float(f(jnp.asarray(warm_time))) for f in (SCHEDULE.alpha, SCHEDULE.sigma))
    turn = lambda x: jnp.stack([-x[1], x[0]])  # noqa: E731

    def reward(k: Any, x: jax.Array) -> jax.Array:
        return -jnp.sum((x - jnp.where(k == 0, 1.0, -1.0)) ** 2)

    q = np.exp(on_grid(LAW.log_density)) * CELL
    first, second = (np.exp(on_grid(lambda x, k=k: reward(k, x))) for k in (0, 1))
    # The law of a frame given the noised point, and what it earns on average.
    seen = normal(GRID, GRID, sigma / alpha) * q
    earned = seen @ second / np.maximum(seen.sum(axis=1), 1e-300)
    moved = normal(GRID, np.stack([-GRID[:, 1], GRID[:, 0]], axis=1), sigma / alpha) * CELL
    exact = float(np.log(np.sum(q * first * (earned @ moved))))
    unmoved = float(np.log(np.sum(q * first * (earned @ (normal(GRID, GRID, sigma / alpha) * CELL)))))
    assert abs(exact - unmoved) > 4 * BIAS
    target = diffusion.sequence(
        LAW.model(SCHEDULE), lambda k, x: turn(x), reward, 2, warm_time=warm_time, num_warm_steps=60, kernel=KERNEL
    )
    assert_near(target, exact)
