"""Which bytes of a text belong to words, by the Unicode properties of the letters that they spell."""

import functools
import sys
import unicodedata

import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Int, UInt

APOSTROPHES = (0x27, 0x2019)
"""Part of a word between two of its letters, a quotation mark elsewhere."""


@functools.cache
def _edges() -> np.ndarray:
    """Int32["R"], code points where letters, marks and numbers begin, and where they end, in turn."""
    kinds = [unicodedata.category(chr(point))[0] in "LMN" for point in range(sys.maxunicode + 1)]
    return np.flatnonzero(np.diff(np.array([False, *kinds, False]))).astype(np.int32)


def in_words(
    text: UInt[Array, " bytes"], size: Int[Array, ""], ended: Bool[Array, ""] | bool = True
) -> Bool[Array, " bytes"]:
    """Which bytes belong to words: those of letters, marks and numbers, and of an apostrophe between two of them.

    Args:
        text, size: UTF-8, as `Spelling.read` returns it.
        ended: whether the text is complete; else a letter that is cut off counts as one, and so does what may follow the end.
    """
    length = text.shape[0]
    place = jnp.arange(length)
    first, second, third, fourth = (
        jnp.concatenate([text, jnp.zeros(3, text.dtype)])[offset : offset + length].astype(jnp.int32)
        for offset in range(4)
    )
    width = 1 + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)
    tail = ((second & 63) << 12) | ((third & 63) << 6) | (fourth & 63)
    point = jnp.where(width == 1, first, ((first & (0xFF >> (width + 1))) << 18 | tail) >> (6 * (4 - width)))
    whole = place + width <= size
    letter = jnp.searchsorted(jnp.asarray(_edges()), point, side="right") % 2 == 1
    letter = jnp.where(whole, letter, ~jnp.asarray(ended)) & (place < size)
    letter = _spread(letter, text)
    before = jnp.concatenate([jnp.zeros(1, bool), letter[:-1]])
    after = jnp.where(place + width >= size, ~jnp.asarray(ended), letter[jnp.minimum(place + width, length - 1)])
    between = whole & before & after & jnp.isin(point, jnp.asarray(APOSTROPHES))
    return letter | _spread(between, text)


def _spread(leading: Bool[Array, " bytes"], text: UInt[Array, " bytes"]) -> Bool[Array, " bytes"]:
    """What holds of the first byte of a letter, for all its bytes."""
    goes_on = (text & 0xC0) == 0x80
    found = leading & ~goes_on
    for _ in range(3):
        found = found | (goes_on & jnp.concatenate([jnp.zeros(1, bool), found[:-1]]))
    return found
