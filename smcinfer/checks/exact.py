r"""A density with an exact sampler at any exponent that is asked for: what a kernel is tried on.

.. math::
    \mu(x) = N(x; m, LL^\top), \qquad
    \Phi(x) = \log \sum_k \tfrac12 \exp\bigl(-\tfrac12 (x - c_k)^\top P (x - c_k)\bigr)

With equal centres :math:`\mu e^{\lambda \Phi}` is Gaussian at every exponent; with two centres it is a mixture of two
Gaussians at exponent one. One-dimensional projections have closed distribution functions in both cases.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax.scipy.stats import multivariate_normal
from numpy.typing import NDArray

from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.kernels.base import TemperedDensity

Floats = NDArray[np.float64]


class _Base(eqx.Module):
    mean: Float[Array, " dim"]
    scale: Float[Array, "dim dim"]

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        return jnp.asarray(multivariate_normal.logpdf(x, self.mean, self.scale @ self.scale.T))


class _Potential(eqx.Module):
    centres: Float[Array, "2 dim"]
    precision: Float[Array, "dim dim"]
    edge: Scalar

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        offsets = x - self.centres
        value = jax.nn.logsumexp(-0.5 * jnp.sum(offsets @ self.precision * offsets, axis=-1)) - jnp.log(2.0)
        return jnp.where(x[0] > self.edge, jnp.nan, value)


class ExactTarget(eqx.Module):
    """A tempered density and the mixture of Gaussians that it is.

    Attributes:
        name: what a report calls it.
        density: what the kernel is given; ``potential`` is its potential.
        truncated: whether the potential is NaN beyond an edge; the density is then the mixture's part inside it.
        weights, means, scales: the mixture, on the host: (k,), (k, dim), (k, dim, dim) lower Cholesky factors.
    """

    name: str = eqx.field(static=True)
    truncated: bool = eqx.field(static=True)
    density: TemperedDensity
    potential: _Potential
    weights: Floats
    means: Floats
    scales: Floats

    @eqx.filter_jit
    def sample(self, key: KeyArray, n: int) -> Float[Array, "n dim"]:
        """Independent exact draws; where the potential is NaN beyond an edge, only those inside."""
        components, noise = jax.random.split(key)
        label = jax.random.choice(components, len(self.weights), (4 * n,), p=jnp.asarray(self.weights))
        white = jax.random.normal(noise, (4 * n, self.means.shape[1]))
        draws = jnp.asarray(self.means)[label] + jnp.einsum("nij,nj->ni", jnp.asarray(self.scales)[label], white)
        inside = jnp.argsort(draws[:, 0] > self.potential.edge, stable=True)
        return draws[inside[:n]]

    def cdf(self, direction: Floats) -> Callable[[Floats], Floats]:
        """Distribution function of the projection on a direction (of the whole mixture, no edge)."""
        centres = self.means @ direction
        widths = np.linalg.norm(np.einsum("kij,i->kj", self.scales, direction), axis=1)
        return lambda x: np.sum(
            self.weights * scipy.stats.norm.cdf((np.asarray(x)[..., None] - centres) / widths), axis=-1
        )


def exact_target(name: str, dim: int, exponent: float, separation: float = 0.0, edge: float = np.inf) -> ExactTarget:
    """An `ExactTarget` in ``dim`` dimensions.

    Args:
        name: what a report calls it.
        dim: dimensions.
        exponent: in [0, 1]; 0 or 1 where the centres are apart.
        separation: distance of the two centres along every axis.
        edge: beyond it the first coordinate makes the potential NaN.
    """
    mean = np.linspace(-0.5, 1.0, dim)
    scale = np.diag(np.linspace(0.6, 1.8, dim)) @ (np.eye(dim) + 0.4 * np.tril(np.ones((dim, dim)), -1))
    precision = np.diag(np.linspace(1.5, 0.4, dim)) + 0.2
    centres = np.linspace(0.8, -0.8, dim) + 0.5 * separation * np.array([[-1.0], [1.0]])
    base_precision = np.linalg.inv(scale @ scale.T)
    covariance = np.linalg.inv(base_precision + exponent * precision)
    means = (base_precision @ mean + exponent * centres @ precision) @ covariance
    # Each component's share: the mass of the base times one Gaussian factor, up to what both share.
    log_mass = 0.5 * np.sum(means @ np.linalg.inv(covariance) * means, axis=1)
    log_mass -= 0.5 * exponent * np.sum(centres @ precision * centres, axis=1)
    share = np.exp(log_mass - log_mass.max())
    potential = _Potential(jnp.asarray(centres), jnp.asarray(precision), jnp.asarray(edge))
    density = TemperedDensity(
        _Base(jnp.asarray(mean), jnp.asarray(scale)),
        potential,
        jnp.asarray(exponent, jnp.result_type(float)),
        jnp.asarray(mean),
        jnp.asarray(scale),
    )
    scales = np.broadcast_to(np.linalg.cholesky(covariance), (2, dim, dim))
    return ExactTarget(name, bool(np.isfinite(edge)), density, potential, share / share.sum(), means, scales)
