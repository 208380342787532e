r"""A tetra-tagger with two readings of a sentence: one that knows all of it, and one that knows what came so far.

.. math::
    \log p(\text{tags} \mid w)
    = \sum_{i=1}^{N} \log p(l_i \mid w)\, p(c_i \mid w) + \sum_{i=1}^{N-1} \log p(g_i \mid w)

A word has a tag and a part of speech c, a gap has a tag. The bidirectional reading conditions on the whole sentence. The
causal one gives those of word i and of the gap *before* it from :math:`w_{1:i}` alone, so each word settles three factors as
it comes. Both read the same word vectors.
"""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray
from smcinfer.language.syntax.features import WordFeatures
from smcinfer.language.syntax.recurrent import LSTM, Memory
from smcinfer.language.syntax.tagset import TagSet
from smcinfer.language.syntax.tetra import decode
from smcinfer.language.syntax.trees import Tree


class TagLogProbs(eqx.Module):
    """Log probabilities of the tags of every word.

    Attributes:
        leaf: Float["*words leaf_tags"], nats.
        internal: Float["*words internal_tags"], of the gap before each word (that before the first is no tag), nats.
        pos: Float["*words pos"], parts of speech, nats.
    """

    leaf: Float[Array, "*words leaf_tags"]
    internal: Float[Array, "*words internal_tags"]
    pos: Float[Array, "*words pos"]


class Heads(eqx.Module):
    """From states of words to tags: a word's from its own state, a gap's from both its neighbours'.

    Parts of speech are read from a lower layer's state where there is one.
    """

    leaf: eqx.nn.MLP
    internal: eqx.nn.MLP
    pos: eqx.nn.Linear

    def __init__(self, key: KeyArray, num_states: int, tags: TagSet, width: int) -> None:
        keys = jax.random.split(key, 3)
        self.leaf = eqx.nn.MLP(num_states, len(tags.leaf), width, 1, key=keys[0])
        self.internal = eqx.nn.MLP(2 * num_states, len(tags.internal), width, 1, key=keys[1])
        self.pos = eqx.nn.Linear(num_states, len(tags.pos), key=keys[2])

    def __call__(
        self, before: Float[Array, " states"], here: Float[Array, " states"], lower: Float[Array, " states"]
    ) -> TagLogProbs:
        """Tags of one word and of the gap before it."""
        found = self.leaf(here), self.internal(jnp.concatenate([before, here])), self.pos(lower)
        return TagLogProbs(*map(jax.nn.log_softmax, found))

    def over(self, states: Float[Array, "words states"], lower: Float[Array, "words states"]) -> TagLogProbs:
        """Tags of all words of a row."""
        before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
        return jax.vmap(self)(before, states, lower)


class CausalTagger(eqx.Module):
    """Tags as words come."""

    memory: LSTM
    heads: Heads

    def start(self) -> Memory:
        """The memory before the first word."""
        return self.memory.start()

    def step(self, memory: Memory, vector: Float[Array, " dim"]) -> tuple[TagLogProbs, Memory]:
        """Tags of one more word, given by its vector, and of the gap before it."""
        after = self.memory.step(memory, vector)
        return self.heads(memory[0], after[0], after[0]), after

    def __call__(self, vectors: Float[Array, "words dim"], first: Bool[Array, " words"]) -> TagLogProbs:
        """Tags of all words; ``first`` marks where sentences begin."""
        states = self.memory.scan(vectors, first)
        return self.heads.over(states, states)


class BidirectionalTagger(eqx.Module):
    """Tags given the whole sentence: two layers, each read from both sides."""

    forward: tuple[LSTM, LSTM]
    backward: tuple[LSTM, LSTM]
    heads: Heads
    dropout: eqx.nn.Dropout

    def states(
        self,
        vectors: Float[Array, "words dim"],
        first: Bool[Array, " words"],
        last: Bool[Array, " words"],
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "words states"], Float[Array, "words states"]]:
        """States of the words in the lower and in the upper layer; ``first`` and ``last`` mark the ends of sentences."""
        keys = (None, None) if key is None else tuple(jax.random.split(key))
        below, found = vectors, []
        for layer in range(2):
            ahead = self.forward[layer].scan(below, first)
            back = self.backward[layer].scan(below, last, reverse=True)
            below = self.dropout(jnp.concatenate([ahead, back], axis=-1), key=keys[layer], inference=key is None)
            found.append(below)
        return found[0], found[1]

    def __call__(
        self, vectors: Float[Array, "words dim"], first: Bool[Array, " words"], last: Bool[Array, " words"]
    ) -> TagLogProbs:
        """Tags of all words."""
        lower, upper = self.states(vectors, first, last)
        return self.heads.over(upper, lower)


class Tagger(eqx.Module):
    """Both readings, over one table of word vectors.

    Attributes:
        table: Float["rows dim"], a word's vector is the sum of the rows of its features.
        bidirectional: the reading of whole sentences, for potentials.
        causal: the reading of prefixes, for twists.
        tags: the tags it knows.
        features: rows of any word.
    """

    table: Float[Array, "rows dim"]
    bidirectional: BidirectionalTagger
    causal: CausalTagger
    tags: TagSet = eqx.field(static=True)
    features: WordFeatures = eqx.field(static=True)

    def vectors(self, rows: Int[Array, "*words kinds"]) -> Float[Array, "*words dim"]:
        """Vectors of words given by the rows of their features."""
        return jnp.sum(self.table[rows], axis=-2)

    def parse(self, words: Sequence[str]) -> Tree:
        """The tree of highest tag probability over some words."""
        count = len(words)
        padded = max(32, 1 << (count - 1).bit_length())  # few different sizes to compile for
        rows = self.features([*words, *[""] * (padded - count)])
        tags = _read(self, jnp.asarray(rows), jnp.asarray(count))
        names = [self.tags.pos[1 + number] for number in np.asarray(tags.pos)[:count, 1:].argmax(axis=-1).tolist()]
        leaves = [Tree(name, (), word) for name, word in zip(names, words, strict=True)]
        best = self.tags.best(np.asarray(tags.leaf, np.float64)[:count], np.asarray(tags.internal, np.float64)[1:count])
        return decode(best, leaves)


@eqx.filter_jit
def _read(tagger: Tagger, rows: Int[Array, "words kinds"], count: Int[Array, ""]) -> TagLogProbs:
    place = jnp.arange(rows.shape[0])
    return tagger.bidirectional(tagger.vectors(rows), place == 0, place == count - 1)


@dataclasses.dataclass(frozen=True)
class TaggerSizes:
    """Sizes of a tagger's parts.

    Attributes:
        dim: of word vectors.
        hidden: of each direction of the bidirectional reading.
        causal: of the causal reading.
        width: of the heads' hidden layer.
        dropout: share of states dropped in training.
    """

    dim: int = 128
    hidden: int = 160
    causal: int = 160
    width: int = 112
    dropout: float = 0.4


def build(key: KeyArray, tags: TagSet, features: WordFeatures, sizes: TaggerSizes = TaggerSizes()) -> Tagger:
    """A tagger with weights as they are before training.

    Args:
        key: one random key, for the initial weights.
        tags: the tags and parts of speech that it tells apart.
        features: what turns words into rows of the table of embeddings.
        sizes: of its parts.
    """
    keys = jax.random.split(key, 8)
    states = 2 * sizes.hidden
    inputs = (sizes.dim, states)
    forward, backward = (
        tuple(LSTM(keys[2 * way + at], inputs[at], sizes.hidden) for at in range(2)) for way in range(2)
    )
    bidirectional = BidirectionalTagger(
        forward,  # pyright: ignore[reportArgumentType]
        backward,  # pyright: ignore[reportArgumentType]
        Heads(keys[4], states, tags, sizes.width),
        eqx.nn.Dropout(sizes.dropout),
    )
    causal = CausalTagger(LSTM(keys[5], sizes.dim, sizes.causal), Heads(keys[6], sizes.causal, tags, sizes.width))
    table = 0.3 * jax.random.normal(keys[7], (features.num_rows, sizes.dim))
    return Tagger(table, bidirectional, causal, tags, features)
