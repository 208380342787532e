"""Two phases: most of the mass sits in a small part of the space, and most of the space leads elsewhere."""

import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.special
import scipy.stats
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.models.evidence_problems.problem import EvidenceProblem, in_a_box, normal_mass


def _two_gaussians(
    dim: int, reach: float, logs: tuple[float, float], means: tuple[float, float], stds: tuple[float, float]
) -> EvidenceProblem:
    """Two isotropic Gaussians of given log masses in the cube of half side ``reach``."""
    masses = [log + dim * np.log(normal_mass(m, s, -reach, reach)) for log, m, s in zip(logs, means, stds, strict=True)]

    def log_likelihood(x: Float[Array, " dim"]) -> Scalar:
        parts = [log + jnp.sum(norm.logpdf(x, m, s)) for log, m, s in zip(logs, means, stds, strict=True)]
        return jnp.logaddexp(*parts)

    return in_a_box(log_likelihood, dim, -reach, reach, float(np.logaddexp(*masses)))


def spike(dim: int = 20, *, width: float = 0.01) -> EvidenceProblem:
    r"""A narrow spike with 99% of the evidence inside a broad slab, on a unit cube.

    .. math:: L(x) = \prod_i N(x_i; 0, 0.1^2) + 100 \prod_i N(x_i; 0.031, w^2), \qquad x \in [-\tfrac12, \tfrac12]^d

    A path of powers of L is in the slab until the spike takes over at once: a phase transition of first order. log Z is
    log 101 but for what lies outside the cube.

    Args:
        dim: d, at least 1.
        width: w, standard deviation of the spike.

    Source: Skilling (2006), section 18, with the spike off the centre.
    """
    return _two_gaussians(dim, 0.5, (0.0, float(np.log(100.0))), (0.0, 0.031), (0.1, width))


def two_gaussians(dim: int = 8, *, narrow: float = 0.25, reach: float = 10.0) -> EvidenceProblem:
    r"""Two Gaussians far apart and of unequal width, the narrow one with nine tenths of the evidence.

    .. math:: L(x) = 0.1 \prod_i N(x_i; -a/2, 1) + 0.9 \prod_i N(x_i; a/2, w^2), \qquad x \in [-a, a]^d

    Args:
        dim: d, at least 1.
        narrow: w, standard deviation of the narrow one.
        reach: a, half the side of the cube.
    """
    return _two_gaussians(dim, reach, (float(np.log(0.1)), float(np.log(0.9))), (-reach / 2, reach / 2), (1.0, narrow))


def gaussian_shells(dim: int = 2, *, radius: float = 2.0, width: float = 0.1) -> EvidenceProblem:
    r"""Two thin shells side by side.

    .. math:: L(x) = \sum_{c = \pm 3.5 e_1} N(|x - c|;\, r, w^2), \qquad x \in [-6, 6]^d

    Args:
        dim: d, at least 1.
        radius: r.
        width: w, standard deviation across a shell; both shells must lie within the cube.

    Source: Feroz, Hobson & Bridges (2009), section 6.2.
    """
    centres = np.zeros((2, dim))
    centres[:, 0] = (3.5, -3.5)
    log_surface = np.log(2.0) + 0.5 * dim * np.log(np.pi) - float(scipy.special.gammaln(0.5 * dim))
    around = (max(radius - 10 * width, 0.0), radius + 10 * width)
    shell = scipy.integrate.quad(lambda r: r ** (dim - 1) * scipy.stats.norm.pdf(r, radius, width), *around)[0]

    def log_likelihood(x: Float[Array, " dim"]) -> Scalar:
        distances = jnp.sqrt(jnp.sum((x - jnp.asarray(centres, x.dtype)) ** 2, axis=1))
        return logsumexp(norm.logpdf(distances, radius, width))

    return in_a_box(log_likelihood, dim, -6.0, 6.0, float(np.log(2.0) + log_surface + np.log(shell)))


def eggbox() -> EvidenceProblem:
    r"""Eighteen sharp peaks in the plane.

    .. math:: \log L(x, y) = \bigl(2 + \cos \tfrac{x}{2} \cos \tfrac{y}{2}\bigr)^5, \qquad (x, y) \in [0, 10 \pi]^2

    Source: Feroz, Hobson & Bridges (2009), section 6.1.
    """

    def log_likelihood(x: Float[Array, " 2"]) -> Scalar:
        return (2.0 + jnp.prod(jnp.cos(x / 2))) ** 5

    # The cosine runs through a whole number of half periods, and half a period is as good as all of them.
    nodes, weights = np.polynomial.legendre.leggauss(400)
    cosine = np.cos(np.pi / 2 * (nodes + 1.0))
    exponents = (2.0 + cosine[:, None] * cosine) ** 5 + np.log(weights[:, None] * weights / 4)
    log_mean = float(scipy.special.logsumexp(exponents))
    return in_a_box(log_likelihood, 2, 0.0, 10 * np.pi, log_mean + 2 * np.log(10 * np.pi))
