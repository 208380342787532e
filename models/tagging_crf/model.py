r"""A conditional random field over tags, with an edge between repeated capitalised words of a sentence.

.. math::
    p(y \mid x) \propto \exp\Bigl\{ \sum_t \sum_f W_{f(x, t),\, y_t} + \sum_t A(y_{t-1}, y_t)
    + \sum_{(s,t)} \kappa_{c(y_t)} 1[c(y_s) = c(y_t)] \Bigr\}

c(y) is the type of entity, or none. Without the skip edges the field is a chain and every sum is exact; with them it has
loops, and blocks of tags are moved by Gibbs.

Sources: Lafferty, McCallum & Pereira (2001); skip edges, Sutton & McCallum (2004); Wang, Wu, Moore & Russell (2018).
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from smcinfer.graphs import FactorGraph, factor_graph, tables
from smcinfer.ground.arrays import Array, Bool, Float, Int, UInt
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.tagging_crf import features
from smcinfer.models.tagging_crf.reader import Sentence


class Batch(eqx.Module):
    """Sentences of one padded length.

    Attributes:
        rows: Int["sentences words features"], rows of the table of weights; their number where a feature has none.
        tags: Int["sentences words"], zero where a word is not there.
        there: Bool["sentences words"].
        skips: Int["sentences skips 2"], places of linked words, the padded length where there is no edge.
    """

    rows: Int[Array, "sentences words features"]
    tags: Int[Array, "sentences words"]
    there: Bool[Array, "sentences words"]
    skips: Int[Array, "sentences skips 2"]


class TaggingCRF(eqx.Module):
    """The field (made by `tagging_crf`, trained by the recipe).

    Attributes:
        keys: UInt["rows"], hashes of the features that have weights, in order.
        weights: Float["rows tags"], nats.
        transition: Float["tags tags"], nats.
        skip: Float["classes"], what two linked words earn by being of one class: no entity first, then each type, nats.
        tags: the tags' names, ``O`` first.
    """

    keys: UInt[Array, " rows"]
    weights: Float[Array, "rows tags"]
    transition: Float[Array, "tags tags"]
    skip: Float[Array, " classes"]
    tags: tuple[str, ...] = eqx.field(static=True)

    @property
    def classes(self) -> tuple[int, ...]:
        """The class of each tag: zero for none, then types in order of appearance."""
        kinds = ["", *dict.fromkeys(tag[2:] for tag in self.tags if tag[2:])]
        return tuple(kinds.index(tag[2:]) for tag in self.tags)

    @property
    def agreement(self) -> Float[Array, "tags tags"]:
        """The skip edge as a table of two tags, nats."""
        kinds = jnp.asarray(self.classes)
        return jnp.where(kinds[:, None] == kinds, self.skip[kinds], 0.0)

    def unary(self, rows: Int[Array, "*batch features"]) -> Float[Array, "*batch tags"]:
        """Log weight of every tag of a word by its features alone, nats."""
        return jnp.sum(self.weights.at[rows].get(mode="fill", fill_value=0.0), axis=-2)

    def batch(self, sentences: Sequence[Sentence]) -> Batch:
        """Sentences as padded arrays.

        Raises:
            ArgumentError: a tag that the field does not know.
        """
        longest = max(len(sentence.words) for sentence in sentences)
        edges = [features.repeated(sentence.words) for sentence in sentences]
        keys = np.asarray(self.keys)
        rows = np.full((len(sentences), longest, features.NUM_FEATURES), len(keys), np.int32)
        tags, there = np.zeros(rows.shape[:2], np.int32), np.zeros(rows.shape[:2], bool)
        skips = np.full((len(sentences), max(1, *map(len, edges)), 2), longest, np.int32)
        for at, (sentence, pairs) in enumerate(zip(sentences, edges, strict=True)):
            size = len(sentence.words)
            rows[at, :size] = features.rows(sentence.words, keys)
            tags[at, :size] = [self._number(tag) for tag in sentence.tags]
            there[at, :size] = True
            skips[at, : len(pairs)] = np.reshape(pairs, (-1, 2))
        return Batch(jnp.asarray(rows), jnp.asarray(tags), jnp.asarray(there), jnp.asarray(skips))

    def _number(self, tag: str) -> int:
        if tag not in self.tags:
            raise ArgumentError("the field does not know a tag", expected=" | ".join(self.tags), got=tag)
        return self.tags.index(tag)

    def graph(self, sentences: Sequence[Sequence[str]]) -> FactorGraph:
        """One factor graph of many sentences: a variable a word, groups ``unary``, ``pair`` and ``skip``.

        Args:
            sentences: words.
        """
        starts = np.cumsum([0, *map(len, sentences)])
        keys = np.asarray(self.keys)
        rows = np.concatenate([features.rows(words, keys) for words in sentences])
        unary = np.asarray(eqx.filter_jit(self.unary)(rows))
        word = np.arange(starts[-1])
        follows = np.setdiff1d(word, starts)
        links = [
            (start + first, start + second)
            for start, words in zip(starts, sentences, strict=False)
            for first, second in features.repeated(words)
        ]
        groups = {"unary": tables(word[:, None], unary)}
        if follows.size:
            groups["pair"] = tables(np.stack([follows - 1, follows], axis=1), np.asarray(self.transition)[None])
        if links:
            groups["skip"] = tables(np.array(links), np.asarray(self.agreement)[None])
        return factor_graph([len(self.tags)] * int(starts[-1]), groups)

    def split(self, tags: Int[np.ndarray, " words"], sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """The names of one tagging of all words, sentence by sentence."""
        ends = np.cumsum([len(words) for words in sentences])
        return [[self.tags[tag] for tag in part] for part in np.split(np.asarray(tags), ends[:-1])]


def tagging_crf(tags: Sequence[str], keys: UInt[np.ndarray, " rows"]) -> TaggingCRF:
    """A field that knows nothing, its weights zero.

    Args:
        tags: names, ``O`` first.
        keys: hashes of features, in order (`features.learn_keys`).

    Raises:
        ArgumentError: tags that are not in BIO form, or no features.
    """
    if not tags or tags[0] != "O" or any(tag[:2] not in ("B-", "I-") for tag in tags[1:]):
        raise ArgumentError("tags are not in BIO form", expected="O, then B-type and I-type", got=tuple(tags))
    if len(keys) == 0:
        raise ArgumentError("the field has no features", expected="at least one key", got=keys)
    dtype, num = jnp.result_type(float), len(tags)
    kinds = {tag[2:] for tag in tags[1:]}
    return TaggingCRF(
        jnp.asarray(keys),
        jnp.zeros((len(keys), num), dtype),
        jnp.zeros((num, num), dtype),
        jnp.zeros((1 + len(kinds),), dtype),
        tuple(tags),
    )
