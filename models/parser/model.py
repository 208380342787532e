r"""A chart parser that scores every span: for evaluation, and for nothing else.

.. math:: \hat T = \arg\max_T \sum_{(i,j,l) \in T} \log \frac{p(l \mid i, j, w)}{p(\text{no constituent} \mid i, j, w)}

Each span's label is a local choice given the sentence; the Cocke-Kasami-Younger recursion finds the tree of highest total. It
shares no tags, weights, training documents or seed with the taggers that steer generation.

Source: Stern, Andreas & Klein (2017), features of spans; Teng & Zhang (2018), local labels.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray
from smcinfer.language.syntax.features import WordFeatures
from smcinfer.language.syntax.recurrent import LSTM
from smcinfer.language.syntax.tetra import JOIN
from smcinfer.language.syntax.trees import Tree

NULL = 0
"""Label of spans that are no constituents."""
DIM, HIDDEN = 112, 128
"""Sizes of word vectors and of either direction of a layer."""


class ChartParser(eqx.Module):
    """Two bidirectional layers over word vectors, a score each span and label.

    Attributes:
        table: Float["rows dim"], a word's vector is the sum of the rows of its features.
        forward, backward: the two layers.
        ends: from a place between two words to features; a span is the difference of its ends'.
        score: from a span's features to its labels.
        pos: from the lower layer to parts of speech.
        labels: names of labels, the empty one first; chains are joined.
        pos_names: parts of speech.
        features: rows of any word.
    """

    table: Float[Array, "rows dim"]
    forward: tuple[LSTM, LSTM]
    backward: tuple[LSTM, LSTM]
    ends: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    score: eqx.nn.Linear
    pos: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    labels: tuple[str, ...] = eqx.field(static=True)
    pos_names: tuple[str, ...] = eqx.field(static=True)
    features: WordFeatures = eqx.field(static=True)

    def states(
        self,
        rows: Int[Array, "words kinds"],
        first: Bool[Array, " words"],
        last: Bool[Array, " words"],
        key: KeyArray | None = None,
    ) -> tuple[Float[Array, "words lower"], Float[Array, "words upper"], Float[Array, "words upper"]]:
        """States of words in the lower layer; in the upper one, of the place before each word and of the place after it.

        A place knows what was read up to it from the left and from the right, nothing from beyond the sentence.
        """
        keys = (None,) * 3 if key is None else tuple(jax.random.split(key, 3))
        below = self.dropout(jnp.sum(self.table[rows], axis=-2), key=keys[0], inference=key is None)
        ahead, back = self.forward[0].scan(below, first), self.backward[0].scan(below, last, reverse=True)
        lower = self.dropout(jnp.concatenate([ahead, back], axis=-1), key=keys[1], inference=key is None)
        ahead, back = self.forward[1].scan(lower, first), self.backward[1].scan(lower, last, reverse=True)
        none = jnp.zeros_like(ahead[:1])
        before = jnp.where(first[:, None], 0.0, jnp.concatenate([none, ahead[:-1]]))
        after = jnp.where(last[:, None], 0.0, jnp.concatenate([back[1:], none]))
        opening, closing = jnp.concatenate([before, back], axis=-1), jnp.concatenate([ahead, after], axis=-1)
        # One mask for both: they are places of one kind, and their difference is what counts.
        mask = self.dropout(jnp.ones_like(opening), key=keys[2], inference=key is None)
        return lower, opening * mask, closing * mask

    def spans(
        self,
        opening: Float[Array, "words upper"],
        closing: Float[Array, "words upper"],
        starts: Int[Array, "*spans"],
        ends: Int[Array, "*spans"],
    ) -> Float[Array, "*spans labels"]:
        """Log probabilities of the labels of spans, given by their first and last words."""
        # The first layer is linear: places go through it before they are paired.
        begun, done = (states @ self.ends.weight.T for states in (opening, closing))
        found = jnp.reshape(done[ends] - begun[starts], (-1, begun.shape[-1]))
        found = jax.nn.log_softmax(jax.vmap(self.score)(jax.nn.relu(jax.vmap(self.norm)(found))))
        return jnp.reshape(found, (*starts.shape, -1))


class ChartParsers(eqx.Module):
    """Parsers trained alike from different seeds; the probabilities of their labels are averaged.

    Attributes:
        members: the parsers.
    """

    members: tuple[ChartParser, ...]

    def parse(self, words: Sequence[str]) -> Tree:
        """The tree of highest total score over some words."""
        count = len(words)
        padded = max(32, 1 << (count - 1).bit_length())  # few different sizes to compile for
        names = self.members[0].pos_names
        rows = self.members[0].features([*words, *[""] * (padded - count)])
        log_probs, pos = _read(self, jnp.asarray(rows), jnp.asarray(count))
        chart = np.asarray(log_probs, np.float64)[:count, :count]
        leaves = [Tree(names[at], (), word) for at, word in zip(np.asarray(pos).tolist(), words, strict=False)]
        return _best_tree(chart, self.members[0].labels, leaves)


@eqx.filter_jit
def _read(parsers: ChartParsers, rows: Int[Array, "words kinds"], count: Int[Array, ""]) -> tuple[Array, Array]:
    """Log of the mean probability of every span's labels, and the parts of speech most probable on average."""
    place = jnp.arange(rows.shape[0])
    starts, ends = jnp.broadcast_arrays(place[:, None], place[None, :])

    def one(parser: ChartParser) -> tuple[Array, Array]:
        lower, opening, closing = parser.states(rows, place == 0, place == count - 1)
        return parser.spans(opening, closing, starts, ends), jax.nn.softmax(jax.vmap(parser.pos)(lower))

    charts, pos = zip(*map(one, parsers.members), strict=True)
    mean = jax.nn.logsumexp(jnp.stack(charts), axis=0) - jnp.log(float(len(charts)))
    return mean, jnp.argmax(jnp.sum(jnp.stack(pos), axis=0), axis=-1)


def _best_tree(chart: Float[np.ndarray, "words words labels"], labels: tuple[str, ...], leaves: list[Tree]) -> Tree:
    """The Cocke-Kasami-Younger recursion, the shortest spans first; spans by their first and last words."""
    odds = chart - chart[..., NULL : NULL + 1]
    size = len(leaves)
    chosen = odds.argmax(axis=-1)
    if size > 1:  # the whole sentence is a constituent
        chosen[0, size - 1] = 1 + odds[0, size - 1, 1:].argmax()
    total = np.take_along_axis(odds, chosen[..., None], axis=-1)[..., 0]
    split = np.zeros((size, size), np.int64)
    for length in range(2, size + 1):
        for start in range(size - length + 1):
            end = start + length - 1
            halves = total[start, start:end] + total[start + 1 : end + 1, end]
            split[start, end] = start + halves.argmax()
            total[start, end] += halves.max()

    def build(start: int, end: int) -> tuple[Tree, ...]:
        inside = (leaves[start],)
        if end > start:
            middle = int(split[start, end])
            inside = build(start, middle) + build(middle + 1, end)
        label = labels[chosen[start, end]]
        for name in reversed(label.split(JOIN)) if label else ():
            inside = (Tree(name, inside),)
        return inside

    return build(0, size - 1)[0]


def build(
    key: KeyArray,
    labels: tuple[str, ...],
    pos_names: tuple[str, ...],
    features: WordFeatures,
    dim: int = DIM,
    hidden: int = HIDDEN,
    width: int = 160,
    dropout: float = 0.4,
) -> ChartParser:
    """A parser with weights as they are before training.

    Args:
        key: one random key, for the initial weights.
        labels: names of the chart's labels, the first for "no constituent".
        pos_names: names of the parts of speech, which are learned beside the chart.
        features: what turns words into rows of the table of embeddings.
        dim: length of a word's embedding.
        hidden: units of each LSTM; two layers are run in each direction.
        width: units of the layer that scores a span.
        dropout: share of activations that training leaves out.
    """
    keys = jax.random.split(key, 8)
    inputs = (dim, 2 * hidden)
    forward, backward = (tuple(LSTM(keys[2 * way + at], inputs[at], hidden) for at in range(2)) for way in range(2))
    return ChartParser(
        0.3 * jax.random.normal(keys[4], (features.num_rows, dim)),
        forward,  # pyright: ignore[reportArgumentType]
        backward,  # pyright: ignore[reportArgumentType]
        eqx.nn.Linear(2 * hidden, width, use_bias=False, key=keys[5]),
        eqx.nn.LayerNorm(width),
        eqx.nn.Linear(width, len(labels), key=keys[6]),
        eqx.nn.Linear(2 * hidden, len(pos_names), key=keys[7]),
        eqx.nn.Dropout(dropout),
        labels,
        pos_names,
        features,
    )
