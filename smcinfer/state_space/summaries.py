"""Moments and quantiles of a weighted population, on the device: what a filter leaves of every step."""

from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, LogWeights, Particles, PyTree


def moments(particles: Particles, log_weights: LogWeights) -> tuple[PyTree[Any], PyTree[Any]]:
    """Weighted mean and standard deviation of every scalar of the state.

    Args:
        particles: pytree, every leaf with a leading axis of ``num_particles``.
        log_weights: Float["num_particles"], normalised, nats.

    Returns:
        Two trees of floats without the particle axis. What particles of weight zero hold does not count.
    """
    weights = jnp.exp(log_weights)

    def mean(leaf: Array) -> Array:
        return jnp.tensordot(weights, leaf, axes=1)

    floats = jax.tree.map(lambda leaf: _counted(leaf, weights), particles)
    means = jax.tree.map(mean, floats)
    return means, jax.tree.map(lambda leaf, centre: jnp.sqrt(mean((leaf - centre) ** 2)), floats, means)


def quantiles(particles: Particles, log_weights: LogWeights, levels: tuple[float, ...]) -> PyTree[Any]:
    """Weighted quantiles of every scalar of the state, each value standing at the middle of its own weight.

    Args:
        particles: pytree, every leaf with a leading axis of ``num_particles``.
        log_weights: Float["num_particles"], normalised, nats.
        levels: in [0, 1].

    Returns:
        A tree of floats, the particle axis replaced by one of levels.
    """
    weights = jnp.exp(log_weights)

    def one(values: Float[Array, " n"]) -> Float[Array, " levels"]:
        order = jnp.argsort(values)
        sorted_weights = weights[order]
        middles = jnp.cumsum(sorted_weights) - sorted_weights / 2
        return jnp.interp(jnp.asarray(levels, middles.dtype), middles, values[order])

    def leaf(values: Array) -> Array:
        flat = _counted(values, weights).reshape(values.shape[0], -1)
        return jax.vmap(one, 1, 1)(flat).reshape(len(levels), *values.shape[1:])

    return jax.tree.map(leaf, particles)


def _counted(leaf: Array, weights: Array) -> Array:
    """As floats; the heaviest particle's value where the weight is zero."""
    values = leaf.astype(weights.dtype)
    alive = (weights > 0).reshape(-1, *(1,) * (leaf.ndim - 1))
    return jnp.where(alive, values, values[jnp.argmax(weights)])
