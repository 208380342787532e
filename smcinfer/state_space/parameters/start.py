"""What chains over parameters have in common: where they start, and how they are tuned."""

from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.core.settings import Settings
from smcinfer.ground.arrays import Array, Float, KeyArray, PyTree, Scalar
from smcinfer.kernels.base import Kernel
from smcinfer.run.chains.of_kernel import tuned
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


def tuned_to(kernel: Kernel, params: PyTree[Any], rows: dict[str, Any]) -> PyTree[Any]:
    """A kernel's parameters after a round, from where all chains have put the model's parameters.

    Args:
        kernel: what moves the parameters.
        params: its parameters in the round; ``None`` before the first.
        rows: records of the round, leading axes (records, chains): ``position``, Float, and ``acceptance``.
    """
    by_chain = jnp.moveaxis(rows["position"], 0, 1)
    acceptance = jnp.mean(jnp.moveaxis(rows["acceptance"], 0, 1))
    return tuned(kernel, params, by_chain.reshape(-1, by_chain.shape[-1]), acceptance)
