"""Ancestors that are numbered within islands: parts of a population that do not exchange particles."""

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Int


def gather(leaf: Array, ancestors: Int[Array, "islands num"]) -> Array:
    """Rows of a leaf by ancestor, each island from its own rows.

    Args:
        leaf: leading axis of all particles, island after island.
        ancestors: Int["islands num"], numbered within the island.
    """
    if ancestors.shape[0] == 1:
        return leaf[ancestors[0]]
    blocks = leaf.reshape(ancestors.shape[0], -1, *leaf.shape[1:])
    chosen = jax.vmap(lambda block, index: block[index])(blocks, ancestors)
    return chosen.reshape(-1, *leaf.shape[1:])


def number(parents: Int[Array, "islands size"]) -> Int[Array, " num_particles"]:
    """Parents numbered over all islands, from numbers within each."""
    islands, size = parents.shape
    return (parents + size * jnp.arange(islands, dtype=parents.dtype)[:, None]).reshape(-1)
