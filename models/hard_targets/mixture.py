"""Mixtures of Gaussians in the plane: modes that a local move never finds from another."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.stats
from jax.scipy.special import logsumexp
from numpy.typing import ArrayLike

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.hard_targets.facts import HardTarget, first_coordinate, tabulated
from smcinfer.static import log_density


def gaussian_mixture(means: ArrayLike, std: float, *, base_scale: float | None = None) -> HardTarget:
    r"""Equally weighted Gaussians of one width.

    .. math:: \gamma(x) = \frac{1}{K} \sum_{k=1}^K N(x;\, m_k,\, s^2 I)

    Normalised, so log Z = 0. The scalar is the first coordinate.

    Args:
        means: (K, d).
        std: s.
        base_scale: standard deviation of the Gaussian that a tempered run starts from; by default it covers the means
            (their largest distance from the origin, and s).
    """
    centres = np.asarray(means, np.float64)
    if centres.ndim != 2 or 0 in centres.shape:
        raise ArgumentError("means of the wrong shape", expected="(num_modes, dim)", got=centres.shape)
    validate.number("std", std, above=0.0)
    num_modes, dim = centres.shape
    scale = float(np.linalg.norm(centres, axis=1).max() / dim**0.5 + std) if base_scale is None else base_scale
    validate.number("base_scale", scale, above=0.0)
    modes = jnp.asarray(centres, float)

    def density(x: Float[Array, " dim"]) -> Scalar:
        squares = jnp.sum(((x - modes) / std) ** 2, axis=1)
        return logsumexp(-0.5 * squares) - np.log(num_modes) - dim * np.log(std * (2 * np.pi) ** 0.5)

    def draw(key: KeyArray, n: int) -> Float[Array, "n dim"]:
        which_key, noise_key = jax.random.split(key)
        which = jax.random.randint(which_key, (n,), 0, num_modes)
        return modes[which] + std * jax.random.normal(noise_key, (n, dim))

    grid = np.linspace(centres[:, 0].min() - 10 * std, centres[:, 0].max() + 10 * std, 400_001)
    first = np.zeros_like(grid)
    for centre in centres[:, 0]:
        first += scipy.stats.norm.pdf(grid, centre, std)
    return HardTarget(
        target=log_density(density, dist.Normal(0.0, scale).expand([dim]).to_event(1)),
        log_density=density,
        log_z=0.0,
        draw=draw,
        scalar=first_coordinate,
        scalar_name="x1",
        law=tabulated(grid, first),
        modes=modes,
    )


def ring_mixture(num_modes: int = 8, *, radius: float = 10.0, std: float = 0.7) -> HardTarget:
    """A ring of modes in the plane, all alike by symmetry.

    Args:
        num_modes: K, at least 1.
        radius: of the ring.
        std: width of a mode.
    """
    validate.count("num_modes", num_modes)
    angles = 2 * np.pi * np.arange(num_modes) / num_modes
    return gaussian_mixture(radius * np.column_stack([np.cos(angles), np.sin(angles)]), std)


def scattered_mixture(num_modes: int = 40, *, reach: float = 40.0, std: float = 1.0) -> HardTarget:
    r"""Modes scattered over a square, the same ones every time.

    .. math:: m_k = a \bigl(2 \{k \sqrt2\} - 1,\ 2 \{k \sqrt3\} - 1\bigr), \qquad \{u\} = u - \lfloor u \rfloor

    a Kronecker sequence (irregular, reproducible, never two modes on one spot).

    Args:
        num_modes: K, at least 1.
        reach: a, half the side of the square.
        std: width of a mode.
    """
    validate.count("num_modes", num_modes)
    validate.number("reach", reach, above=0.0)
    fractions = np.arange(1, num_modes + 1)[:, None] * np.sqrt([2.0, 3.0]) % 1.0
    return gaussian_mixture(reach * (2.0 * fractions - 1.0), std)
