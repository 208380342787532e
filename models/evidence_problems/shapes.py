"""One mode of an awkward shape: heavy tails, a curved ridge, scales of every size, a neck."""

import functools

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.integrate
import scipy.stats
from jax.scipy.stats import norm

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.models.evidence_problems.problem import EvidenceProblem, in_a_box, normal_mass
from smcinfer.static import posterior

SCALE = 1.0 / 30.0
"""Width of every factor of `log_gamma`."""


def _log_gamma_density(x: Array, location: float) -> Array:
    """Log of the law of ``location + SCALE log(e)``, e exponential."""
    z = (x - location) / SCALE
    return z - jnp.exp(z) - np.log(SCALE)


def _log_gamma_mass(location: float) -> float:
    """Its probability of the unit interval."""
    return float(np.exp(-np.exp(-location / SCALE)) - np.exp(-np.exp((1.0 - location) / SCALE)))


def log_gamma(dim: int = 10) -> EvidenceProblem:
    r"""Four modes with the one-sided tails of log-gamma laws, on the unit cube.

    .. math:: L(x) = \tfrac12 (g_{1/3} + g_{2/3})(x_1)\; \tfrac12 (n_{1/3} + n_{2/3})(x_2)
        \prod_{3 \le i \le (d + 2) / 2} g_{2/3}(x_i) \prod_{i > (d + 2) / 2} n_{2/3}(x_i)

    with :math:`n_m` the normal law of standard deviation 1/30 at m and :math:`g_m` that of m plus the thirtieth of the log of
    an exponential draw. log Z is zero but for what lies outside the cube.

    Args:
        dim: d, at least 2.

    Source: Beaujean & Caldwell (2013), section 4.
    """
    validate.count("dim", dim, at_least=2)
    num_gamma = max((dim + 2) // 2 - 2, 0)
    num_normal = dim - 2 - num_gamma
    low, high = 1.0 / 3.0, 2.0 / 3.0
    half = float(np.log(0.5))
    normal = [float(normal_mass(centre, SCALE, 0.0, 1.0)) for centre in (low, high)]
    skewed = [_log_gamma_mass(centre) for centre in (low, high)]
    log_mass = np.log(np.mean(skewed)) + np.log(np.mean(normal))
    log_mass += num_gamma * np.log(skewed[1]) + num_normal * np.log(normal[1])

    def log_likelihood(x: Float[Array, " dim"]) -> Scalar:
        first = half + jnp.logaddexp(_log_gamma_density(x[0], low), _log_gamma_density(x[0], high))
        second = half + jnp.logaddexp(norm.logpdf(x[1], low, SCALE), norm.logpdf(x[1], high, SCALE))
        rest = jnp.sum(_log_gamma_density(x[2 : 2 + num_gamma], high))
        return first + second + rest + jnp.sum(norm.logpdf(x[2 + num_gamma :], high, SCALE))

    return in_a_box(log_likelihood, dim, 0.0, 1.0, float(log_mass))


@functools.cache
def _log_rosenbrock_integral(dim: int, reach: float) -> float:
    """By one trapezoidal sum a coordinate: each depends on the one before it alone, and ridges are three spacings wide."""
    grid = np.linspace(-reach, reach, 2001)
    step = np.exp(-100.0 * (grid - grid[:, None] ** 2) ** 2 - (1.0 - grid[:, None]) ** 2) * (grid[1] - grid[0])
    total, log_scale = np.ones_like(grid), 0.0
    for _ in range(dim - 1):
        total = step @ total
        log_scale += np.log(total.max())
        total /= total.max()
    return float(log_scale + np.log(total.sum() * (grid[1] - grid[0])))


def rosenbrock(dim: int = 2, *, reach: float = 5.0) -> EvidenceProblem:
    r"""A curved ridge.

    .. math:: \log L(x) = -\sum_{i < d} 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2, \qquad x \in [-a, a]^d

    Args:
        dim: d, at least 2.
        reach: a, half the side of the cube, at most 10.
    """
    validate.count("dim", dim, at_least=2)

    def log_likelihood(x: Float[Array, " dim"]) -> Scalar:
        return -jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    return in_a_box(log_likelihood, dim, -reach, reach, _log_rosenbrock_integral(dim, reach))


def ill_conditioned(dim: int = 50, *, condition: float = 1e6) -> EvidenceProblem:
    r"""A Gaussian with scales from one to the root of the condition number, in directions that no coordinate shows.

    .. math:: x \sim N(0, I), \qquad \log L(x) = -\tfrac12 \sum_i \lambda_i (H x)_i^2, \qquad
        \log Z = -\tfrac12 \sum_i \log (1 + \lambda_i)

    with :math:`\lambda_i` evenly spaced in the logarithm from 1 to the condition number, and H the reflection that takes the
    first axis to the diagonal of the cube.

    Args:
        dim: d, at least 2.
        condition: the largest of the :math:`\lambda_i`.
    """
    validate.count("dim", dim, at_least=2)
    precisions = np.geomspace(1.0, condition, dim)
    normal = np.full(dim, -(dim**-0.5))
    normal[0] += 1.0
    normal /= np.linalg.norm(normal)

    def log_likelihood(x: Float[Array, " dim"]) -> Scalar:
        axis = jnp.asarray(normal, x.dtype)
        reflected = x - 2.0 * axis * jnp.sum(axis * x)
        return -0.5 * jnp.sum(jnp.asarray(precisions, x.dtype) * reflected**2)

    prior = dist.Normal(0.0, 1.0).expand([dim]).to_event(1)
    return EvidenceProblem(posterior(prior, log_likelihood), float(-0.5 * np.log1p(precisions).sum()))


def funnel_in_a_box(dim: int = 10, *, reach: float = 10.0) -> EvidenceProblem:
    r"""Neal's funnel under a uniform prior: the neck is a part of the prior that hardly anything falls into.

    .. math:: L(x) = N(x_1; 0, 3^2) \prod_{i > 1} N(x_i; 0, e^{x_1}), \qquad x \in [-a, a]^d

    Args:
        dim: d, at least 2.
        reach: a, half the side of the cube.
    """
    validate.count("dim", dim, at_least=2)
    constant = -0.5 * dim * np.log(2 * np.pi) - np.log(3.0)

    def log_likelihood(x: Float[Array, " dim"]) -> Scalar:
        neck, rest = x[0], x[1:]
        # One product before the sum: e^{-x1} alone overflows where |x|^2 does not make up for it.
        spread = jnp.sum((rest * jnp.exp(-0.5 * neck)) ** 2)
        return constant - 0.5 * (neck / 3.0) ** 2 - 0.5 * (dim - 1) * neck - 0.5 * spread

    def inside(neck: float) -> float:
        mass = float(normal_mass(0.0, np.exp(neck / 2), -reach, reach))
        return float(scipy.stats.norm.pdf(neck, 0.0, 3.0) * mass ** (dim - 1))

    return in_a_box(log_likelihood, dim, -reach, reach, float(np.log(scipy.integrate.quad(inside, -reach, reach)[0])))
