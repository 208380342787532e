"""Hard supports and symmetries: places where the likelihood is zero, and modes that are copies of one another."""

import itertools

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.special
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.evidence_problems.problem import EvidenceProblem, in_a_box, normal_mass
from smcinfer.static import posterior


def label_switching(num_labels: int = 4, *, ordered: bool = False) -> EvidenceProblem:
    r"""Labels that nothing tells apart: every assignment of them to well separated places is a mode.

    .. math:: L(x) = \sum_{\sigma} \prod_{i=1}^k N(x_{\sigma(i)};\, i, 0.1^2), \qquad x \in [0, k + 1]^k

    Where the labels are ordered, :math:`L(x) = 0` unless :math:`x_1 < \dots < x_k`, and log Z is less by log k!.

    Args:
        num_labels: k, from 1 to 6.
        ordered: whether only one of the k! modes counts.
    """
    if not 1 <= num_labels <= 6:
        raise ArgumentError("num_labels is out of range", expected="from 1 to 6", got=num_labels)
    places = np.arange(1, num_labels + 1, dtype=np.float64)
    orders = np.asarray(list(itertools.permutations(range(num_labels))))

    def log_likelihood(x: Float[Array, " num_labels"]) -> Scalar:
        free = logsumexp(jnp.sum(norm.logpdf(x[orders], jnp.asarray(places, x.dtype), 0.1), axis=1))
        return jnp.where(jnp.all(jnp.diff(x) > 0), free, -jnp.inf) if ordered else free

    # The sum is symmetric, so that each order of the coordinates has the same share.
    log_mass = np.log(normal_mass(places, 0.1, 0.0, num_labels + 1.0)).sum()
    log_modes = 0.0 if ordered else scipy.special.gammaln(num_labels + 1)
    return in_a_box(log_likelihood, num_labels, 0.0, num_labels + 1.0, float(log_mass + log_modes))


def truncated_gaussian(dim: int = 5, *, bound: float = 0.5, noise: float = 0.5) -> EvidenceProblem:
    r"""A Gaussian posterior of which only the corner above a bound counts.

    .. math:: x \sim N(0, I), \qquad L(x) = \prod_i N(1; x_i, s^2)\, 1\{x_i > b\}

    Args:
        dim: d, at least 1.
        bound: b.
        noise: s.
    """
    validate.count("dim", dim, at_least=1)
    variance = 1.0 + noise**2
    tail = normal_mass(1.0 / variance, noise / variance**0.5, bound, np.inf)
    log_z = dim * (-0.5 * np.log(2 * np.pi * variance) - 0.5 / variance + np.log(tail))

    def log_likelihood(x: Float[Array, " dim"]) -> Scalar:
        return jnp.where(jnp.all(x > bound), jnp.sum(norm.logpdf(1.0, x, noise)), -jnp.inf)

    prior = dist.Normal(0.0, 1.0).expand([dim]).to_event(1)
    return EvidenceProblem(posterior(prior, log_likelihood), float(log_z))


def small_region(dim: int = 2, *, mass: float = 1e-4) -> EvidenceProblem:
    r"""A plateau on a small region, and nothing elsewhere.

    .. math:: L(x) = 1\{0.3 < x_i < 0.3 + m^{1/d} \text{ for all } i\}, \qquad x \in [0, 1]^d, \qquad Z = m

    Args:
        dim: d, at least 1.
        mass: m, prior probability of the region, below :math:`0.7^d`.
    """
    validate.count("dim", dim, at_least=1)
    if not 0.0 < mass < 0.7**dim:
        raise ArgumentError("mass is out of range", expected=f"0 < mass < 0.7^dim = {0.7**dim:.3g}", got=mass)
    upper = 0.3 + mass ** (1.0 / dim)

    def log_likelihood(x: Float[Array, " dim"]) -> Scalar:
        return jnp.where(jnp.all((x > 0.3) & (x < upper)), jnp.zeros((), x.dtype), -jnp.inf)

    return in_a_box(log_likelihood, dim, 0.0, 1.0, float(np.log(mass)))
