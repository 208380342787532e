"""Exact laws of whole paths given the data, for the models of `exact_models`: by enumeration, and by one Gaussian."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from smcinfer.core.compose import Composed, Guided, compose, process
from tests.exact_models import EMISSION, INITIAL, NUM_STATES, OBSERVATIONS, TRANSITION

A, Q, R = 0.9, 0.4, 0.6


@cache
def hmm_paths() -> tuple[np.ndarray, np.ndarray]:
    """All 3^6 paths of the finite chain and their exact posterior probabilities."""
    paths = np.array(list(itertools.product(range(NUM_STATES), repeat=len(OBSERVATIONS))))
    weights = INITIAL[paths[:, 0]] * EMISSION[paths[:, 0], OBSERVATIONS[0]]
    for t in range(1, len(OBSERVATIONS)):
        weights = weights * TRANSITION[paths[:, t - 1], paths[:, t]] * EMISSION[paths[:, t], OBSERVATIONS[t]]
    return paths, weights / weights.sum()


def draw_hmm_path(key: jax.Array) -> jax.Array:
    """An exact draw of the chain's path given the observations."""
    paths, weights = hmm_paths()
    chosen = jax.random.categorical(key, jnp.log(jnp.asarray(weights)))
    return jnp.asarray(paths)[chosen]


def hmm_marginals() -> np.ndarray:
    """P(x_t = k | all observations), (T+1, 3)."""
    paths, weights = hmm_paths()
    return np.stack([np.bincount(column, weights, NUM_STATES) for column in paths.T])


def walk_data(num_steps: int) -> np.ndarray:
    """What the linear Gaussian model is shown."""
    t = np.arange(num_steps + 1)
    return np.sin(t / 3.0) + 0.3 * np.cos(t * 1.7)


@cache
def walk_posterior(num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact mean and covariance of x_0 .. x_T given the data."""
    size = num_steps + 1
    precision = np.zeros((size, size))
    precision[0, 0] += 1.0
    for t in range(1, size):
        precision[t - 1 : t + 1, t - 1 : t + 1] += np.array([[A * A, -A], [-A, 1.0]]) / Q**2
    precision += np.eye(size) / R**2
    covariance = np.linalg.inv(precision)
    return covariance @ walk_data(num_steps) / R**2, covariance


def walk_prior(num_steps: int) -> np.ndarray:
    """Covariance of x_0 .. x_T before any data; the mean is zero."""
    lower = np.linalg.inv(np.eye(num_steps + 1) - A * np.eye(num_steps + 1, k=-1))
    return lower @ np.diag([1.0] + [Q**2] * num_steps) @ lower.T


def gaussian_log_z(data: np.ndarray) -> float:
    """Exact log likelihood of any data: one Gaussian of all of them."""
    size = len(data)
    covariance = walk_prior(size - 1) + R**2 * np.eye(size)
    square = data @ np.linalg.solve(covariance, data)
    return float(-0.5 * (size * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + square))


def walk_log_z(num_steps: int) -> float:
    """Exact log likelihood of the data of `walk`."""
    return gaussian_log_z(walk_data(num_steps))


def draw_walk_path(num_steps: int):  # noqa: ANN201
    """``key -> path``: exact draws of the walk given its data."""
    mean, covariance = walk_posterior(num_steps)
    factor = jnp.asarray(np.linalg.cholesky(covariance))
    return lambda key: jnp.asarray(mean) + factor @ jax.random.normal(key, (num_steps + 1,))


def walk(num_steps: int, kind: str = "bootstrap") -> Composed:
    """The linear Gaussian model of `exact_models.linear_gaussian`, with the bootstrap or the optimal guided proposal."""
    observed = jnp.asarray(walk_data(num_steps))
    base = process(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(A * x, Q))

    def guide(t, x):  # noqa: ANN001, ANN202
        variance = 1 / (1 / Q**2 + 1 / R**2)
        return dist.Normal(variance * (A * x / Q**2 + observed[t] / R**2), variance**0.5)

    def potential(t, x):  # noqa: ANN001, ANN202
        return dist.Normal(x, R).log_prob(observed[t])

    first = dist.Normal(observed[0] / (1 + R**2), (R**2 / (1 + R**2)) ** 0.5)
    proposal = Guided(base, guide, first) if kind == "guided" else None
    return compose(base, potential, proposal=proposal, num_steps=num_steps)
