r"""Words and pairs of words of a text as rows of a table, computed on bytes inside a compiled program.

A word's hash is the polynomial :math:`\sum_j c_j B^{j}` of its lower-case bytes modulo :math:`2^{32}`, had for all words at
once from one cumulative sum; B is odd, so that the powers in front of a word can be divided out. What comes out does not depend
on how a tokenizer cut the text.
"""

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Int, UInt
from smcinfer.language.spelling import is_word, lower_case

NUM_ROWS = 1 << 16
BASE = 0x01000193
PAIR = 0x85EBCA6B


def rows(text: UInt[Array, " bytes"], size: Int[Array, ""]) -> tuple[Int[Array, "bytes 2"], Bool[Array, "bytes 2"]]:
    """The table's rows of the words that end at each byte: of the word, and of it and the one before.

    Args:
        text: UInt8["B"]; only the first ``size`` count.

    Returns:
        Int["B 2"], and whether there is one.
    """
    length = text.shape[0]
    place = jnp.arange(length)
    inside = is_word(text) & (place < size)
    follows = jnp.concatenate([inside[1:], jnp.zeros(1, bool)])
    before = jnp.concatenate([jnp.zeros(1, bool), inside[:-1]])
    ends = inside & ~follows
    powers, inverses = (jnp.asarray(table) for table in _powers(length))
    total = jnp.cumsum(jnp.where(inside, lower_case(text).astype(jnp.uint32) * powers, jnp.uint32(0)), dtype=jnp.uint32)
    start = jax.lax.cummax(jnp.where(inside & ~before, place, 0))
    until_start = jnp.where(start > 0, total[jnp.maximum(start - 1, 0)], jnp.uint32(0))
    word = _mix((total - until_start) * inverses[start])
    # The last word that ended before this one began.
    last_end = jax.lax.cummax(jnp.where(ends, place, -1))
    previous = jnp.where(start > 0, last_end[jnp.maximum(start - 1, 0)], -1)
    pair = _mix(word * jnp.uint32(PAIR) + word[jnp.maximum(previous, 0)])
    found = jnp.stack([word, pair], axis=-1) % jnp.uint32(NUM_ROWS)
    return found.astype(jnp.int32), jnp.stack([ends, ends & (previous >= 0)], axis=-1)


def _mix(value: UInt[Array, "*any"]) -> UInt[Array, "*any"]:
    """Spreads every bit over all (the last steps of MurmurHash3)."""
    value = (value ^ (value >> 16)) * jnp.uint32(0x85EBCA6B)
    value = (value ^ (value >> 13)) * jnp.uint32(0xC2B2AE35)
    return value ^ (value >> 16)


def _powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """B^j and B^-j modulo 2^32, j from 0."""
    inverse = pow(BASE, -1, 1 << 32)
    tables = np.ones((2, max(length, 1)), np.uint32)
    for table, base in zip(tables, (BASE, inverse), strict=True):
        value = 1
        for place in range(1, length):
            value = value * base % (1 << 32)
            table[place] = value
    return tables[0], tables[1]
