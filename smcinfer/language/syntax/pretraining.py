"""What plain sentences teach before there are trees: word vectors, and a recurrence from either side.

Two language models over the same word vectors, one that foretells the next word and one the word before. A tagger or a parser
starts from their table and their recurrences; what they foretell with is thrown away.

Source: Peters et al. (2018), "Deep contextualized word representations".
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray, Scalar
from smcinfer.language.syntax.features import WordFeatures
from smcinfer.language.syntax.packing import NONE, pack
from smcinfer.language.syntax.recurrent import LSTM
from smcinfer.language.syntax.sampled_softmax import log_share, sampled_nats
from smcinfer.run.fit import fit

LENGTH = 64
NEGATIVES = 512
WORD_DROPOUT = 0.1
DROPOUT = 0.2


class Sentences(eqx.Module):
    """Plain sentences in rows.

    Attributes:
        rows: Int["rows length kinds"], features of words.
        after, before: Int["rows length"], numbers of the neighbours, known words by their row; one past the last known word
            stands for a sentence's end and beginning; `NONE` where a row has no word.
        first, last: Bool["rows length"], where sentences begin and end.
    """

    rows: Int[Array, "rows length kinds"]
    after: Int[Array, "rows length"]
    before: Int[Array, "rows length"]
    first: Bool[Array, "rows length"]
    last: Bool[Array, "rows length"]


class BothWays(eqx.Module):
    """A language model from each side.

    Attributes:
        table: Float["rows dim"], a word's vector is the sum of the rows of its features.
        forward, backward: the recurrences.
        ahead, back: from their states to what is foretold.
        words: Float["V dim"], of the words that may be foretold: unknown, known ones, none.
        bias: Float["V"].
    """

    table: Float[Array, "rows dim"]
    forward: LSTM
    backward: LSTM
    ahead: eqx.nn.Linear
    back: eqx.nn.Linear
    words: Float[Array, "vocab dim"]
    bias: Float[Array, " vocab"]


class _Data(eqx.Module):
    parts: tuple[Sentences, ...]
    shares: Float[Array, " vocab"]


def pretrain(
    key: KeyArray,
    features: WordFeatures,
    parts: Sequence[tuple[Sequence[Sequence[str]], int]],
    *,
    dim: int,
    hidden: int,
    num_steps: int,
    learning_rate: float = 4e-3,
) -> BothWays:
    """Train both language models.

    Args:
        key: one random key.
        features: of words; the known ones are those that may be foretold.
        parts: sentences, each with how many rows of a batch are of them.
        dim: of word vectors.
        hidden: of either recurrence.
        num_steps: gradient steps.
        learning_rate: the highest.
    """
    init_key, fit_key = jax.random.split(key)
    packed = tuple(pack_sentences(sentences, features, LENGTH) for sentences, _ in parts)
    sizes = tuple(size for _, size in parts)
    vocab = len(features.words) + 2
    counts = sum(
        size * np.bincount(np.asarray(part.after[part.after != NONE]), minlength=vocab) / (part.after != NONE).sum()
        for size, part in zip(sizes, packed, strict=True)
    )

    def loss(module: BothWays, key: KeyArray, data: _Data) -> Scalar:
        *row_keys, rest = jax.random.split(key, len(sizes) + 1)
        picked = [
            jax.tree.map(lambda leaf, k=k, size=size: leaf[jax.random.choice(k, leaf.shape[0], (size,))], part)
            for k, size, part in zip(row_keys, sizes, data.parts, strict=True)
        ]
        return _nats(module, rest, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *picked), data.shares)

    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, 60, num_steps, 1e-5)
    return fit(
        fit_key,
        _build(init_key, features.num_rows, vocab, dim, hidden),
        loss,
        _Data(packed, log_share(np.asarray(counts, np.float64))),
        num_steps=num_steps,
        optimiser=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01)),
        progress=True,
        description="plain sentences",
    ).module


def _build(key: KeyArray, num_rows: int, vocab: int, dim: int, hidden: int) -> BothWays:
    keys = jax.random.split(key, 6)
    return BothWays(
        0.1 * jax.random.normal(keys[0], (num_rows, dim)),
        LSTM(keys[1], dim, hidden),
        LSTM(keys[2], dim, hidden),
        eqx.nn.Linear(hidden, dim, key=keys[3]),
        eqx.nn.Linear(hidden, dim, key=keys[4]),
        0.1 * jax.random.normal(keys[5], (vocab, dim)),
        jnp.zeros((vocab,)),
    )


def _nats(module: BothWays, key: KeyArray, batch: Sentences, shares: Array) -> Scalar:
    """Mean nats a word, both ways added."""
    word_key, vector_key, *keys = jax.random.split(key, 6)
    hidden = jax.random.bernoulli(word_key, WORD_DROPOUT, batch.after.shape)
    rows = batch.rows.at[..., 0].set(jnp.where(hidden, 0, batch.rows[..., 0]))
    drop = eqx.nn.Dropout(DROPOUT)
    vectors = drop(jnp.sum(module.table[rows], axis=-2), key=vector_key)
    ahead = drop(jax.vmap(module.forward.scan)(vectors, batch.first), key=keys[0])
    back = drop(
        jax.vmap(lambda xs, ends: module.backward.scan(xs, ends, reverse=True))(vectors, batch.last), key=keys[1]
    )
    total = jnp.zeros(())
    for number, (linear, states, asked) in enumerate(
        ((module.ahead, ahead, batch.after), (module.back, back, batch.before))
    ):
        said = jax.vmap(jax.vmap(linear))(states)
        total += sampled_nats(keys[2 + number], said, asked, module.words, module.bias, shares, NEGATIVES)
    return total


def pack_sentences(sentences: Sequence[Sequence[str]], features: WordFeatures, length: int) -> Sentences:
    """Plain sentences, several in a row; those longer than a row are left out.

    Args:
        sentences: words of each.
        features: what turns words into rows of the table of embeddings.
        length: words in a row.
    """
    layout = pack([len(sentence) for sentence in sentences], length)
    shape = (len(layout), length)
    rows = np.broadcast_to(features([""])[0], (*shape, 5)).copy()
    after, before = np.full(shape, NONE, np.int32), np.full(shape, NONE, np.int32)
    first, last = np.zeros(shape, bool), np.zeros(shape, bool)
    none = len(features.words) + 1
    flat = features([word for members in layout for member in members for word in sentences[member]])
    taken = 0
    for at, members in enumerate(layout):
        start = 0
        for member in members:
            size = len(sentences[member])
            own = flat[taken : taken + size]
            end, taken = start + size, taken + size
            rows[at, start:end] = own
            after[at, start:end] = [*own[1:, 0], none]
            before[at, start:end] = [none, *own[:-1, 0]]
            first[at, start], last[at, end - 1] = True, True
            start = end
        if start < length:
            first[at, start], last[at, length - 1] = True, True
    return Sentences(*map(jnp.asarray, (rows, after, before, first, last)))
