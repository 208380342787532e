"""Train the evaluation parsers on documents that no tagger learns from, and measure them on documents that nobody saw.

    python -m smcinfer.models.parser.recipe --data FOLDER --stories FILE [--out FOLDER] [--steps 850] [--members 2]

Several are trained from different seeds, and what they say is averaged. Word vectors and the lowest recurrences start from what
the split's plain sentences, and stories, have taught them.
"""

import argparse
from collections import Counter
from itertools import chain
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from smcinfer.ground.arrays import Array, Bool, Int, KeyArray, Scalar
from smcinfer.language.syntax import treebank
from smcinfer.language.syntax.features import WordFeatures, either, word_features
from smcinfer.language.syntax.packing import NONE, negative_log_prob, pack
from smcinfer.language.syntax.pretraining import BothWays, pretrain
from smcinfer.language.syntax.score import BracketScore, bracket_score
from smcinfer.language.syntax.tetra import JOIN
from smcinfer.language.syntax.trees import Tree
from smcinfer.language.syntax.words import read_stories
from smcinfer.models.parser.model import DIM, HIDDEN, NULL, ChartParser, ChartParsers, build
from smcinfer.nn.half import rounded, save_half
from smcinfer.run.fit import fit

SEED = 77
LENGTH = 56
BATCH = 16
MIN_COUNT = 3
"""How often a chain of labels must occur to be one."""
MIN_STORIES = 4
"""How often a word of the stories must occur to be known; a word of the treebank twice."""
PLAIN_STEPS = 800
PLAIN_BATCH = (11, 5)
"""Rows of stories and of the treebank in a batch of plain sentences."""
WORD_DROPOUT = 0.15
POS_SHARE = 0.5


_SPANS = tuple(map(jnp.asarray, np.triu_indices(LENGTH)))
"""First and last words of the spans of a row."""


class Charts(eqx.Module):
    """Sentences in rows with the label of every span.

    Attributes:
        rows: Int["rows length kinds"], features of words.
        labels: Int["rows length length"], of the span from word to word, both included; `NONE` where it is no span of one
            sentence.
        pos: Int["rows length"], parts of speech; `NONE` where a row has no word.
        first, last: Bool["rows length"], where sentences begin and end.
    """

    rows: Int[Array, "rows length kinds"]
    labels: Int[Array, "rows length length"]
    pos: Int[Array, "rows length"]
    first: Bool[Array, "rows length"]
    last: Bool[Array, "rows length"]


def main(data: Path, stories: Path, out: Path, num_steps: int, plain_steps: int, num_members: int) -> dict[str, float]:
    """Train the parsers, measure them on the test trees, and write their weights.

    Args:
        data: folder of the treebank's ``.ptb`` files.
        stories: file of simple stories, as plain sentences to start from.
        out: folder that gets ``weights.safetensors``.
        num_steps: gradient steps of each parser.
        plain_steps: gradient steps on plain sentences before.
        num_members: how many parsers are trained, whose scores are averaged.

    Returns:
        What was measured on the test trees, by name: bracket F1, accuracy of the parts of speech, the number of trees.
    """
    parts = treebank.split(treebank.read(data))
    learn, watch, test = (treebank.trees(parts[name]) for name in ("parser", "dev", "test"))
    counts = Counter(label for tree in learn for label in chains(tree).values())
    labels = ("", *sorted(label for label, count in counts.items() if count >= MIN_COUNT))
    pos_names = tuple(sorted({leaf.label for tree in learn for leaf in tree.leaves()}))
    formal, told = [tree.words() for tree in learn], read_stories(stories)
    features = either(word_features(chain(*formal)), word_features(chain(*told), MIN_STORIES))
    charts, watched = (pack_charts(trees, labels, pos_names, features) for trees in (learn, watch))
    plain_key, *keys = jax.random.split(jax.random.key(SEED), num_members + 1)
    plain = pretrain(
        plain_key,
        features,
        list(zip((told, formal), PLAIN_BATCH, strict=True)),
        dim=DIM,
        hidden=HIDDEN,
        num_steps=plain_steps,
    )
    members = []
    for key in keys:
        init_key, fit_key = jax.random.split(key)
        start = _started(build(init_key, labels, pos_names, features), plain)
        members.append(_trained(fit_key, start, charts, watched, num_steps))
        alone = measure(ChartParsers((members[-1],)), watch)
        print(f"member {len(members)} on dev: {alone}", flush=True)
    as_kept = rounded(ChartParsers(tuple(members)))
    print(f"all on dev: {measure(as_kept, watch)}", flush=True)
    metrics = measure(as_kept, test)
    names = {"labels": labels, "pos_names": pos_names, "words": features.words, "members": num_members}
    save_half(out / "weights.safetensors", as_kept, names | {"seed": SEED, "metrics": metrics})
    return metrics


def _started(parser: ChartParser, plain: BothWays) -> ChartParser:
    """The parser with the table and the lowest recurrences of plain sentences."""
    return eqx.tree_at(
        lambda p: (p.table, p.forward[0], p.backward[0]), parser, (plain.table, plain.forward, plain.backward)
    )


def _trained(key: KeyArray, start: ChartParser, charts: Charts, watched: Charts, num_steps: int) -> ChartParser:
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 60, num_steps, 1e-5)
    return fit(
        key,
        start,
        _loss,
        charts,
        num_steps=num_steps,
        optimiser=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.02)),
        validate=lambda parser: _watch(parser, watched),
        check_every=200,
        progress=True,
        description="parser",
    ).module


def chains(tree: Tree) -> dict[tuple[int, int], str]:
    """Labels of spans (first and last word), chains of single children joined, the upper one first."""
    found: dict[tuple[int, int], str] = {}

    def visit(node: Tree, start: int) -> int:
        end = start
        for child in node.children:
            end = visit(child, end)
        if node.is_leaf:
            return start + 1
        lower = found.get((start, end - 1))
        found[start, end - 1] = node.label if lower is None else node.label + JOIN + lower
        return end

    visit(tree, 0)
    return found


def pack_charts(
    trees: list[Tree], labels: tuple[str, ...], pos_names: tuple[str, ...], features: WordFeatures
) -> Charts:
    """Sentences and their charts in rows of one length, several sentences a row.

    A label that is too rare to be known counts as its uppermost part, an unknown one as no constituent.

    Args:
        trees: what to pack, each of at most `LENGTH` words.
        labels: names of the chart's labels; a cell holds a position in them.
        pos_names: names of the parts of speech.
        features: what turns words into rows of the table of embeddings.
    """
    label_of = {name: number for number, name in enumerate(labels)}
    pos_of = {name: number for number, name in enumerate(pos_names)}
    layout = pack([len(tree.leaves()) for tree in trees], LENGTH)
    shape = (len(layout), LENGTH)
    rows = np.broadcast_to(features([""])[0], (*shape, 5)).copy()
    chart = np.full((*shape, LENGTH), NONE, np.int8)
    pos = np.full(shape, NONE, np.int32)
    first, last = np.zeros(shape, bool), np.zeros(shape, bool)
    for at, members in enumerate(layout):
        start = 0
        for number in members:
            leaves = trees[number].leaves()
            end = start + len(leaves)
            rows[at, start:end] = features([leaf.word for leaf in leaves])
            inside = np.where(np.triu(np.ones((len(leaves), len(leaves)), bool)), NULL, NONE)
            for (left, right), label in chains(trees[number]).items():
                inside[left, right] = label_of.get(label, label_of.get(label.split(JOIN)[0], NULL))
            chart[at, start:end, start:end] = inside
            pos[at, start:end] = [pos_of.get(leaf.label, NONE) for leaf in leaves]
            first[at, start], last[at, end - 1] = True, True
            start = end
        if start < LENGTH:
            first[at, start] = True
    return Charts(*map(jnp.asarray, (rows, chart, pos, first, last)))


def _loss(parser: ChartParser, key: KeyArray, data: Charts) -> Scalar:
    """Negative log probability of the labels of all spans, and of the parts of speech, nats a word."""
    batch_key, word_key, state_key = jax.random.split(key, 3)
    chosen = jax.random.choice(batch_key, data.pos.shape[0], (BATCH,), replace=False)
    batch = jax.tree.map(lambda leaf: leaf[chosen], data)
    hidden = jax.random.bernoulli(word_key, WORD_DROPOUT, batch.pos.shape)
    rows = batch.rows.at[..., 0].set(jnp.where(hidden, 0, batch.rows[..., 0]))
    lower, opening, closing = jax.vmap(parser.states)(rows, batch.first, batch.last, jax.random.split(state_key, BATCH))
    return _nats(parser, batch, lower, opening, closing)


@eqx.filter_jit
def _watch(parser: ChartParser, data: Charts) -> Scalar:
    """Share of labels missed: one less F1 of the labels of spans, each chosen by itself."""

    def one(row: Charts) -> tuple[Array, ...]:
        _, opening, closing = parser.states(row.rows, row.first, row.last)
        best = jnp.argmax(parser.spans(opening, closing, *_SPANS), axis=-1)
        asked = row.labels[_SPANS].astype(best.dtype)
        inside = asked != NONE
        return (inside & (asked == best) & (best != NULL)), inside & (asked != NULL), inside & (best != NULL)

    matched, wanted, found = (jnp.sum(part) for part in jax.lax.map(one, data))
    return 1.0 - 2.0 * matched / (wanted + found)


def _nats(parser: ChartParser, batch: Charts, lower: Array, opening: Array, closing: Array) -> Scalar:
    def one(row: Charts, opening: Array, closing: Array) -> Scalar:
        return negative_log_prob(parser.spans(opening, closing, *_SPANS), row.labels[_SPANS])

    spans = jnp.sum(jax.vmap(one)(batch, opening, closing))
    pos = negative_log_prob(jax.nn.log_softmax(jax.vmap(jax.vmap(parser.pos))(lower)), batch.pos)
    return (spans + POS_SHARE * pos) / jnp.sum(batch.pos != NONE)


def measure(parser: ChartParsers, trees: list[Tree]) -> dict[str, float]:
    """Bracket F1 on all trees, and on those of 4 to 20 words; share of parts of speech that are right."""
    every, short = BracketScore(), BracketScore()
    right, total = 0, 0
    for tree in trees:
        found = parser.parse(tree.words())
        score = bracket_score(tree, found)
        every = every + score
        if 4 <= len(tree.leaves()) <= 20:
            short = short + score
        pairs = list(zip(tree.leaves(), found.leaves(), strict=True))
        right, total = right + sum(a.label == b.label for a, b in pairs), total + len(pairs)
    return {"bracket_f1": every.f1, "bracket_f1_4_to_20": short.f1, "pos_accuracy": right / total, "trees": len(trees)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of .ptb files")
    parser.add_argument("--stories", type=Path, required=True, help="text of simple stories")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the weights go")
    parser.add_argument("--steps", type=int, default=850, help="gradient steps")
    parser.add_argument("--plain-steps", type=int, default=PLAIN_STEPS, help="gradient steps on plain sentences")
    parser.add_argument("--members", type=int, default=2, help="how many parsers")
    given = parser.parse_args()
    found = main(given.data, given.stories, given.out, given.steps, given.plain_steps, given.members)
    for name, value in found.items():
        print(f"{name}: {value:.4f}")
