r"""A look-ahead by a Gaussian filter and smoother: what the smoother knows of a state and the prediction does not.

.. math::
    \chi_t(x) = p(y_{t:T} \mid x_t = x)
        = p(y_{t:T} \mid y_{0:t-1})\, \frac{p(x_t = x \mid y_{0:T})}{p(x_t = x \mid y_{0:t-1})}

Both densities are Gaussian for a Gaussian filter, so the look-ahead is a quadratic: exact for linear Gaussian models, where a
filter that it twists has no variance, and a guess elsewhere, which costs particles and never correctness.
"""

import jax
import jax.numpy as jnp

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Scalar
from smcinfer.state_space.gaussian.doors import METHODS, filtered_and_smoothed, refuse_nonlinear
from smcinfer.state_space.gaussian.moments import Moments
from smcinfer.state_space.gaussian.sequential import Filtered
from smcinfer.state_space.model import StateSpace
from smcinfer.twists.quadratic import QuadraticTwist


def gaussian_twist(model: StateSpace, *, method: str = "extended") -> QuadraticTwist:
    """The quadratic look-ahead of a Gaussian filter; ``twists.attach(model, twist)`` puts it on the model with its proposal.

    Args:
        model: made by `state_space`, with data and Gaussian transitions; observations of any law with a mean and a variance.
        method: as in `smcinfer.gaussian_filter`.

    Raises:
        ArgumentError: for an unknown method.
        TargetError: as of `smcinfer.gaussian_filter`.
    """
    model = validate.instance("model", model, StateSpace, "a model made by smcinfer.state_space")
    if validate.one_of("method", method, METHODS) == "kalman":
        refuse_nonlinear(model)
    found, smooth, _ = filtered_and_smoothed(model, method, None)
    return QuadraticTwist(*_quadratics(found, smooth))


@jax.jit
def _quadratics(found: Filtered, smooth: Moments) -> tuple[Array, ...]:
    """Factor, shift, constant, centre and scale of every step."""
    to_come = jnp.cumsum(found.log_z_increments[::-1])[::-1]
    return jax.vmap(_quadratic)(found.predicted, smooth, to_come)


def _quadratic(before: Moments, after: Moments, to_come: Scalar) -> tuple[Array, ...]:
    """One step, in the units of the smoother: log of the ratio of two Gaussian densities (module equation)."""
    centre, scale = after.mean, jnp.sqrt(jnp.diagonal(after.covariance))
    both = scale[:, None] * scale[None, :]
    mean, wide, narrow = (before.mean - centre) / scale, before.covariance / both, after.covariance / both
    gained = jnp.linalg.inv(narrow) - jnp.linalg.inv(wide)
    # Data never take precision away; what rounding or a bad guess says to the contrary is left out.
    sizes, axes = jnp.linalg.eigh((gained + gained.T) / 2)
    factor = axes * jnp.sqrt(jnp.maximum(sizes, 0.0))
    pull = jnp.linalg.solve(wide, mean)
    sizes_apart = jnp.linalg.slogdet(wide)[1] - jnp.linalg.slogdet(narrow)[1]
    said = (factor, -pull, to_come + 0.5 * (mean @ pull + sizes_apart), centre, scale)
    # Where the filter has diverged it says nothing.
    nothing = (
        jnp.zeros_like(factor),
        jnp.zeros_like(pull),
        jnp.zeros(()),
        jnp.zeros_like(centre),
        jnp.ones_like(scale),
    )
    sound = jnp.all(jnp.asarray([jnp.all(jnp.isfinite(part)) for part in said]))
    return jax.tree.map(lambda new, none: jnp.where(sound, new, none), said, nothing)
