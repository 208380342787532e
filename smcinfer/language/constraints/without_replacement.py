r"""Drawing tokens one after another without replacement, at a cost of about the square root of the vocabulary a draw.

Tokens are dealt to blocks like cards. A draw picks a block by its mass and a token by its share of the block,

.. math::
    P(v) = \frac{M_b}{M} \cdot \frac{e^{l_v}}{M_b}, \qquad M_b = \sum_{v \in b,\ \text{left}} e^{l_v}, \qquad M = \sum_b M_b

both by the largest of perturbed logarithms. Removing a token sums its block anew: nothing is subtracted, so that a tail is as
exact after its head was removed as it was before. The order of such draws has the law of Gumbel order.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, Scalar, UInt

_BITS = 32
"""Tokens a word of the set of removed ones."""


class Drawn(eqx.Module):
    """A token that was drawn, and the block that it lies in.

    Attributes:
        token: Int[""].
        log_p: Float[""], its logit.
        block: Int[""].
        row: Int[""], its place in the block.
        log_row: Float["rows"], logits of what is left of the block, the token included.
    """

    token: Int[Array, ""]
    log_p: Scalar
    block: Int[Array, ""]
    row: Int[Array, ""]
    log_row: Float[Array, " rows"]


class Remaining(eqx.Module):
    """What is left of a vocabulary (made by `everything`): small enough to be carried through a loop.

    Attributes:
        log_blocks: Float["blocks"], log mass left of every block, nats.
        log_mass: Float[""], log mass left in all.
        removed: UInt32["blocks words"], a bit a token.
    """

    log_blocks: Float[Array, " blocks"]
    log_mass: Scalar
    removed: UInt[Array, "blocks words"]

    def draw(self, key: KeyArray, logits: Float[Array, " vocab"]) -> Drawn:
        """One of the tokens left; meaningless where there is none.

        Args:
            key: consumed.
            logits: Float["V"], those that `everything` was made of.
        """
        blocks, vocab_size = self.log_blocks.shape[0], logits.shape[0]
        rows = -(-vocab_size // blocks)
        block_key, row_key = jax.random.split(key)
        block = _place_by_mass(block_key, self.log_blocks)
        tokens = block + blocks * jnp.arange(rows, dtype=jnp.int32)
        bits = self.removed[block][:, None] >> jnp.arange(_BITS, dtype=jnp.uint32) & 1
        left = (tokens < vocab_size) & (bits.reshape(-1)[:rows] == 0)
        log_row = jnp.where(left, logits[jnp.minimum(tokens, vocab_size - 1)], -jnp.inf)
        row = _place_by_mass(row_key, log_row)
        return Drawn(tokens[row], log_row[row], block, row, log_row)

    def without(self, drawn: Drawn, removes: Flag) -> "Remaining":
        """What is left without a token just drawn, where ``removes``."""
        log_row = jnp.where(jnp.arange(drawn.log_row.shape[0]) == drawn.row, -jnp.inf, drawn.log_row)
        at_block = (jnp.arange(self.log_blocks.shape[0]) == drawn.block) & removes
        log_blocks = jnp.where(at_block, jax.nn.logsumexp(log_row), self.log_blocks)
        word, bit = drawn.row // _BITS, jnp.uint32(1) << (drawn.row % _BITS).astype(jnp.uint32)
        at_word = at_block[:, None] & (jnp.arange(self.removed.shape[1]) == word)
        removed = jnp.where(at_word, self.removed | bit, self.removed)
        return Remaining(log_blocks, jax.nn.logsumexp(log_blocks), removed)


def everything(logits: Float[Array, " vocab"]) -> Remaining:
    """The whole vocabulary.

    Args:
        logits: Float["V"], nats, unnormalised; tokens of minus infinity are never drawn.
    """
    vocab_size = logits.shape[0]
    blocks = math.isqrt(vocab_size - 1) + 1
    whole = vocab_size // blocks * blocks
    # Blocks are columns: sums down the rows run through memory in order.
    table = logits[:whole].reshape(-1, blocks)
    rest = jnp.full((blocks,), -jnp.inf, logits.dtype).at[: vocab_size - whole].set(logits[whole:])
    top = jnp.maximum(table.max(0), rest)
    base = jnp.where(jnp.isfinite(top), top, 0.0)
    log_blocks = base + jnp.log(jnp.exp(table - base).sum(0) + jnp.exp(rest - base))
    rows = -(-vocab_size // blocks)
    removed = jnp.zeros((blocks, -(-rows // _BITS)), jnp.uint32)
    return Remaining(log_blocks, jax.nn.logsumexp(log_blocks), removed)


def _place_by_mass(key: KeyArray, log_values: Float[Array, " many"]) -> Int[Array, ""]:
    """A place by its share of the mass: a group of places first, then one of the group."""
    many = log_values.shape[0]
    side = math.isqrt(many - 1) + 1
    noise = jax.random.gumbel(key, (2, side), log_values.dtype)
    groups = jnp.pad(log_values, (0, side**2 - many), constant_values=-jnp.inf).reshape(side, side)
    group = _place_of_largest(jax.nn.logsumexp(groups, axis=1) + noise[0])
    return jnp.minimum(group * side + _place_of_largest(groups[group] + noise[1]), many - 1)


def _place_of_largest(values: Float[Array, " many"]) -> Int[Array, ""]:
    """argmax, from two plain reductions: several times faster where they are vectorised."""
    places = jnp.arange(values.shape[0], dtype=jnp.int32)
    # Not a number equals nothing: the last place then, so that every index stays in range.
    return jnp.min(jnp.where(values == values.max(), places, values.shape[0] - 1))
