"""A mixture of Gaussians of one width: its noised scores, denoiser, draws and modes."""

import json
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from numpy.typing import ArrayLike

from smcinfer.diffusion.model import Model, diffusion_model
from smcinfer.diffusion.schedule import NoiseSchedule
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.gaussian_mixtures.exact import Power, Tilted, raise_to, tilt

Point = Float[Array, " dim"]


class Denoiser(eqx.Module):
    r"""The mean of the data given :math:`y = x / \alpha` at noise ratio :math:`\rho`, exactly.

    .. math:: \hat x_0 = \sum_k P(k \mid y)\, \Bigl( m_k + \frac{s^2}{s^2 + \rho^2} (y - m_k) \Bigr)
    """

    means: Float[Array, "num_modes dim"]
    log_weights: Float[Array, " num_modes"]
    std: Scalar

    def __call__(self, y: Point, noise_ratio: Scalar) -> Point:
        """A denoising function, ``parameterisation="denoiser"``."""
        variance = self.std**2 + noise_ratio**2
        # |y - m|^2 without the term that all modes share.
        logits = self.log_weights + (self.means @ y - 0.5 * jnp.sum(self.means**2, axis=1)) / variance
        centre = jax.nn.softmax(logits) @ self.means
        return centre + self.std**2 / variance * (y - centre)


class Mixture(eqx.Module):
    """Gaussians of one width.

    Attributes:
        means: Float["num_modes dim"].
        log_weights: Float["num_modes"], normalised.
        std: of every coordinate of every mode.
    """

    means: Float[Array, "num_modes dim"]
    log_weights: Float[Array, " num_modes"]
    std: Scalar

    @property
    def dim(self) -> int:
        """Number of coordinates of a point."""
        return self.means.shape[1]

    def model(self, schedule: NoiseSchedule) -> Model:
        """The exact diffusion model under a schedule."""
        denoiser = Denoiser(self.means, self.log_weights, self.std)
        return diffusion_model(denoiser, schedule, (self.dim,), parameterisation="denoiser")

    def log_density(self, x: Point, alpha: Scalar | float = 1.0, sigma: Scalar | float = 0.0) -> Scalar:
        """log q_u(x) at a noise level; of the data by default, nats."""
        variance = alpha**2 * self.std**2 + sigma**2
        squares = jnp.sum((x - alpha * self.means) ** 2, axis=1)
        return logsumexp(self.log_weights - 0.5 * squares / variance) - 0.5 * self.dim * jnp.log(2 * jnp.pi * variance)

    def noised(self, schedule: NoiseSchedule) -> Callable[[Array, Array], Array]:
        """``(x, time) -> log q_u(x)`` under a schedule, nats: what exact weights of correctors ask for."""
        return lambda x, time: self.log_density(x, schedule.alpha(time), schedule.sigma(time))

    def draw(self, key: KeyArray, n: int) -> Float[Array, "n dim"]:
        """``n`` exact draws: a mode by its weight, then a Gaussian about its mean."""
        which_key, noise_key = jax.random.split(key)
        which = jax.random.categorical(which_key, self.log_weights, shape=(n,))
        return self.means[which] + self.std * jax.random.normal(noise_key, (n, self.dim))

    def nearest(self, x: Float[Array, "*batch dim"]) -> Int[Array, "*batch"]:
        """The mode nearest to each point."""
        # Argmin over |m|^2 - 2 <x, m>.
        return jnp.argmin(jnp.sum(self.means**2, axis=1) - 2.0 * x @ self.means.T, axis=-1)

    def tilted(self, curvature: ArrayLike, centre: ArrayLike) -> Tilted:
        r"""The mixture times :math:`\exp(-\sum_j c_j (x_j - b_j)^2)`, exactly (see `Tilted`).

        Args:
            curvature: Float["dim"], c, at least zero.
            centre: Float["dim"], b.
        """
        return tilt(self.means, self.log_weights, float(self.std), curvature, centre)

    def power(self, power: float, noise: float = 0.0, *, reach: float = 8.0, points: int = 1200) -> Power:
        """The power of the density of a mixture in the plane, on a grid (see `Power`).

        Args:
            power: of the density.
            noise: standard deviation of noise added to the data first.
            reach: how far beyond the outermost means the grid goes, in standard deviations.
            points: of the grid along each axis.
        """
        return raise_to(self.means, self.log_weights, float(self.std), power, noise, reach=reach, points=points)


def mixture(means: ArrayLike, std: float, weights: ArrayLike | None = None) -> Mixture:
    """A mixture of Gaussians of one width.

    Args:
        means: (K, d).
        std: of every coordinate, above zero.
        weights: (K,), need not be normalised; equal where ``None``.
    """
    centres = np.asarray(means, np.float64)
    if centres.ndim != 2 or 0 in centres.shape:
        raise ArgumentError("means of the wrong shape", expected="(num_modes, dim)", got=centres.shape)
    shares = np.ones(len(centres)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (len(centres),) or not (shares > 0).all():
        raise ArgumentError(
            "weights do not fit the means", expected=f"{len(centres)} positive numbers", got=shares.shape
        )
    validate.number("std", std, above=0.0)
    return Mixture(
        jnp.asarray(centres, float), jnp.asarray(np.log(shares / shares.sum()), float), jnp.asarray(std, float)
    )


def nine_modes(spacing: float = 4.0, variance: float = 0.3) -> Mixture:
    """Nine equal modes on a square grid in the plane, ``{-spacing, 0, spacing}`` squared."""
    axis = spacing * np.arange(-1.0, 2.0)
    return mixture(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(9, 2), variance**0.5)


def from_json(path: str | Path) -> tuple[Mixture, dict[str, float]]:
    """A mixture with equal weights from a file: ``means``, ``std`` and ``scale``, which both are divided by.

    Args:
        path: of a JSON object.

    Returns:
        The mixture in scaled coordinates, and every other number in the file.
    """
    content = json.loads(Path(path).read_text(encoding="utf8"))
    scale = float(content.get("scale", 1.0))
    facts = {name: float(value) for name, value in content.items() if isinstance(value, int | float)}
    return mixture(np.asarray(content["means"]) / scale, content["std"] / scale), facts
