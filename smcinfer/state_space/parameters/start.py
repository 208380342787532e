"""Where chains over parameters start: at the likeliest of a few draws of the prior."""

import jax
import jax.numpy as jnp

from smcinfer.core.settings import Settings
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.state_space.parameters.parametric import Parametric

TRIES = 16
"""Draws of the prior that each chain chooses its start among, by their estimated likelihoods."""


def likely_position(key: KeyArray, target: Parametric, settings: Settings) -> tuple[Float[Array, " dim"], Scalar]:
    """One of several draws of the prior, chosen in proportion to its estimated likelihood.

    Args:
        key: one key.
        target: the model.
        settings: of the filter; what history it keeps does not matter.

    Returns:
        Unconstrained parameters, and the log of the likelihood estimate there.
    """
    draw_key, filter_key, choose_key = jax.random.split(key, 3)
    positions = target.prior.sample(draw_key, TRIES)
    keys = jax.random.split(filter_key, TRIES)
    values = jax.vmap(lambda key, x: target.log_likelihood(key, x, settings))(keys, positions)
    chosen = jax.random.categorical(choose_key, jnp.where(jnp.any(values > -jnp.inf), values, 0.0))
    return positions[chosen], values[chosen]
