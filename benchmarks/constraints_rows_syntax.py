"""Syntactic control: bracket F1 of one posterior draw a target tree, judged by a parser that no potential knows.

    python -m benchmarks.constraints_rows_syntax [--quick] [--data FOLDER] [--particles 32] [--trees 110]

The trees are those of 4 to 20 words in the treebank's ``test`` documents, on which neither the language model nor the
tagger nor the parser was trained. What goes wrong counts as F1 zero.
"""

import argparse
import math
import os
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import smcinfer
from benchmarks.timing import print_json
from smcinfer.core.nouns import Time
from smcinfer.ground.arrays import Array, Int, Scalar
from smcinfer.language.generation import generation
from smcinfer.language.process import TokenState
from smcinfer.language.syntax import BracketScore, Tree, bracket_score, treebank
from smcinfer.language.syntax.proposals import TreeProposal
from smcinfer.models import parser as parsers
from smcinfer.models import syntactic_control

SHORTEST, LONGEST = 4, 20
VARIANTS: dict[str, dict[str, Any]] = {
    "potential only": {"causal": False, "proposal": "lm"},
    "+ causal twist": {"causal": True, "proposal": "lm"},
    "+ POS-gram mixture": {"causal": True, "proposal": "mixture"},
    "+ POS-gram product": {"causal": True, "proposal": "product"},
    "+ POS-gram product, power 3": {"causal": True, "proposal": "product", "strength": 3.0},
    "+ product, likely words tried": {"causal": True, "proposal": "tried"},
    "+ product, likely words tried, power 3": {"causal": True, "proposal": "tried", "strength": 3.0},
    "+ POS-gram product, power 8": {"causal": True, "proposal": "product", "strength": 8.0},
}
BEST = "+ POS-gram product, power 3"
"""What the headline figure is of."""


def targets(data: Path, split: str = "test") -> list[Tree]:
    """Held-out trees, in an order that mixes documents."""
    found = treebank.trees(treebank.split(treebank.read(data))[split])
    kept = [tree for tree in found if SHORTEST <= len(tree.leaves()) <= LONGEST]
    return [kept[place] for place in np.random.default_rng(0).permutation(len(kept))]


class RightLength(eqx.Module):
    """One for sentences of so many words; a module, so that all trees share a compiled program."""

    num_words: Int[Array, ""]

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """log phi_t, zero or minus infinity."""
        return jnp.where(state.finished == (t == self.num_words + 1), 0.0, -jnp.inf)


def free_target(control: Any, num_words: int | None) -> Any:
    """The language model alone, of any length or of a given one."""
    lm = control.lm
    if num_words is None:
        return generation(lm, [lm.bos_id], max_tokens=2 * LONGEST, eos_id=lm.eos_id, end="force")
    size = jnp.asarray(num_words, jnp.int32)
    return generation(
        lm,
        [lm.bos_id],
        RightLength(size),
        max_tokens=LONGEST + 1,
        eos_id=lm.eos_id,
        proposal=lambda process: TreeProposal(process, size, None, 0.0),
    )


def draw(key: Any, target: Any, control: Any, num_particles: int) -> list[str] | None:
    """The words of one posterior draw; ``None`` where every particle died."""
    run_key, pick_key = jax.random.split(key)
    result = smcinfer.sample(run_key, target, num_particles=num_particles, num_runs=1, progress=False)
    if not np.isfinite(result.log_z_runs).all():
        return None
    chosen = int(jax.random.categorical(pick_key, jnp.asarray(result.log_weights)[0]))
    tokens = np.asarray(result.particles["tokens"])[0, chosen]
    return [control.lm.words[token] for token in tokens[: np.flatnonzero(tokens == control.lm.eos_id)[0]]]


def log_prob(control: Any, words: list[str]) -> float:
    """log p0 of a sentence and its end, nats."""
    lm = control.lm
    numbers = {word: number for number, word in enumerate(lm.words)}
    ids = [numbers[word] for word in words]
    padded = [lm.bos_id, *ids, *[lm.eos_id] * (2 * LONGEST - len(ids))]
    said = np.asarray(jax.nn.log_softmax(_forward(lm.lm, jnp.asarray(padded)).logits))
    return float(sum(said[place, token] for place, token in enumerate([*ids, lm.eos_id])))


_forward = jax.jit(lambda lm, tokens: lm.forward(tokens))


def row(trees: list[Tree], control: Any, judge: Any, make: Any, num_particles: int, seed: int) -> dict[str, Any]:
    """F1, by the judge and by the tagger itself, perplexity and failures of one variant on all trees, with its sentences."""
    score, own, nats, tokens, failed, examples = BracketScore(), BracketScore(), 0.0, 0, 0, []
    each = []
    start = time.perf_counter()
    for number, tree in enumerate(trees):
        words = draw(jax.random.fold_in(jax.random.key(seed), number), make(tree), control, num_particles)
        found = None if not words else judge.parse(words)
        one = bracket_score(tree, found)
        score, each = score + one, [*each, one.f1]
        own = own + bracket_score(tree, None if not words else control.tagger.parse(words))
        if words is None:
            failed += 1
            continue
        nats, tokens = nats - log_prob(control, words), tokens + len(words) + 1
        examples.append((str(tree), " ".join(words), round(one.f1, 2)))
    return {
        "f1": score.f1,
        "f1_se": float(np.std(each) / len(each) ** 0.5),
        "f1_by_the_tagger_itself": own.f1,
        "perplexity": math.exp(nats / max(tokens, 1)),
        "failed": failed,
        "trees": len(trees),
        "seconds_a_tree": (time.perf_counter() - start) / len(trees),
        "examples": examples,
    }


def syntax_rows(
    quick: bool, data: Path | None = None, num_particles: int = 32, num_trees: int | None = None
) -> dict[str, Any]:
    """The table by variant, and ``syntax_f1``, that of `BEST`.

    Args:
        quick: eight trees, the language model and `BEST` alone.
        data: folder of the treebank's ``.ptb`` files; beside the checkout, or below SMCINFER_SHARED, where ``None``.
        num_particles: K.
        num_trees: fewer than all.
    """
    shared = Path(os.environ.get("SMCINFER_SHARED", Path(__file__).resolve().parents[2] / "shared" / "data"))
    trees = targets(data or shared / "treebank" / "gum_free")[: 8 if quick else num_trees]
    control, judge = syntactic_control.load(), parsers.load()
    makers: dict[str, Any] = {"language model alone": lambda tree: free_target(control, None)}
    if not quick:
        makers["language model at the right length"] = lambda tree: free_target(control, len(tree.leaves()))
    for name, options in VARIANTS.items():
        if not quick or name == BEST:
            makers[name] = lambda tree, options=options: control.target(tree, max_words=LONGEST, **options)
    table = {}
    for seed, (name, make) in enumerate(makers.items()):
        alone = name.startswith("language model alone")
        table[name] = row(trees, control, judge, make, 1 if alone else num_particles, seed)
        shown = {key: value for key, value in table[name].items() if key != "examples"}
        print(name, {key: round(value, 3) for key, value in shown.items()}, flush=True)
    # Their own limits: how well judge and tagger read the trees' true words.
    limits = {
        f"{name}_on_true_words_f1": sum(
            (bracket_score(tree, reader.parse(tree.words())) for tree in trees), BracketScore()
        ).f1
        for name, reader in {"judge": judge, "tagger": control.tagger}.items()
    }
    return {"syntax_f1": table[BEST]["f1"], **limits, "table": table}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="end within twenty seconds")
    arguments.add_argument("--data", type=Path, default=None, help="folder of .ptb files")
    arguments.add_argument("--particles", type=int, default=32)
    arguments.add_argument("--trees", type=int, default=None, help="how many of the trees")
    given = arguments.parse_args()
    rows = syntax_rows(given.quick, given.data, given.particles, given.trees)
    for text, sentence, f1 in rows["table"][BEST]["examples"][:12]:
        print(f"{f1:.2f}  {sentence}\n      {text}")
    for entry in rows["table"].values():
        entry.pop("examples")
    print_json(rows)
