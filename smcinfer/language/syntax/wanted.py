"""A target tree in numbers, and what a word's tags are worth to it."""

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Bool, Int, Scalar
from smcinfer.language.syntax.tagger import TagLogProbs


class Wanted(eqx.Module):
    """The target tree in numbers, room left for longer ones so that trees of different sizes share a compiled program.

    Attributes:
        leaf: Int["W"], the tag of each word.
        internal: Int["W"], the tag of the gap before each word; that before the first is none.
        pos: Int["W"], the part of speech of each word; zero where none is asked for, or the tagger does not know it.
        num_words: Int[""], N, at most W.
    """

    leaf: Int[Array, " max_words"]
    internal: Int[Array, " max_words"]
    pos: Int[Array, " max_words"]
    num_words: Int[Array, ""]

    def is_word(self) -> Bool[Array, " max_words"]:
        """Which places have a word."""
        return jnp.arange(self.leaf.shape[0]) < self.num_words

    def gain(self, place: Int[Array, ""], found: TagLogProbs) -> Scalar:
        """What one word's tags are worth: its own, its part of speech and that of the gap before it, nats."""
        leaf, internal = found.leaf[self.leaf[place]], found.internal[self.internal[place]]
        pos = jnp.where(self.pos[place] == 0, 0.0, found.pos[self.pos[place]])
        return leaf + pos + jnp.where(place == 0, 0.0, internal)
