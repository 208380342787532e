"""The units that a twist learns in: where each x_t is, how far it spreads, and about how much is still to be earned."""

import jax.numpy as jnp

from smcinfer.core.compose import Composed
from smcinfer.ground.arrays import Array, Float, KeyArray
from smcinfer.ground.programs import compiled
from smcinfer.twists.gaussian import as_gaussian
from smcinfer.twists.paths import Paths, watch
from smcinfer.twists.quadratic import QuadraticTwist


@compiled
def units(
    key: KeyArray, model: Composed, num_particles: int
) -> tuple[Float[Array, "steps d"], Float[Array, "steps d"], Float[Array, " steps"]]:
    """Centre, scale and level of every x_t, t = 0 .. T, among the weighted particles of one run.

    Args:
        key: of the run.
        model: with Gaussian transitions.
        num_particles: of the run.

    Returns:
        Means and standard deviations, Float["T+1 d"] each, zero and one for a known x_0; and log of what the steps from t on
        added to Z_hat, Float["T+1"], nats: about where log chi_t lies.

    Raises:
        TargetError: where a transition is not Gaussian.
    """
    process = model.process
    law = process.initial()
    if law is None:
        t = jnp.zeros((), jnp.int32)
        law = process.transition(t + 1, process.advance(t, None, None))
    dim = as_gaussian(law).mean.shape[0]
    dtype = jnp.result_type(float)
    one = jnp.ones((model.num_steps + 1, dim), dtype)
    cloud = watch(key, model, QuadraticTwist.flat(one, one, one[:, 0]), num_particles)
    paths = cloud.paths
    centre, scale = spread(paths, jnp.exp(paths.log_weights))
    missing = model.num_steps + 1 - centre.shape[0]
    return (
        jnp.concatenate([jnp.zeros((missing, dim), dtype), centre]),
        jnp.concatenate([jnp.ones((missing, dim), dtype), scale]),
        jnp.cumsum(cloud.log_z_increments[::-1])[::-1].astype(dtype),
    )


def spread(paths: Paths, weights: Float[Array, "S K"]) -> tuple[Float[Array, "S d"], Float[Array, "S d"]]:
    """Weighted mean and standard deviation of x at every step; at least a thousandth, so that it can be divided by."""
    steps, num = weights.shape
    x = jnp.reshape(paths.x, (steps, num, -1))
    mean = jnp.einsum("sk,skd->sd", weights, x)
    variance = jnp.einsum("sk,skd->sd", weights, (x - mean[:, None]) ** 2)
    return mean, jnp.sqrt(variance) + 1e-3
