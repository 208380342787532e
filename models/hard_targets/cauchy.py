"""The multivariate Cauchy: tails so heavy that samplers with a fixed step never come back from them."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.stats
from scipy.special import gammaln

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.models.hard_targets.facts import HardTarget, Law
from smcinfer.static import log_density


def cauchy(dim: int = 100, *, base_scale: float = 3.0) -> HardTarget:
    r"""The standard Cauchy on vectors.

    .. math:: \log \gamma(x) = -\tfrac{d+1}{2} \log(1 + |x|^2), \qquad
        Z = \pi^{(d+1)/2} / \Gamma\bigl(\tfrac{d+1}{2}\bigr)

    A draw is a standard normal vector over an independent standard normal number. The squared radius over d follows an
    F law with (d, 1) degrees of freedom; the scalar is the log radius.

    Args:
        dim: d, at least 1.
        base_scale: scale of the Cauchy that a tempered run starts from.
    """
    validate.count("dim", dim, at_least=1)
    validate.number("base_scale", base_scale, above=0.0)

    def density(x: Float[Array, " dim"]) -> Scalar:
        return -0.5 * (dim + 1) * jnp.log1p(jnp.sum(x**2))

    def draw(key: KeyArray, n: int) -> Float[Array, "n dim"]:
        normal = jax.random.normal(key, (n, dim + 1))
        return normal[:, 1:] / normal[:, :1]

    squared = scipy.stats.f(dim, 1)
    reference = dist.MultivariateStudentT(1.0, jnp.zeros(dim), base_scale * jnp.eye(dim))
    return HardTarget(
        target=log_density(density, reference),
        log_density=density,
        log_z=float(0.5 * (dim + 1) * np.log(np.pi) - gammaln(0.5 * (dim + 1))),
        draw=draw,
        scalar=lambda x: 0.5 * jnp.log(jnp.sum(x**2)),
        scalar_name="log radius",
        law=Law(
            lambda s: squared.cdf(np.exp(2.0 * np.asarray(s, np.float64)) / dim),
            lambda p: 0.5 * np.log(dim * squared.ppf(p)),
        ),
    )
