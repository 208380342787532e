r"""A proposal for particle filters by one Gaussian update of the transition.

.. math:: q(x_t \mid x_{t-1}, y_t) = N(m + K (y_t - \hat y), P - K S K^\top), \qquad x_t \mid x_{t-1} \sim (m, P)

It is the best proposal that looks no further where the observation is linear and Gaussian given :math:`x_t`, and a guess
elsewhere, which costs particles and never correctness.

Source: Doucet, Godsill & Andrieu (2000), section II.D.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree

from smcinfer.ground import validate
from smcinfer.ground.arrays import PyTree, Time
from smcinfer.ground.errors import TargetError
from smcinfer.state_space.gaussian.moments import extended, law_moments, unscented
from smcinfer.state_space.gaussian.sequential import learned

TRANSFORMS = {"extended": extended, "unscented": unscented}


class GaussianGuide(eqx.Module):
    """``(t, x, y) -> law``: the proposal of `state_space` (made by `gaussian_guide`).

    Attributes:
        transition, observation: of the model.
        method: how the observation's moments are had.
    """

    transition: Callable[..., Any]
    observation: Callable[..., Any]
    method: str = eqx.field(static=True)

    def __call__(self, t: Time, x: PyTree[Any], y: PyTree[Any], *now: Any) -> dist.Distribution:
        """The law to draw x_t from, given x_{t-1} and y_t.

        Raises:
            TargetError: the state is no array of real numbers.
        """
        if not isinstance(x, jax.Array) or not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim > 1:
            raise TargetError(
                "a Gaussian guide needs a state that is one number or one vector",
                expected="a state of shape () or (d,)",
                got=jax.tree.map(jnp.shape, x),
                hint="draw the entries of a tree from one MultivariateNormal, and take them apart in the observation",
            )
        before = law_moments(self.transition(t, x, *now))
        look = lambda vector: law_moments(self.observation(t, vector.reshape(x.shape), *now))  # noqa: E731
        seen = ravel_pytree(y)[0].astype(before.mean.dtype)
        after, _ = learned(before, TRANSFORMS[self.method](look, before), seen, jnp.ones(seen.shape, bool))
        if x.ndim == 0:
            return dist.Normal(after.mean[0], jnp.sqrt(after.covariance[0, 0]))
        return dist.MultivariateNormal(after.mean, after.covariance)


def gaussian_guide(
    transition: Callable[..., Any], observation: Callable[..., Any], *, method: str = "extended"
) -> GaussianGuide:
    """A proposal for `state_space` by one Gaussian update of the transition.

    Args:
        transition, observation: as `state_space` takes them, laws with a mean and a variance.
        method: ``"extended"``, by the derivative of the observation's mean, or ``"unscented"``, by points.

    Returns:
        What `state_space` takes as ``proposal``.
    """
    return GaussianGuide(transition, observation, validate.one_of("method", method, TRANSFORMS))
