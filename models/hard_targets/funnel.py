"""Neal's funnel: the scale of all other coordinates changes by orders of magnitude along the first."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.stats

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.models.hard_targets.facts import HardTarget, Law, first_coordinate
from smcinfer.static import log_density

NECK = 3.0
"""Standard deviation of the log variance."""


def funnel(dim: int = 10, *, base_scale: float = 3.0) -> HardTarget:
    r"""A Gaussian whose first coordinate is the log variance of the others.

    .. math:: x_1 \sim N(0, 3^2), \qquad x_i \mid x_1 \sim N(0, e^{x_1}), \quad i = 2, \dots, d

    Normalised, so log Z = 0. The scalar is the first coordinate: its lower tail is the neck, where a step that
    suits the wide part is a thousand times too long.

    Args:
        dim: d, at least 2.
        base_scale: scale of the Cauchy from which a tempered run draws the other coordinates; its tails cover theirs.

    Source: Neal (2003), section 8.
    """
    validate.count("dim", dim, at_least=2)
    validate.number("base_scale", base_scale, above=0.0)
    constant = -0.5 * dim * np.log(2 * np.pi) - np.log(NECK)

    def density(x: Float[Array, " dim"]) -> Scalar:
        neck, rest = x[0], x[1:]
        # One product before the sum: e^{-x1} alone overflows where |x|^2 does not make up for it.
        spread = jnp.sum((rest * jnp.exp(-0.5 * neck)) ** 2)
        return constant - 0.5 * (neck / NECK) ** 2 - 0.5 * (dim - 1) * neck - 0.5 * spread

    def draw(key: KeyArray, n: int) -> Float[Array, "n dim"]:
        normal = jax.random.normal(key, (n, dim))
        neck = NECK * normal[:, :1]
        return jnp.concatenate([neck, jnp.exp(0.5 * neck) * normal[:, 1:]], axis=1)

    reference = {
        "neck": dist.Normal(0.0, NECK),
        "rest": dist.Cauchy(0.0, base_scale).expand([dim - 1]).to_event(1),
    }
    first = scipy.stats.norm(scale=NECK)
    return HardTarget(
        target=log_density(lambda theta: density(jnp.append(theta["neck"], theta["rest"])), reference),
        log_density=density,
        log_z=0.0,
        draw=draw,
        scalar=first_coordinate,
        scalar_name="x1",
        law=Law(first.cdf, first.ppf),
    )
