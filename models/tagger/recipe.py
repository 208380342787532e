"""Train the tetra-tagger on a treebank, and measure it on documents that it never saw.

    python -m smcinfer.models.tagger.recipe --data FOLDER --stories FILE [--out FOLDER] [--steps 800]

The folder holds ``.ptb`` files. The tagger learns from the documents of the ``tagger`` split, stops by those of ``dev`` and is
measured on those of ``test``; the evaluation parser learns from others (`smcinfer.models.parser`). Word vectors and the lowest
recurrences start from what the split's plain sentences, and stories, have taught them.
"""

import argparse
import dataclasses
from itertools import chain
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from smcinfer.ground.arrays import Array, KeyArray, Scalar
from smcinfer.language.syntax import treebank
from smcinfer.language.syntax.features import either, word_features
from smcinfer.language.syntax.packing import NONE, Packed, negative_log_prob, pack_trees
from smcinfer.language.syntax.pretraining import BothWays, pretrain
from smcinfer.language.syntax.score import BracketScore, bracket_score
from smcinfer.language.syntax.tagger import Tagger, TaggerSizes, TagLogProbs, build
from smcinfer.language.syntax.tagset import tagset
from smcinfer.language.syntax.trees import Tree
from smcinfer.language.syntax.words import read_stories
from smcinfer.nn.half import rounded, save_half
from smcinfer.run.fit import fit

SEED = 20251
LENGTH = 64
BATCH = 24
PLAIN_STEPS = 800
PLAIN_BATCH = (11, 5)
"""Rows of stories and of the treebank in a batch of plain sentences."""
MIN_COUNT = 4
"""How often a word of the stories must occur to be known; a word of the treebank twice."""
WORD_DROPOUT = 0.15
VECTOR_DROPOUT = 0.3
POS_SHARE = 0.5
"""Weight of the parts of speech in the loss; they also teach the lower layer."""


def main(data: Path, stories: Path, out: Path, num_steps: int, plain_steps: int) -> dict[str, float]:
    """Train the tagger, measure it on the test sentences, and write its weights.

    Args:
        data: folder of the treebank's ``.ptb`` files.
        stories: file of simple stories, as plain sentences to start from.
        out: folder that gets ``weights.safetensors``.
        num_steps: gradient steps.
        plain_steps: gradient steps on plain sentences before.

    Returns:
        What was measured on the test sentences, by name.
    """
    parts = treebank.split(treebank.read(data))
    learn, watch, test = (treebank.trees(parts[name]) for name in ("tagger", "dev", "test"))
    tags = tagset(learn)
    formal, told = [tree.words() for tree in learn], read_stories(stories)
    features = either(word_features(chain(*formal)), word_features(chain(*told), MIN_COUNT))
    packed, watched = (pack_trees(trees, tags, features, LENGTH) for trees in (learn, watch))
    init_key, plain_key, fit_key = jax.random.split(jax.random.key(SEED), 3)
    sizes = TaggerSizes()
    plain = pretrain(
        plain_key,
        features,
        list(zip((told, formal), PLAIN_BATCH, strict=True)),
        dim=sizes.dim,
        hidden=sizes.hidden,
        num_steps=plain_steps,
    )
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 60, num_steps, 1e-5)
    fitted = fit(
        fit_key,
        _started(build(init_key, tags, features, sizes), plain),
        _loss,
        packed,
        num_steps=num_steps,
        optimiser=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.02)),
        validate=lambda tagger: _watch(tagger, watched),
        check_every=100,
        progress=True,
        description="tagger",
    )
    as_kept = rounded(fitted.module)
    metrics = measure(as_kept, test)
    metadata = {"tags": dataclasses.asdict(tags), "words": features.words, "seed": SEED, "metrics": metrics}
    save_half(out / "weights.safetensors", as_kept, metadata)
    return metrics


def _started(tagger: Tagger, plain: BothWays) -> Tagger:
    """The tagger with the table and the lowest recurrences of plain sentences."""
    return eqx.tree_at(
        lambda t: (t.table, t.bidirectional.forward[0], t.bidirectional.backward[0], t.causal.memory),
        tagger,
        (plain.table, plain.forward, plain.backward, plain.forward),
    )


def _loss(tagger: Tagger, key: KeyArray, data: Packed) -> Scalar:
    """Mean negative log probability a word, nats: both readings and the parts of speech."""
    batch_key, word_key, vector_key, state_key, causal_key = jax.random.split(key, 5)
    chosen = jax.random.choice(batch_key, data.leaf.shape[0], (BATCH,), replace=False)
    batch = jax.tree.map(lambda leaf: leaf[chosen], data)
    hidden = jax.random.bernoulli(word_key, WORD_DROPOUT, batch.leaf.shape)
    rows = batch.rows.at[..., 0].set(jnp.where(hidden, 0, batch.rows[..., 0]))
    vectors = eqx.nn.Dropout(VECTOR_DROPOUT)(tagger.vectors(rows), key=vector_key)
    keys = jax.random.split(state_key, BATCH)
    lower, upper = jax.vmap(tagger.bidirectional.states)(vectors, batch.first, batch.last, keys)
    whole = jax.vmap(tagger.bidirectional.heads.over)(upper, lower)
    states = eqx.nn.Dropout(tagger.bidirectional.dropout.p)(
        jax.vmap(tagger.causal.memory.scan)(vectors, batch.first), key=causal_key
    )
    prefix = jax.vmap(tagger.causal.heads.over)(states, states)
    total = sum(_nll(found, batch) + POS_SHARE * negative_log_prob(found.pos, batch.pos) for found in (whole, prefix))
    return total / jnp.sum(batch.leaf != NONE)


def _nll(found: TagLogProbs, batch: Packed) -> Scalar:
    return negative_log_prob(found.leaf, batch.leaf) + negative_log_prob(found.internal, batch.internal)


@eqx.filter_jit
def _watch(tagger: Tagger, data: Packed) -> Scalar:
    """Share of tags that both readings get wrong on watched sentences."""
    vectors = tagger.vectors(data.rows)
    whole = jax.vmap(tagger.bidirectional)(vectors, data.first, data.last)
    prefix = jax.vmap(tagger.causal)(vectors, data.first)
    kinds = (data.leaf, data.internal, data.pos)
    rights = [
        _right(*pair)
        for found in (whole, prefix)
        for pair in zip((found.leaf, found.internal, found.pos), kinds, strict=True)
    ]
    return 1.0 - jnp.mean(jnp.stack(rights))


def _right(log_probs: Array, ids: Array) -> Scalar:
    """Share of tags whose most probable value is right."""
    return jnp.sum((jnp.argmax(log_probs, axis=-1) == ids) & (ids != NONE)) / jnp.sum(ids != NONE)


def measure(tagger: Tagger, trees: list[Tree]) -> dict[str, float]:
    """Share of tags that each reading gets right, and bracket F1 of the trees they make, on sentences of at most 64 words."""
    kept = [tree for tree in trees if len(tree.leaves()) <= LENGTH]
    data = pack_trees(kept, tagger.tags, tagger.features, LENGTH)
    vectors = tagger.vectors(data.rows)
    whole = jax.vmap(tagger.bidirectional)(vectors, data.first, data.last)
    prefix = jax.vmap(tagger.causal)(vectors, data.first)

    def right(log_probs: Array, ids: Array) -> float:
        return float(_right(log_probs, ids))

    scores = sum((bracket_score(tree, tagger.parse(tree.words())) for tree in kept), BracketScore())
    return {
        "leaf_accuracy": right(whole.leaf, data.leaf),
        "internal_accuracy": right(whole.internal, data.internal),
        "pos_accuracy": right(whole.pos, data.pos),
        "causal_leaf_accuracy": right(prefix.leaf, data.leaf),
        "causal_internal_accuracy": right(prefix.internal, data.internal),
        "causal_pos_accuracy": right(prefix.pos, data.pos),
        "nats_a_word": float(_nll(whole, data) / jnp.sum(data.leaf != NONE)),
        "causal_nats_a_word": float(_nll(prefix, data) / jnp.sum(data.leaf != NONE)),
        "bracket_f1": scores.f1,
        "sentences": len(kept),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of .ptb files")
    parser.add_argument("--stories", type=Path, required=True, help="text of simple stories")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the weights go")
    parser.add_argument("--steps", type=int, default=800, help="gradient steps")
    parser.add_argument("--plain-steps", type=int, default=PLAIN_STEPS, help="gradient steps on plain sentences")
    arguments = parser.parse_args()
    found = main(arguments.data, arguments.stories, arguments.out, arguments.steps, arguments.plain_steps)
    for name, value in found.items():
        print(f"{name}: {value:.4f}")
