"""What a weighted particle cloud teaches a kernel: location, shape, and how far to step.

The covariance is shrunk toward its diagonal, so that its Cholesky factor exists however small or
degenerate the cloud. The step size follows the acceptance rate. Both keep their previous values
wherever the cloud has nothing to say (no spread, no effective particles, no move made yet).
"""

import math
from statistics import NormalDist

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import erf_inv, optimization_barrier
from jax.scipy.linalg import solve_triangular

from smcinfer.core.weights import normalise_and_measure
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.ground.errors import ArgumentError

METRICS = ("dense", "diagonal")

# Two effective particles fix a line, not a spread: below this the shape is left as it was.
MIN_EFFECTIVE = 2.0

# What share of the way to the acceptance target one update goes where the law of `feedback` holds.
DAMPING = 0.7


class Cloud(eqx.Module):
    """Location and shape of a particle cloud.

    Attributes:
        mean: Float["dim"].
        scale: Float["dim dim"], lower Cholesky factor of the covariance, or Float["dim"], standard
            deviations of a diagonal one.
    """

    mean: Float[Array, " dim"]
    scale: Float[Array, "dim dim"] | Float[Array, " dim"]

    def stretch(self, vector: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """``scale @ vector``: from whitened coordinates to the target's."""
        return self._times(self.scale, vector)

    def pull_back(self, vector: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """``scale.T @ vector``: a gradient in the target's coordinates seen from the whitened ones."""
        return self._times(self.scale.T, vector)

    def whiten(self, position: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Coordinates in which the cloud has mean zero and unit covariance."""
        centred = position - self.mean.astype(position.dtype)
        scale = self.scale.astype(position.dtype)
        if scale.ndim == 1:
            return centred / scale
        # One inverse for all particles: to solve for each of them takes several times as long.
        inverse = solve_triangular(scale, jnp.eye(scale.shape[0], dtype=scale.dtype), lower=True)
        return self._times(inverse, centred)

    def covariance(self) -> Float[Array, "dim dim"]:
        """The covariance as a matrix, whatever the metric."""
        scale = jnp.diag(self.scale) if self.scale.ndim == 1 else self.scale
        return jnp.matmul(scale, scale.T, precision="highest")

    @staticmethod
    def _times(scale: Array, vector: Array) -> Array:
        scale = scale.astype(vector.dtype)
        return scale * vector if scale.ndim == 1 else jnp.matmul(scale, vector, precision="highest")


class Scaled(eqx.Module):
    """Parameters of a kernel that steps in whitened coordinates.

    Attributes:
        cloud: the shape that whitens.
        step_size: Float[""], in units of the cloud's spread.
    """

    cloud: Cloud
    step_size: Scalar


def check_metric(metric: str) -> None:
    """Raise `ArgumentError` unless ``metric`` is one of `METRICS`."""
    if metric not in METRICS:
        raise ArgumentError("unknown metric", expected=" or ".join(METRICS), got=repr(metric))


def check_acceptance(target: float) -> None:
    """Raise `ArgumentError` unless an acceptance target lies strictly between zero and one."""
    validate.number("target_acceptance", target, above=0.0, below=1.0)


def unit_cloud(dim: int, metric: str = "dense") -> Cloud:
    """The cloud of a standard normal, where tuning starts."""
    dtype = jnp.result_type(float)
    scale = jnp.ones(dim, dtype) if metric == "diagonal" else jnp.eye(dim, dtype=dtype)
    return Cloud(jnp.zeros(dim, dtype), scale)


def fit_cloud(previous: Cloud, positions: Float[Array, "n dim"], log_weights: Float[Array, " n"]) -> Cloud:
    """Mean and shrunk covariance factor of a weighted cloud, in the metric of ``previous``.

    The correlations are shrunk toward zero by `shrinkage`, the variances not at all. A coordinate
    without spread keeps its previous standard deviation.

    Args:
        previous: the cloud to fall back on; gives structure, metric and dtypes.
        positions: Float["n dim"].
        log_weights: Float["n"], nats, need not be normalised.
    """
    mean, centred, weights, effective = _centre(positions, log_weights)
    deviation = jnp.sqrt(jnp.matmul(weights, centred**2, precision="highest") * _unbias(effective))
    known = previous.scale if previous.scale.ndim == 1 else jnp.linalg.norm(previous.scale, axis=1)
    # A spread below the rounding of the mean is the rounding's.
    resolution = 8 * jnp.finfo(mean.dtype).eps * jnp.abs(mean)
    spread = (effective >= MIN_EFFECTIVE) & jnp.isfinite(deviation) & (deviation > resolution)
    deviation = jnp.where(spread, deviation, known)
    scale = deviation if previous.scale.ndim == 1 else _cholesky(centred / deviation, weights, deviation, effective)
    # A cloud of points without a finite mean (all weight on an overflow) teaches nothing.
    usable = jnp.all(jnp.isfinite(mean))
    return Cloud(
        jnp.where(usable, mean, previous.mean).astype(previous.mean.dtype),
        jnp.where(usable, scale, previous.scale).astype(previous.scale.dtype),
    )


def shrinkage(correlation: Float[Array, "dim dim"], effective: Array) -> Scalar:
    r"""How far to shrink the off-diagonal correlations of a cloud toward zero, in [0, 1].

    .. math:: \hat\lambda = \frac{\sum_{i \ne j} (1 - r_{ij}^2)^2 / (n - 1)}{\sum_{i \ne j} r_{ij}^2}

    the estimated variance of the correlations over their sum of squares, with the large-sample
    variance of a normal correlation and the effective sample size for n; never less than what a
    Cholesky factorisation needs to survive rounding.

    Args:
        correlation: Float["dim dim"], unit diagonal.
        effective: Float[""], effective sample size of the cloud, particles.

    Source: Schaefer & Strimmer (2005), target "diagonal, unequal variance".
    """
    dim = correlation.shape[0]
    squared = jnp.where(jnp.eye(dim, dtype=bool), 0.0, correlation**2)
    noise = jnp.where(jnp.eye(dim, dtype=bool), 0.0, (1.0 - squared) ** 2) / jnp.maximum(effective - 1.0, 1.0)
    signal = jnp.sum(squared)
    intensity = jnp.where(signal > 0, jnp.sum(noise) / jnp.where(signal > 0, signal, 1.0), 1.0)
    floor = 10 * dim * jnp.finfo(correlation.dtype).eps
    return jnp.clip(intensity, min(float(floor), 1.0), 1.0)


def feedback(
    step_size: Scalar,
    acceptance: Array,
    *,
    target: float,
    order: float | int,
    lower: float | int,
    upper: float | int,
) -> Scalar:
    r"""Step size for the next move, from the acceptance of the last.

    In high dimension the acceptance of a step :math:`h` is :math:`2 \Phi(-k h^p)`, with p = 1 for random
    walks, 2 for Hamiltonian and 3 for Langevin proposals. Solving for the step that meets the target,

    .. math:: \log h' = \log h + \frac{c}{p} \log \frac{\Phi^{-1}(a^*/2)}{\Phi^{-1}(a/2)},

    is a multiplicative rule. With c = 1 it would land in one move where the law holds, and swing about
    the target where the acceptance falls faster (seen: p near 3.5 for a Hamiltonian proposal between two wells);
    c = 0.7 settles on both. One update changes the step by a factor of three at most.

    Args:
        step_size: Float[""], the step of the last move.
        acceptance: Float[""], its mean acceptance in [0, 1]; NaN leaves the step as it is.
        target: the acceptance to reach.
        order: p above.
        lower, upper: bounds of the step.

    Source: Roberts & Rosenthal (2001); Beskos, Pillai, Roberts, Sanz-Serna & Stuart (2013).
    """
    measured = jnp.clip(acceptance, 0.01, 0.99)
    # The inverse of 1 - erf, whose polynomials are shorter than those of the normal quantile.
    log_factor = jnp.log(NormalDist().inv_cdf(1.0 - target / 2) / (math.sqrt(2.0) * erf_inv(1.0 - measured)))
    log_factor = DAMPING / order * log_factor
    log_factor = jnp.clip(jnp.where(jnp.isnan(log_factor), 0.0, log_factor), -math.log(3.0), math.log(3.0))
    # The barrier keeps XLA from computing the step again for each use.
    return optimization_barrier(jnp.clip(step_size * jnp.exp(log_factor), lower, upper).astype(step_size.dtype))


def _centre(positions: Array, log_weights: Array) -> tuple[Array, Array, Array, Array]:
    """Weighted mean, positions about it, normalised weights and their ESS; weight zero counts as being at the mean."""
    log_weights, _, effective = normalise_and_measure(log_weights)
    weights = jnp.exp(log_weights).astype(positions.dtype)
    alive = (weights > 0)[:, None]
    mean = jnp.matmul(weights, jnp.where(alive, positions, 0.0), precision="highest")
    return mean, jnp.where(alive, positions - mean, 0.0), weights, effective


def _unbias(effective: Array) -> Array:
    return jnp.where(effective > 1.0, effective / jnp.where(effective > 1.0, effective - 1.0, 1.0), 0.0)


def _cholesky(standardised: Array, weights: Array, deviation: Array, effective: Array) -> Array:
    """Cholesky factor of the shrunk covariance, from coordinates divided by their deviations."""
    dim = standardised.shape[1]
    correlation = jnp.matmul((standardised * weights[:, None]).T, standardised, precision="highest")
    correlation = jnp.clip(correlation * _unbias(effective), -1.0, 1.0)
    kept = 1.0 - shrinkage(correlation, effective)
    shrunk = jnp.where(jnp.eye(dim, dtype=bool), 1.0, kept * correlation)
    factor = jax.lax.linalg.cholesky(shrunk, symmetrize_input=False)
    # Clipping correlations of a near-singular cloud may leave an indefinite matrix: its diagonal then serves.
    sound = jnp.all(jnp.isfinite(factor))
    return deviation[:, None] * jnp.where(sound, factor, jnp.eye(dim, dtype=factor.dtype))
