"""A disk near a hyperplane: a Gaussian that is thin in one direction, the diagonal, which no coordinate shows."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.stats

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.models.hard_targets.facts import HardTarget, Law, first_coordinate
from smcinfer.static import log_density


def hyperplane_disk(dim: int = 200, *, base_scale: float = 1.0) -> HardTarget:
    r"""A Gaussian squeezed against the plane where the coordinates sum to zero.

    .. math:: \log \gamma(x) = -|x|^2 - \Bigl(\sum_i x_i\Bigr)^2, \qquad Z = \pi^{d/2} (1 + d)^{-1/2}

    Its covariance is :math:`\tfrac12 (I - \mathbf{1}\mathbf{1}^T / (1 + d))`: standard deviation
    :math:`1/\sqrt2` in the plane and :math:`1/\sqrt{2(1+d)}` across it. The scalar is the first coordinate.

    Args:
        dim: d, at least 1.
        base_scale: standard deviation of the Gaussian that a tempered run starts from.
    """
    validate.count("dim", dim, at_least=1)
    validate.number("base_scale", base_scale, above=0.0)
    # The square root of the covariance shrinks the diagonal's part of a normal vector and leaves the rest.
    shrink = (1.0 - (1.0 + dim) ** -0.5) / dim

    def density(x: Float[Array, " dim"]) -> Scalar:
        return -jnp.sum(x**2) - jnp.sum(x) ** 2

    def draw(key: KeyArray, n: int) -> Float[Array, "n dim"]:
        normal = jax.random.normal(key, (n, dim))
        return (normal - shrink * jnp.sum(normal, axis=1, keepdims=True)) / 2**0.5

    first = scipy.stats.norm(scale=(0.5 * dim / (1.0 + dim)) ** 0.5)
    return HardTarget(
        target=log_density(density, dist.Normal(0.0, base_scale).expand([dim]).to_event(1)),
        log_density=density,
        log_z=float(0.5 * dim * np.log(np.pi) - 0.5 * np.log1p(dim)),
        draw=draw,
        scalar=first_coordinate,
        scalar_name="x1",
        law=Law(first.cdf, first.ppf),
    )
