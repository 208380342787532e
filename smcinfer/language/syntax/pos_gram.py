r"""Words by part of speech: what a proposal knows of the next leaf of a target tree.

.. math::
    P(c \mid w) = \frac{n(c, w) + \kappa\, P(c \mid \text{ending and shape of } w)}{n(w) + \kappa}, \qquad
    P(w \mid c) \propto P(c \mid w)\, P(w)

Counts are of a treebank's training split; words that it lacks get the parts of speech of words that end and look alike.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.language.syntax.features import shape
from smcinfer.language.syntax.trees import Tree

KAPPA = 0.5
"""How many sightings the guess from ending and shape is worth."""

_FLOOR = 0.3
"""Sightings that every word has, so that a proposal covers all of them."""


class PosGram(eqx.Module):
    """Parts of speech over a model's vocabulary.

    Attributes:
        pos: Float["pos V"], log P(c | w), nats; zero in the first row.
        often: Float["V"], log P(w), nats.
        names: parts of speech; any other counts as the first, of which nothing is known.
    """

    pos: Float[Array, "pos vocab"]
    often: Float[Array, " vocab"]
    names: tuple[str, ...] = eqx.field(static=True)

    def word(self, pos: Int[Array, ""]) -> Float[Array, " vocab"]:
        """log P(w | c), nats, unnormalised."""
        return self.pos[pos] + self.often

    def ids(self, tree: Tree) -> list[int]:
        """Numbers of the parts of speech of a tree's leaves."""
        places = {name: number for number, name in enumerate(self.names)}
        return [places.get(leaf.label, 0) for leaf in tree.leaves()]


def pos_gram(trees: Sequence[Tree], words: Sequence[str]) -> PosGram:
    """The conditionals of the parts of speech in some trees.

    Args:
        trees: a training split.
        words: the vocabulary; what is no word (``"<s>"``) must be masked by whoever draws.
    """
    leaves = [leaf for tree in trees for leaf in tree.leaves()]
    names = ("", *sorted({leaf.label for leaf in leaves}))
    place = {name: number for number, name in enumerate(names)}
    column = {word: number for number, word in enumerate(words)}
    seen = np.zeros((len(names), len(words)))
    alike: dict[tuple[str, str], np.ndarray] = {}
    for leaf in leaves:
        row = place[leaf.label]
        if leaf.word in column:
            seen[row, column[leaf.word]] += 1
        for look in _looks(leaf.word):
            alike.setdefault(look, np.zeros(len(names)))[row] += 1
    # Nothing is known of the first: any word may have it.
    every = seen.sum(axis=1) + 1e-3
    every[0] = 0.0
    guess = np.stack([_guess(word, alike, every) for word in words], axis=1)
    share = (seen + KAPPA * guess) / (seen.sum(axis=0) + KAPPA)
    share[0] = 1.0
    often = seen.sum(axis=0) + _FLOOR
    dtype = jnp.result_type(float)
    return PosGram(jnp.asarray(np.log(share), dtype), jnp.asarray(np.log(often / often.sum()), dtype), names)


def _looks(word: str) -> list[tuple[str, str]]:
    """What words are alike in: the last three letters and the shape, then the last two, then the shape alone."""
    look = shape(word)
    return [(word[-3:].lower(), look), (word[-2:].lower(), look), ("", look)]


def _guess(word: str, alike: dict[tuple[str, str], np.ndarray], every: np.ndarray) -> np.ndarray:
    """Parts of speech of words alike, each look backed by the next wider one."""
    share = every / every.sum()
    for look in reversed(_looks(word)):
        counts = alike.get(look)
        if counts is not None:
            share = (counts + 3.0 * share) / (counts.sum() + 3.0)
    return share
