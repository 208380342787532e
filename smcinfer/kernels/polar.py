r"""Polar coordinates :math:`x = c + L r \theta` and the density of the radius, or of its logarithm.

In d dimensions a density p of the whitened point has in :math:`(r, \theta)` the density :math:`r^{d-1} p(r \theta)`, and
in :math:`(s = \log r, \theta)` the density :math:`e^{d s} p(e^s \theta)`. The logarithm has no boundary at zero, and its
tails are geometric: one width serves radii of every size.
"""

import equinox as eqx
import jax.numpy as jnp

from smcinfer.core.weights import ess, normalise
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels import tuning
from smcinfer.kernels.affine import (
    SliceParams,
    all_whitened,
    check_affine,
    check_width,
    first_cloud,
    refit,
    unit_vector,
)
from smcinfer.kernels.base import KernelState, Position, TemperedDensity
from smcinfer.kernels.ticks import TickKernel

FORMS = ("log", "linear")
FLOOR = {"log": -jnp.inf, "linear": 0.0}

# The first interval in standard deviations of the log radius over the cloud.
WIDTH_IN_SPREADS = 3.0

# A linear width that reaches from the typical radius to e^4 times it is as good as any longer one.
LONGEST_LOG_WIDTH = 4.0


class PolarKernel(TickKernel):
    """What slice samplers in polar coordinates have in common: the form of the radius, coordinates and a width from the cloud.

    Attributes:
        radius: which radial coordinate is uniform on the slice, one of `FORMS`.
        affine: the coordinates: those of the cloud, its variances alone, or the target's own.
        width: of the first radial interval, in those coordinates; ``None`` spans the cloud's radii.
    """

    radius: str = eqx.field(default="log", static=True)
    affine: bool | str = eqx.field(default=True, static=True)
    width: float | int | None = eqx.field(default=None, static=True)

    def __check_init__(self) -> None:
        if self.radius not in FORMS:
            raise ArgumentError(
                "unknown form of the radius", expected=" or ".join(map(repr, FORMS)), got=repr(self.radius)
            )
        check_affine(self.affine)
        check_width(self.width)

    def parameters(self, dim: int) -> SliceParams:
        """A unit cloud, and a width of a factor e in the radius unless one is given."""
        check_dimension(dim)
        first = first_width(self.radius, dim)
        width = first if self.width is None else jnp.asarray(self.width, first.dtype)
        return SliceParams(first_cloud(dim, self.affine), width)

    def tune(
        self, params: SliceParams, positions: Float[Array, "n dim"], log_weights: Float[Array, " n"], acceptance: Scalar
    ) -> SliceParams:
        """The cloud's shape, and a width that spans its radii unless one is given."""
        del acceptance
        cloud = refit(params.cloud, positions, log_weights)
        if self.width is not None:
            return SliceParams(cloud, params.width)
        return SliceParams(cloud, tuned_width(self.radius, params.width, cloud, positions, log_weights))

    def log_polar_density(self, state: KernelState, coordinate: Array, density: TemperedDensity) -> Array:
        """Log density of the radial coordinate and the direction, nats, up to a constant.

        Args:
            state: the point, with both parts of its density.
            coordinate: Float[""], its radius or the logarithm of it.
            density: what the kernel leaves invariant.
        """
        log_density = density.combine(state.log_base, state.log_potential)
        return log_density + log_jacobian(self.radius, coordinate, state.position.shape[0])


def check_dimension(dim: int) -> None:
    """Raise `ArgumentError` where there is no direction to turn in."""
    if dim < 2:
        raise ArgumentError(
            "polar slice sampling needs a direction to turn in",
            expected="at least 2 dimensions",
            got=dim,
            hint="use hit_and_run: in one dimension it is the plain slice sampler",
        )


def log_jacobian(form: str, coordinate: Array, dim: int) -> Array:
    r"""Log of the volume element of a radius: :math:`(d-1) \log r` for the radius, :math:`d s` for its logarithm, nats.

    Args:
        form: of the radius, one of `FORMS`.
        coordinate: Float["..."], r or s.
        dim: d.
    """
    return dim * coordinate if form == "log" else (dim - 1) * jnp.log(coordinate)


def to_radius(form: str, coordinate: Array) -> Array:
    """The radius at a coordinate."""
    return jnp.exp(coordinate) if form == "log" else coordinate


def to_coordinate(form: str, radius: Array) -> Array:
    """The coordinate of a radius."""
    return jnp.log(radius) if form == "log" else radius


def split(whitened: Position) -> tuple[Scalar, Position, Array]:
    """Radius and direction of a point, and whether it has them.

    The centre has no direction, and its polar density is zero. A chain that stands there starts at radius one in
    any direction, as a particle of weight zero.
    """
    radius = jnp.sqrt(jnp.sum(whitened**2))
    defined = (radius > 0) & jnp.isfinite(radius)
    anywhere = jnp.zeros_like(whitened).at[0].set(1.0)
    radius = jnp.where(defined, radius, 1.0)
    return radius, jnp.where(defined, whitened / radius, anywhere), defined


def tangent(direction: Position, noise: Position) -> Position:
    """A uniform direction at right angles to ``direction``, from standard normal noise."""
    across = unit_vector(noise - direction * jnp.sum(direction * noise))
    # Noise that is nearly parallel leaves rounding errors along ``direction``, which would change the radius.
    return unit_vector(across - direction * jnp.sum(direction * across))


def tuned_width(
    form: str,
    width: Scalar,
    cloud: tuning.Cloud | None,
    positions: Float[Array, "n dim"],
    log_weights: Float[Array, " n"],
) -> Scalar:
    """A width that spans the cloud's radii; the one before where the cloud has no spread.

    It is taken from the logarithm of the radius, whose spread is finite for all tails.

    Args:
        form: of the radius.
        width: Float[""], the last one.
        cloud: the fitted cloud whose coordinates the radius is measured in.
        positions: Float["n dim"].
        log_weights: Float["n"], nats, need not be normalised.
    """
    whitened = all_whitened(cloud, positions)
    log_radii = 0.5 * jnp.log(jnp.sum(whitened**2, axis=1))
    weights = jnp.exp(normalise(log_weights)[0]).astype(log_radii.dtype)
    weights = jnp.where(jnp.isfinite(log_radii), weights, 0.0)
    log_radii = jnp.where(weights > 0, log_radii, 0.0)
    mean = jnp.sum(weights * log_radii)
    spread = jnp.sqrt(jnp.sum(weights * (log_radii - mean) ** 2))
    measured = WIDTH_IN_SPREADS * spread
    if form == "linear":
        measured = jnp.exp(mean) * jnp.expm1(jnp.minimum(measured, LONGEST_LOG_WIDTH))
    # Radii that differ by rounding only have no spread.
    resolved = spread > 64 * jnp.finfo(spread.dtype).eps
    usable = (ess(log_weights) >= tuning.MIN_EFFECTIVE) & resolved & jnp.isfinite(measured)
    return jnp.where(usable, measured, width).astype(width.dtype)


def first_width(form: str, dim: int) -> Scalar:
    """A width for a standard normal, before any cloud was seen: a factor e in the radius."""
    width = 1.0 if form == "log" else dim**0.5 * 1.718281828459045
    return jnp.asarray(width, jnp.result_type(float))
