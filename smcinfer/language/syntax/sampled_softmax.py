r"""A softmax over a large vocabulary, learned from a few of its words at a time.

Each target is told from itself and from shared negatives, their logits less the log of how often they are drawn, so that the
full softmax of the logits is what is learned.

Source: Jean, Cho, Memisevic & Bengio (2015).
"""

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.language.syntax.packing import NONE

POWER = 0.75
"""Negatives are drawn in proportion to how often a word occurs to this power."""


def log_share(counts: Float[np.ndarray, " vocab"]) -> Float[Array, " vocab"]:
    """Log of how often each word is drawn as a negative, given how often it occurs."""
    share = np.maximum(counts, 1e-6) ** POWER
    return jnp.asarray(np.log(share / share.sum()), jnp.float32)


def sampled_nats(
    key: KeyArray,
    said: Float[Array, "*items dim"],
    asked: Int[Array, "*items"],
    table: Float[Array, "vocab dim"],
    bias: Float[Array, " vocab"],
    shares: Float[Array, " vocab"],
    num_negatives: int,
) -> Scalar:
    """Mean negative log probability of the words asked for, nats, `NONE` left out.

    Args:
        key: draws the negatives.
        said: Float["*items dim"], logits are its products with the rows of the table, and the bias.
        asked: Int["*items"], words by number.
        table: Float["V dim"].
        bias: Float["V"].
        shares: Float["V"], of `log_share`.
        num_negatives: how many words targets are told from.
    """
    target = jnp.maximum(asked, 0)
    negatives = jax.random.categorical(key, shares, shape=(num_negatives,))
    offset = shares + jnp.log(float(num_negatives))
    right = jnp.sum(said * table[target], axis=-1) + bias[target] - offset[target]
    wrong = said @ table[negatives].T + bias[negatives] - offset[negatives]
    wrong = jnp.where(negatives == target[..., None], -jnp.inf, wrong)
    nats = jnp.logaddexp(right, jax.nn.logsumexp(wrong, axis=-1)) - right
    return jnp.sum(jnp.where(asked == NONE, 0.0, nats)) / jnp.sum(asked != NONE)
