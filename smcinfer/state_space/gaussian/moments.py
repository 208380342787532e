r"""Means and covariances of laws, and of what a law sends a Gaussian to: all that Gaussian filters know of a model.

.. math::
    x \sim N(m, P), \quad z \mid x \sim (\mu(x), \Sigma(x)): \qquad
    E z = E\mu, \quad \mathrm{Cov}\, z = \mathrm{Cov}\, \mu + E\Sigma, \quad \mathrm{Cov}(x, z) = \mathrm{Cov}(x, \mu)

The moments are exact where :math:`\mu` is affine and :math:`\Sigma` constant, else by derivatives at the mean (extended) or by
points around it (unscented).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from numpyro.distributions import Distribution

from smcinfer.ground.arrays import Array, Float, PyTree, Time
from smcinfer.ground.errors import TargetError
from smcinfer.state_space.joint import is_law
from smcinfer.state_space.slots import coordinates

GAUSSIAN = (dist.Normal, dist.MultivariateNormal, dist.Delta)
"""Laws that Gaussian filters take as they are; of all others they know the mean and the variance."""


class Moments(NamedTuple):
    """Mean ``(n,)`` and covariance ``(n, n)``."""

    mean: Float[Array, " n"]
    covariance: Float[Array, "n n"]


class Sent(NamedTuple):
    """What a Gaussian is sent to: its moments, and the covariance ``(d, n)`` of the two."""

    mean: Float[Array, " n"]
    covariance: Float[Array, "n n"]
    cross: Float[Array, "d n"]


Conditional = Callable[[Float[Array, " d"]], Moments]
"""Moments of a law given a state, both as vectors."""

Transform = Callable[[Any, Moments], Sent]
"""How moments are sent through a conditional law."""


def law_moments(laws: PyTree[Any]) -> Moments:
    """Mean and covariance of a law, or of a tree of independent ones, as of one vector.

    Args:
        laws: numpyro distributions; other ones than Gaussians count by mean and variance.

    Raises:
        TargetError: a law has no mean or variance in closed form.
    """
    parts = [_moments(law) for law in jax.tree.leaves(laws, is_leaf=is_law)]
    mean = jnp.concatenate([part.mean for part in parts])
    return Moments(mean, jax.scipy.linalg.block_diag(*(part.covariance for part in parts)))


def _moments(law: Distribution) -> Moments:
    each: Any = coordinates(law)
    try:
        mean = jnp.ravel(jnp.broadcast_to(law.mean, (*law.batch_shape, *law.event_shape)))
        if isinstance(each, dist.MultivariateNormal):
            count = mean.size // each.event_shape[0]
            blocks = jnp.broadcast_to(each.covariance_matrix, (*each.batch_shape, *each.event_shape, *each.event_shape))
            return Moments(mean, jax.scipy.linalg.block_diag(*blocks.reshape(count, *blocks.shape[-2:])))
        return Moments(mean, jnp.diag(jnp.ravel(jnp.broadcast_to(law.variance, (*law.batch_shape, *law.event_shape)))))
    except NotImplementedError as error:
        raise TargetError(
            "a law has no mean or variance in closed form",
            expected="laws that know both: Gaussian ones are taken as they are",
            got=type(each).__name__,
        ) from error


def gaussian(laws: PyTree[Any]) -> bool:
    """Whether a law is Gaussian in all its parts."""
    return all(isinstance(coordinates(law), GAUSSIAN) for law in jax.tree.leaves(laws, is_leaf=is_law))


def extended(conditional: Conditional, given: Moments) -> Sent:
    """Moments by the derivative at the mean: exact where the conditional law is affine in its state."""
    mean, slope = conditional(given.mean).mean, jax.jacfwd(lambda x: conditional(x).mean)(given.mean)
    cross = given.covariance @ slope.T
    return Sent(mean, slope @ cross + conditional(given.mean).covariance, cross)


class Affine(NamedTuple):
    """A conditional law that is affine: moments are sent through it by matrices alone.

    Attributes:
        matrix, offset: of its mean ``matrix x + offset``.
        covariance: whatever x is.
    """

    matrix: Float[Array, "n d"]
    offset: Float[Array, " n"]
    covariance: Float[Array, "n n"]

    def __call__(self, x: Float[Array, " d"]) -> Moments:
        """Moments given a state."""
        return Moments(self.matrix @ x + self.offset, self.covariance)

    @classmethod
    def of(cls, conditional: Conditional, dim: int, dtype: Any) -> "Affine":
        """A conditional law known to be affine, by its value and its derivative at zero.

        Args:
            conditional: the law.
            dim: entries of a state.
            dtype: theirs.
        """
        origin = jnp.zeros((dim,), dtype)
        at = conditional(origin)
        return cls(jax.jacfwd(lambda x: conditional(x).mean)(origin), at.mean, at.covariance)


def affine(conditional: Affine, given: Moments) -> Sent:
    """Moments through an affine law, exactly."""
    cross = given.covariance @ conditional.matrix.T
    mean = conditional.matrix @ given.mean + conditional.offset
    return Sent(mean, conditional.matrix @ cross + conditional.covariance, cross)


def unscented(conditional: Conditional, given: Moments) -> Sent:
    """Moments by 2 d + 1 points around the mean, exact for polynomials of degree two along each axis.

    Source: Julier & Uhlmann (2004), with the centre's weight 1 - d/3 that fits a Gaussian's fourth moment.
    """
    dim = given.mean.shape[0]
    # A jump of the size of rounding keeps a covariance of rank below d from a root that is NaN.
    tiny = jnp.finfo(given.mean.dtype).eps * (1.0 + jnp.trace(given.covariance))
    root = jnp.linalg.cholesky(given.covariance + tiny * jnp.eye(dim)) * jnp.sqrt(3.0)
    points = given.mean + jnp.concatenate([jnp.zeros((1, dim)), root.T, -root.T])
    weights = jnp.concatenate([jnp.array([1.0 - dim / 3.0]), jnp.full((2 * dim,), 1.0 / 6.0)]).astype(given.mean.dtype)
    means, covariances = jax.vmap(conditional)(points)
    mean = weights @ means
    spread, offset = means - mean, points - given.mean
    covariance = jnp.einsum("i,ij,ik->jk", weights, spread, spread) + jnp.einsum("i,ijk->jk", weights, covariances)
    return Sent(mean, covariance, jnp.einsum("i,ij,ik->jk", weights, offset, spread))


def raveled(law: Callable[..., Any], example: PyTree[Any]) -> Callable[[Time], Conditional]:
    """``t -> (vector -> Moments)`` of ``(t, x) -> law``.

    Args:
        law: of a model.
        example: shapes and dtypes of one state.
    """
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example))
    return lambda t: lambda vector: law_moments(law(t, unravel(vector)))
