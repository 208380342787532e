"""Sentences side by side in rows of one length, so that training wastes little on padding."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Float, Int, Scalar
from smcinfer.language.syntax.features import WordFeatures
from smcinfer.language.syntax.tagset import TagSet
from smcinfer.language.syntax.tetra import encode
from smcinfer.language.syntax.trees import Tree

NONE = -1
"""Stands for "no tag here"."""


class Packed(eqx.Module):
    """Tagged sentences in rows.

    Attributes:
        rows: Int["rows length kinds"], features of words.
        leaf: Int["rows length"], tags of words; `NONE` where a row has no word.
        internal: Int["rows length"], tags of the gaps before words; `NONE` before the first of a sentence.
        pos: Int["rows length"], parts of speech; `NONE` likewise.
        first, last: Bool["rows length"], where sentences begin and end.
    """

    rows: Int[Array, "rows length kinds"]
    leaf: Int[Array, "rows length"]
    internal: Int[Array, "rows length"]
    pos: Int[Array, "rows length"]
    first: Bool[Array, "rows length"]
    last: Bool[Array, "rows length"]


def pack(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Which sentences share a row: each where it fits best, the longest first; those longer than a row are left out."""
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(length + 1)]
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        size = sizes[number]
        if size > length:
            continue
        room = next((room for room in range(size, length + 1) if with_room[room]), None)
        if room is None:
            rows.append([])
            room = length
            with_room[room].append(len(rows) - 1)
        row = with_room[room].pop()
        rows[row].append(number)
        with_room[room - size].append(row)
    return rows


def pack_trees(trees: Sequence[Tree], tags: TagSet, features: WordFeatures, length: int) -> Packed:
    """Sentences with the tags of their trees, several in a row.

    Args:
        trees: one a sentence, of at most ``length`` words.
        tags: numbers of tags and parts of speech.
        features: what turns words into rows of the table of embeddings.
        length: words in a row.
    """
    layout = pack([len(tree.leaves()) for tree in trees], length)
    shape = (len(layout), length)
    rows = np.broadcast_to(features([""])[0], (*shape, 5)).copy()
    leaf, internal, pos = (np.full(shape, NONE, np.int32) for _ in range(3))
    first, last = np.zeros(shape, bool), np.zeros(shape, bool)
    for at, members in enumerate(layout):
        start = 0
        for number in members:
            tree = trees[number]
            words = tree.words()
            end = start + len(words)
            rows[at, start:end] = features(words)
            leaf[at, start:end], internal[at, start + 1 : end] = tags.ids(encode(tree))
            pos[at, start:end] = tags.pos_ids(tree)
            first[at, start], last[at, end - 1] = True, True
            start = end
        # What is left of the row is a sentence of its own, with no tags.
        if start < length:
            first[at, start], last[at, length - 1] = True, True
    return Packed(*map(jnp.asarray, (rows, leaf, internal, pos, first, last)))


def negative_log_prob(log_probs: Float[Array, "*items kinds"], ids: Int[Array, "*items"]) -> Scalar:
    """Total negative log probability of the given numbers, nats, `NONE` left out."""
    chosen = jnp.take_along_axis(log_probs, jnp.maximum(ids, 0).astype(jnp.int32)[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(ids == NONE, 0.0, chosen))
