"""Arithmetic on weighted runs: means within a run, over runs, their error, and draws."""

import math

import jax
import numpy as np
from jaxtyping import Float, Int

from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import ArgumentError

Moment = np.ndarray | np.floating
"""A mean over particles, of the quantity's shape; numpy makes a scalar of the shape ()."""


def weighted_mean(
    values: np.ndarray, weights: Float[np.ndarray, "num_runs num_particles"]
) -> Float[np.ndarray, "num_runs ..."]:
    """Mean of each run's values; what a particle of weight zero holds, NaN included, does not count."""
    flat = np.asarray(values, dtype=np.float64).reshape(*weights.shape, -1)
    flat = np.where(weights[..., None] > 0, flat, 0.0)
    return np.einsum("rn,rnk->rk", weights, flat).reshape(weights.shape[0], *values.shape[2:])


def effective_sizes(log_weights: Float[np.ndarray, "num_runs num_particles"]) -> Float[np.ndarray, " num_runs"]:
    """Effective sample size of each run's normalised weights, in particles."""
    return np.exp(-np.logaddexp.reduce(2.0 * log_weights.astype(np.float64), axis=1))


def combine_runs(means: Float[np.ndarray, "num_runs ..."], log_z: Float[np.ndarray, " num_runs"]) -> Moment:
    """Mean over runs, each weighing in proportion to its Z_hat; NaN where no run found any weight."""
    total = np.logaddexp.reduce(log_z)
    if not np.isfinite(total):
        return np.full(means.shape[1:], math.nan)[()]
    shares = np.exp(log_z - total)
    alive = shares > 0
    return np.tensordot(shares[alive], means[alive], axes=1)[()]


def jackknife_se(means: Float[np.ndarray, "num_runs ..."], log_z: Float[np.ndarray, " num_runs"]) -> Moment:
    """Standard error of `combine_runs` by leaving out one run at a time; NaN for a single run."""
    num_runs = log_z.size
    if num_runs < 2:
        return np.full(means.shape[1:], math.nan)[()]
    kept = ~np.eye(num_runs, dtype=bool)
    without = np.stack([combine_runs(means[row], log_z[row]) for row in kept])
    return np.sqrt((num_runs - 1) * np.var(without, axis=0))


def resample(
    key: KeyArray | int, log_weights: Float[np.ndarray, " n"], num_draws: int
) -> Int[np.ndarray, " num_draws"]:
    """Indices drawn systematically in proportion to the weights, in random order.

    Args:
        key: one random key, or the number to make one of.
        log_weights: Float["n"], unnormalised, nats.
        num_draws: indices to draw, at least one.

    Raises:
        ArgumentError: for fewer, or where every weight is zero.
    """
    if num_draws < 1:
        raise ArgumentError("num_draws is out of range", expected="at least 1", got=num_draws)
    if not np.isfinite(log_weights).any():
        raise ArgumentError("nothing to draw from: every particle of every run has weight zero")
    offset_key, order_key = jax.random.split(jax.random.key(key) if isinstance(key, int) else key)
    offset = float(jax.random.uniform(offset_key))
    wide = log_weights.astype(np.float64)
    cumulative = np.cumsum(np.exp(wide - np.logaddexp.reduce(wide)))
    # The last positive weight ends at one, whatever the rounding of the sum.
    points = (np.arange(num_draws) + offset) / num_draws * cumulative[-1]
    chosen = np.minimum(np.searchsorted(cumulative, points, side="right"), np.flatnonzero(np.isfinite(log_weights))[-1])
    return chosen[np.asarray(jax.random.permutation(order_key, num_draws))]
