r"""The quadratic twist: exact for linear Gaussian models, and the first thing to try on any with Gaussian transitions.

.. math:: \log \chi_t(x) = -\tfrac12 |F_t^\top z|^2 + b_t^\top z + c_t, \qquad z = (x - \mu_t) / s_t

Its proposal and its mean under the transition are closed forms (`smcinfer.twists.gaussian`). :math:`F F^\top` is positive
semi-definite by construction, so that a twist can narrow the transition but never make it improper.

Source: Heng, Bishop, Deligiannidis & Doucet (2020), section 5; Guarniero, Johansen & Lee (2017).
"""

import jax
import jax.numpy as jnp

from smcinfer.core.nouns import Time
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.twists.gaussian import Gaussian, GaussianTwist, tilt


class QuadraticTwist(GaussianTwist):
    """One quadratic a step.

    Attributes:
        factor: Float["steps d d"], F_t, for t = 0 .. T.
        shift: Float["steps d"], b_t.
        constant: Float["steps"], c_t, nats.
        centre, scale: Float["steps d"], mu_t and s_t, fixed: they set the units that are learned in.
    """

    factor: Float[Array, "steps d d"]
    shift: Float[Array, "steps d"]
    constant: Float[Array, " steps"]
    centre: Float[Array, "steps d"]
    scale: Float[Array, "steps d"]

    @classmethod
    def flat(
        cls, centre: Float[Array, "steps d"], scale: Float[Array, "steps d"], level: Float[Array, " steps"]
    ) -> "QuadraticTwist":
        """The twist that says next to nothing, in given units and at given levels (see `smcinfer.twists.units`)."""
        steps, dim = centre.shape
        # A little curvature, for the gradient by a zero factor is zero.
        factor = jnp.broadcast_to(0.1 * jnp.eye(dim, dtype=centre.dtype), (steps, dim, dim))
        return cls(factor, jnp.zeros_like(centre), level, centre, scale)

    def _units(self, t: Time) -> tuple[Array, Array]:
        return jax.lax.stop_gradient((self.centre[t], self.scale[t]))

    def log_value(self, t: Time, seen: Gaussian, x: Array) -> Scalar:
        """log chi_t at x, a quadratic in the scaled coordinates, nats."""
        del seen
        centre, scale = self._units(t)
        z = (jnp.reshape(x, -1) - centre) / scale
        bent = self.factor[t].T @ z
        return self.constant[t] + self.shift[t] @ z - 0.5 * bent @ bent

    def _tilted(self, t: Time, seen: Gaussian) -> tuple[Gaussian, Scalar]:
        centre, scale = self._units(t)
        standard = Gaussian((seen.mean - centre) / scale, seen.root / scale[:, None])
        tilted, log_mean = tilt(standard, self.factor[t], self.shift[t], self.constant[t])
        return Gaussian(centre + scale * tilted.mean, scale[:, None] * tilted.root), log_mean

    def law(self, t: Time, seen: Gaussian) -> Gaussian:
        """The transition times chi_t."""
        return self._tilted(t, seen)[0]

    def log_mean(self, t: Time, seen: Gaussian) -> Scalar:
        """log C_t, by completing the square, nats."""
        return self._tilted(t, seen)[1]

    def log_weight(self, t: Time, seen: Gaussian, x: Array) -> Scalar:
        """log C_t - log chi_t."""
        return self.log_mean(t, seen) - self.log_value(t, seen, x)

    def precision(self, t: int) -> Float[Array, "d d"]:
        """Curvature of -log chi_t in the units of x."""
        factor = self.factor[t] / self.scale[t][:, None]
        return factor @ factor.T
