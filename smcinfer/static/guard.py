"""Potentials that are minus infinity wherever they are undefined, as kernels expect them."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.kernels.base import TemperedDensity
from smcinfer.static.target import StaticTarget


def undefined(log_potential: Array) -> Array:
    """Where a potential is no number that a particle can be weighed by: NaN, or plus infinity."""
    return jnp.isnan(log_potential) | (log_potential == jnp.inf)


class Guarded(eqx.Module):
    """A potential in which NaN and plus infinity count as outside the support."""

    log_potential: Any

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        """The potential at x, nats; minus infinity where it is undefined."""
        value = self.log_potential(x)
        return jnp.where(undefined(value), -jnp.inf, value)


def guarded_density(target: StaticTarget, exponent: Scalar) -> TemperedDensity:
    """The target's tempered density with its potential guarded.

    Raises:
        ArgumentError: the target was made in a precision that is off now.
    """
    target.check_precision()
    return TemperedDensity(
        target.log_base, Guarded(target.log_potential), exponent, target.base_mean, target.base_scale
    )
