"""Affine coordinates of slice kernels: the target's own, or those in which the particle cloud is standard."""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.weights import ess, normalise
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels import tuning
from smcinfer.kernels.base import Position

METRIC_OF = {True: "dense", "diagonal": "diagonal"}

# Ten bring even a Cauchy cloud from its covariance, off by a factor of thousands, to the fixed point.
NUM_REWEIGHTINGS = 10


class SliceParams(eqx.Module):
    """Parameters of a slice kernel.

    Attributes:
        cloud: whose whitened coordinates the kernel works in; ``None`` for the target's own.
        width: Float[""], first width of an interval, in those coordinates.
    """

    cloud: tuning.Cloud | None
    width: Scalar


def check_affine(affine: object) -> None:
    """Raise `ArgumentError` unless ``affine`` is True, "diagonal" or False."""
    if affine not in (True, "diagonal", False):
        raise ArgumentError(
            "unknown affine coordinates",
            expected='True (whitened by the cloud), "diagonal" (by its standard deviations) or False (none)',
            got=repr(affine),
        )


def check_width(width: float | None) -> None:
    """Raise `ArgumentError` unless the width is positive or to be tuned."""
    if width is not None and not 0.0 < width < float("inf"):
        raise ArgumentError("width is out of range", expected="0 < width < inf, or None to tune it", got=width)


def check_caps(**caps: int) -> None:
    """Raise `ArgumentError` unless every bound is at least one."""
    for name, value in caps.items():
        validate.count(name, value)


def first_cloud(dim: int, affine: bool | str) -> tuning.Cloud | None:
    """The cloud of a standard normal, or ``None`` where the kernel keeps the target's coordinates."""
    return tuning.unit_cloud(dim, METRIC_OF[affine]) if affine else None


def refit(
    cloud: tuning.Cloud | None, positions: Float[Array, "n dim"], log_weights: Float[Array, " n"]
) -> tuning.Cloud | None:
    r"""Location and shape of a weighted cloud, where there is one to fit, whatever its tails.

    .. math:: m = \frac{\sum_i W_i u_i x_i}{\sum_i W_i u_i}, \qquad
        C = \frac{\sum_i W_i u_i (x_i - m)(x_i - m)^T}{\sum_i W_i u_i}, \qquad
        u_i = \frac{1 + d}{1 + (x_i - m)^T C^{-1} (x_i - m)}

    the maximum likelihood fit of a multivariate Cauchy, by fixed-point iteration from the mean and covariance. A slice
    kernel goes where tails are heavy; there the covariance is that of the few farthest particles (on a 100-dimensional
    Cauchy it raised the autocorrelation time of the log radius from 2 to 1000). Near a Gaussian the weights u are all
    about one.

    Args:
        cloud: the fit so far, which says whether the shape is full or diagonal; ``None`` where none is wanted.
        positions: Float["n dim"], the particles.
        log_weights: Float["n"], normalised, nats.

    Source: Kent, Tyler & Vardi (1994).
    """
    if cloud is None:
        return None
    alive = log_weights > -jnp.inf

    def reweigh(_: Array, fitted: tuning.Cloud) -> tuning.Cloud:
        squared = jnp.sum(all_whitened(fitted, positions) ** 2, axis=1)
        farness = jnp.log((1.0 + squared) / (1.0 + positions.shape[1])).astype(log_weights.dtype)
        usable = alive & jnp.isfinite(farness)
        return tuning.fit_cloud(cloud, positions, jnp.where(usable, log_weights - farness, -jnp.inf))

    return jax.lax.fori_loop(0, NUM_REWEIGHTINGS, reweigh, tuning.fit_cloud(cloud, positions, log_weights))


def whiten(cloud: tuning.Cloud | None, position: Position) -> Position:
    """A point in the kernel's coordinates."""
    return position if cloud is None else cloud.whiten(position)


def stretch(cloud: tuning.Cloud | None, vector: Position) -> Position:
    """A difference of two points, from the kernel's coordinates to the target's."""
    return vector if cloud is None else cloud.stretch(vector)


def centred(cloud: tuning.Cloud | None, offset: Position) -> Position:
    """The point at an offset (in the target's coordinates) from the origin of the kernel's coordinates."""
    return offset if cloud is None else cloud.mean.astype(offset.dtype) + offset


def all_whitened(cloud: tuning.Cloud | None, positions: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
    """`whiten` of every particle."""
    return jax.vmap(lambda position: whiten(cloud, position))(positions)


def unit_vector(vector: Position) -> Position:
    """The vector over its length."""
    return vector / jnp.sqrt(jnp.sum(vector**2))


def spread_along_lines(
    previous: Scalar, cloud: tuning.Cloud | None, positions: Float[Array, "n dim"], log_weights: Float[Array, " n"]
) -> Scalar:
    r"""The cloud's typical spread along a random line through its mean, in the kernel's coordinates.

    .. math:: \exp\bigl(\mathrm{mean} \log |z_i - \bar z| \bigr) / \sqrt d

    A geometric mean: it is finite for all tails.

    Args:
        previous: Float[""], what is kept where the cloud has no spread.
        cloud: whose whitened coordinates z are; ``None`` for the target's own.
        positions: Float["n dim"], the particles.
        log_weights: Float["n"], normalised, nats.
    """
    whitened = all_whitened(cloud, positions)
    weights = jnp.exp(normalise(log_weights)[0]).astype(whitened.dtype)
    alive = (weights > 0)[:, None]
    mean = jnp.matmul(weights, jnp.where(alive, whitened, 0.0), precision="highest")
    log_distances = 0.5 * jnp.log(jnp.sum((whitened - mean) ** 2, axis=1) / whitened.shape[1])
    measured = jnp.exp(jnp.sum(weights * jnp.where(weights > 0, log_distances, 0.0)))
    # A spread below the rounding of the mean is the rounding's.
    resolution = 8 * jnp.finfo(mean.dtype).eps * whitened.shape[0] ** 0.5 * jnp.max(jnp.abs(mean))
    usable = (ess(log_weights) >= tuning.MIN_EFFECTIVE) & (measured > resolution) & jnp.isfinite(measured)
    return jnp.where(usable, measured, previous).astype(previous.dtype)
