"""Whether the potentials of a cloud have two humps with next to nothing between them."""

import jax
import jax.numpy as jnp

from smcinfer.core.weights import normalise
from smcinfer.ground.arrays import LogWeights, Scalar

LEAST = 32
"""Fewest particles of a hump."""

PARTS = 32
"""A hump has at least one of so many parts of the particles."""


def sparseness(log_potential: LogWeights, log_weights: LogWeights) -> Scalar:
    r"""How many times sparser the potentials are between two humps than in the sparser of the two; 1 where there is one hump.

    With :math:`g_j = \Phi_{(j + k)} - \Phi_{(j)}` the spacings of sorted potentials, k particles apart, it is the largest
    :math:`g_j` over the smallest before it, or after it, whichever is less. Of one hump the spacings first fall, then rise.

    Args:
        log_potential: Float["n"], nats; what is not finite does not count, nor do potentials of weight zero.
        log_weights: Float["n"], normalised.
    """
    size = log_potential.shape[0]
    k = max(LEAST, size // PARTS)
    if size < 4 * k:
        return jnp.ones((), log_potential.dtype)
    counted = jnp.isfinite(log_potential) & (normalise(log_weights)[0] > -jnp.inf)
    # Those that do not count go to the end and lie apart by nothing that could be compared.
    ordered = jnp.sort(jnp.where(counted, log_potential, jnp.inf))
    gaps = ordered[k:] - ordered[:-k]
    gaps = jnp.where(jnp.isfinite(gaps), gaps, jnp.inf)
    before = jax.lax.cummin(gaps)
    after = jax.lax.cummin(gaps, reverse=True)
    sparser = gaps / jnp.maximum(before, after)
    # Equal potentials, of counts say, are no hump.
    usable = jnp.isfinite(gaps) & (jnp.minimum(before, after) > 0)
    return jnp.max(jnp.where(usable, sparser, 1.0))
