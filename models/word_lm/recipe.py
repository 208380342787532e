"""Train the word language model on simple stories and a treebank's sentences, one sentence at a time.

    python -m smcinfer.models.word_lm.recipe --stories FILE --treebank FOLDER [--out FOLDER] [--steps 3000]

Of the treebank it reads the documents that the tagger learns from, and no others. Held out are the last twentieth of the
stories and the treebank's ``dev`` documents.
"""

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from smcinfer import nn
from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray, Scalar
from smcinfer.language.syntax import treebank
from smcinfer.language.syntax.packing import pack
from smcinfer.language.syntax.pos_gram import pos_gram
from smcinfer.language.syntax.sampled_softmax import log_share, sampled_nats
from smcinfer.language.syntax.words import read_stories
from smcinfer.models.word_lm.model import BOS, EOS, UNKNOWN, WordLM, build
from smcinfer.nn.half import rounded, save_half
from smcinfer.run.fit import fit

SEED = 20252
LENGTH = 64
BATCH = (11, 5)
"""Rows of stories and of the treebank in a batch."""
MIN_COUNT = (4, 2)
"""How often a word must occur in either to be known."""
DROPOUT = 0.3
NEGATIVES = 1024
"""Words that a batch's targets are told from, instead of the whole vocabulary."""


class Data(eqx.Module):
    """What a training step draws from.

    Attributes:
        parts: stories and treebank.
        log_share: Float["V"], log of how often each token is drawn as a negative.
    """

    parts: tuple["Rows", "Rows"]
    log_share: Float[Array, " vocab"]


class Rows(eqx.Module):
    """Sentences in rows: BOS w_1 .. w_n read, w_1 .. w_n EOS asked for.

    Attributes:
        read, asked: Int["rows length"]; what is asked for is -1 where a row has nothing.
        first: Bool["rows length"], where sentences begin.
    """

    read: Int[Array, "rows length"]
    asked: Int[Array, "rows length"]
    first: Bool[Array, "rows length"]


def main(stories: Path, bank: Path, out: Path, num_steps: int) -> dict[str, float]:
    """Train the model of words, measure it on held-out text, and write its weights.

    Args:
        stories: file of simple stories, of which the last twentieth is held out.
        bank: folder of the treebank's ``.ptb`` files.
        out: folder that gets ``weights.safetensors`` and ``gram.safetensors``, counts of parts of speech (`write_gram`).
        num_steps: gradient steps.

    Returns:
        Perplexity of a word on the held-out part of both texts, and the number of words.
    """
    sentences = read_stories(stories)
    border = len(sentences) * 19 // 20
    parts = treebank.split(treebank.read(bank))
    formal, formal_held = ([tree.words() for tree in treebank.trees(parts[name])] for name in ("tagger", "dev"))
    words = _vocabulary(sentences[:border], formal)
    numbers = {word: number for number, word in enumerate(words)}
    learn = _data(rows(sentences[:border], numbers), rows(formal, numbers), len(words))
    held = [rows(part, numbers) for part in (sentences[border:], formal_held)]
    init_key, fit_key = jax.random.split(jax.random.key(SEED))
    schedule = optax.warmup_cosine_decay_schedule(0.0, 4e-3, 100, num_steps, 1e-5)
    fitted = fit(
        fit_key,
        build(init_key, len(words)),
        _loss,
        learn,
        num_steps=num_steps,
        optimiser=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01)),
        validate=lambda lm: sum(_nats(lm, part) for part in held),
        check_every=250,
        progress=True,
        description="word model",
    )
    as_kept = rounded(fitted.module)
    metrics = {
        "stories_perplexity": math.exp(_nats(as_kept, held[0])),
        "treebank_perplexity": math.exp(_nats(as_kept, held[1])),
        "words": len(words),
    }
    save_half(out / "weights.safetensors", as_kept, {"words": words, "seed": SEED, "metrics": metrics})
    write_gram(bank, out)
    return metrics


def write_gram(bank: Path, out: Path) -> None:
    """Count the parts of speech of the model's words in the treebank's documents for taggers, and write them."""
    words = nn.read_metadata(out / "weights.safetensors")["words"]
    gram = pos_gram(treebank.trees(treebank.split(treebank.read(bank))["tagger"]), words)
    save_half(out / "gram.safetensors", gram, {"names": gram.names, "num_words": len(words)})


def _vocabulary(stories: Sequence[Sequence[str]], formal: Sequence[Sequence[str]]) -> list[str]:
    """Tokens that are no words, then words in alphabetical order."""
    known: set[str] = set()
    for part, least in zip((stories, formal), MIN_COUNT, strict=True):
        counts = Counter(word for sentence in part for word in sentence)
        known |= {word for word, count in counts.items() if count >= least}
    return ["<unknown>", "<s>", "</s>", *sorted(known)]


def rows(sentences: Sequence[Sequence[str]], numbers: dict[str, int]) -> Rows:
    """Sentences packed into rows; those longer than a row are left out."""
    layout = pack([len(sentence) + 1 for sentence in sentences], LENGTH)
    read = np.full((len(layout), LENGTH), BOS, np.int32)
    asked = np.full((len(layout), LENGTH), -1, np.int32)
    first = np.zeros((len(layout), LENGTH), bool)
    for row, members in enumerate(layout):
        start = 0
        for member in members:
            ids = [numbers.get(word, UNKNOWN) for word in sentences[member]]
            end = start + len(ids) + 1
            read[row, start:end], asked[row, start:end] = [BOS, *ids], [*ids, EOS]
            first[row, start] = True
            start = end
    return Rows(jnp.asarray(read), jnp.asarray(asked), jnp.asarray(first))


def _data(stories: Rows, formal: Rows, vocab_size: int) -> Data:
    counts = sum(
        size * np.bincount(np.asarray(part.asked[part.asked >= 0]), minlength=vocab_size) / (part.asked >= 0).sum()
        for size, part in zip(BATCH, (stories, formal), strict=True)
    )
    return Data((stories, formal), log_share(np.asarray(counts)))


def _loss(lm: WordLM, key: KeyArray, data: Data) -> Scalar:
    """Mean negative log probability a token of a batch, nats, by a sampled softmax."""
    *row_keys, read_key, state_key, negative_key = jax.random.split(key, 5)
    picked = [
        jax.tree.map(lambda leaf, k=k, size=size: leaf[jax.random.choice(k, leaf.shape[0], (size,))], part)
        for k, size, part in zip(row_keys, BATCH, data.parts, strict=True)
    ]
    batch = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *picked)
    drop = eqx.nn.Dropout(DROPOUT)
    states = drop(jax.vmap(lm.states)(drop(lm.table[batch.read], key=read_key), batch.first), key=state_key)
    said = jax.vmap(jax.vmap(lm.project))(states)
    return sampled_nats(negative_key, said, batch.asked, lm.table, lm.bias, data.log_share, NEGATIVES)


def _cross_entropy(lm: WordLM, states: Array, batch: Rows) -> Scalar:
    logits = jax.vmap(jax.vmap(lm.project))(states) @ lm.table.T + lm.bias
    chosen = jnp.take_along_axis(logits, jnp.maximum(batch.asked, 0)[..., None], axis=-1)[..., 0]
    nats = jax.nn.logsumexp(logits, axis=-1) - chosen
    return jnp.sum(jnp.where(batch.asked >= 0, nats, 0.0)) / jnp.sum(batch.asked >= 0)


@eqx.filter_jit
def _chunk_nats(lm: WordLM, batch: Rows) -> Scalar:
    return _cross_entropy(lm, jax.vmap(lm.states)(lm.table[batch.read], batch.first), batch)


def _nats(lm: WordLM, data: Rows) -> float:
    """Mean nats a token, in chunks of 32 rows (the last ones, fewer, are left out of large sets)."""
    size = min(32, data.read.shape[0])
    starts = range(0, data.read.shape[0] - size + 1, size)
    found = [_chunk_nats(lm, jax.tree.map(lambda leaf, at=at: leaf[at : at + size], data)) for at in starts]
    return float(np.mean(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=Path, required=True, help="text of simple stories")
    parser.add_argument("--treebank", type=Path, required=True, help="folder of .ptb files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the weights go")
    parser.add_argument("--steps", type=int, default=3000, help="gradient steps")
    arguments = parser.parse_args()
    for name, value in main(arguments.stories, arguments.treebank, arguments.out, arguments.steps).items():
        print(f"{name}: {value:.4g}")
