"""What is known of a hard target: its normaliser, exact draws, the law of one scalar, its modes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.static import StaticTarget

Vector = NDArray[np.float64]
Map = Callable[[Any], Any]


class Law(eqx.Module):
    """A distribution on the line, in float64 on the host.

    Attributes:
        cdf: value -> probability, both arrays of any shape.
        quantile: the inverse of ``cdf``.
    """

    cdf: Map = eqx.field(static=True)
    quantile: Map = eqx.field(static=True)


def tabulated(grid: Vector, density: Vector) -> Law:
    """The law with a density known on a fine grid, up to a constant; linear between its points.

    Args:
        grid: (k,), increasing, and wide enough to hold all the mass.
        density: (k,), at the grid's points.
    """
    cells = 0.5 * (density[1:] + density[:-1]) * np.diff(grid)
    cumulative = np.concatenate([[0.0], np.cumsum(cells)])
    cumulative /= cumulative[-1]
    return Law(lambda x: np.interp(x, grid, cumulative), lambda p: np.interp(p, cumulative, grid))


class HardTarget(eqx.Module):
    """A target with its exact facts.

    Attributes:
        target: what to sample; its draws are called ``theta`` (`StaticTarget`).
        log_density: ``Float["dim"] -> Float[""]``, the unnormalised log density, nats: the target as a plain function.
        log_z: log of its integral, nats.
        draw: ``(key, n) -> Float["n dim"]``, exact draws.
        scalar: ``Float["dim"] -> Float[""]``, the one number whose mixing and tails tell samplers apart.
        scalar_name: what that number is.
        law: the exact distribution of ``scalar``.
        modes: (num_modes, dim), all of equal mass; ``None`` where there is one.
    """

    target: StaticTarget
    log_density: Callable[[Array], Array]
    log_z: float = eqx.field(static=True)
    draw: Callable[[KeyArray, int], Array]
    scalar: Callable[[Array], Array]
    scalar_name: str = eqx.field(static=True)
    law: Law
    modes: Float[Array, "num_modes dim"] | None = None

    @property
    def dim(self) -> int:
        """Length of a point."""
        return self.target.dim

    def mode(self, x: Float[Array, " dim"]) -> Int[Array, ""]:
        """Number of the mode nearest to a point; zero where there is one mode only."""
        if self.modes is None:
            return jnp.zeros((), jnp.int32)
        # |x - m|^2 without |x|^2, which all modes share.
        scores = jnp.matmul(self.modes, x, precision="highest") - 0.5 * jnp.sum(self.modes**2, axis=1)
        return jnp.argmax(scores).astype(jnp.int32)


def first_coordinate(x: Float[Array, " dim"]) -> Scalar:
    """The scalar of targets whose first coordinate is the hard one."""
    return x[0]
