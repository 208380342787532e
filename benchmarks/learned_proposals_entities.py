"""Named entities: error of marginals and entity F1 at equal time, for single sites, learned blocks and enumerated ones."""

import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.learned_proposals_rows import interval, seconds_in_turns
from smcinfer.graphs import FactorGraph, uniform_states
from smcinfer.graphs.block_gibbs import BlockGibbs
from smcinfer.models import tagging_crf
from smcinfer.models.tagging_crf import chain, features, inference
from smcinfer.models.tagging_crf.recipe import FILES
from smcinfer.nn import read_metadata
from smcinfer.proposals import chain_tags

BUDGETS = (5, 10, 25, 100)
"""Times that are compared, in sweeps of single sites; the first half of each does not count."""

HEADLINE = 10
SENTENCES, QUICK_SENTENCES = 600, 300
"""Of the test set, from its start."""


def wnut17() -> Path | None:
    """The folder of the data, or ``None``."""
    root = Path(os.environ.get("SMCINFER_SHARED", Path(__file__).resolve().parents[2] / "shared" / "data"))
    folder = root / "ner" / "wnut17"
    return folder if folder.is_dir() else None


def ner_kernels(graph: FactorGraph, words: list[tuple[str, ...]], sizes: tuple[int, ...]) -> dict[str, BlockGibbs]:
    """Single sites alone; learned blocks, and single sites where no block is."""
    skip = (chain_tags.load("skip").moves(graph),) if inference.linked_words(graph).size else ()
    kernels = {"single_site": inference.tag_kernel(graph)}
    for size in sizes:
        proposal = chain_tags.load(f"chain_{size}")
        blocks = proposal.motif.match(graph, inference.runs_of(words, size, graph))
        kernels[f"blocks_{size}"] = inference.tag_kernel(graph, proposal.moves(graph, blocks), *skip)
    return kernels


def exact_marginals(
    field: tagging_crf.TaggingCRF, sentences: list[tagging_crf.Sentence]
) -> tuple[np.ndarray, np.ndarray]:
    """Exact marginals of the words of all sentences, and which words are in sentences without skip edges: there they hold."""
    batch = field.batch(sentences)
    find = eqx.filter_jit(jax.vmap(lambda rows, there: chain.marginals(field.unary(rows), field.transition, there)))
    marginals = np.asarray(find(batch.rows, batch.there))[np.asarray(batch.there)]
    plain = [np.full(len(one.words), not features.repeated(one.words)) for one in sentences]
    return marginals, np.concatenate(plain)


def ner_rows(quick: bool) -> dict[str, Any]:
    """Named entities on WNUT17 at equal time. Empty without the data."""
    folder = wnut17()
    if folder is None:
        return {}
    sentences = tagging_crf.read_conll(folder / FILES["test"])[: QUICK_SENTENCES if quick else SENTENCES]
    field, words = tagging_crf.load(), [sentence.words for sentence in sentences]
    truth = [sentence.tags for sentence in sentences]
    graph = field.graph(words)
    exact, plain = exact_marginals(field, sentences)
    sizes, seeds, budgets = ((2,), 3, (HEADLINE,)) if quick else ((2, 3, 4), 5, BUDGETS)
    kernels = ner_kernels(graph, words, sizes)
    if not quick:
        kernels["enumerated_2"] = inference.tag_kernel(graph, inference.exact_runs(graph, words, 2))
    x = uniform_states(jax.random.key(0), graph, 1)
    seconds = seconds_in_turns(
        {
            name: lambda kernel=kernel: inference.sweeps(jax.random.key(1), graph, kernel, x, jnp.asarray(5))[1]
            for name, kernel in kernels.items()
        }
    )

    def measured(name: str, budget: int) -> tuple[np.ndarray, np.ndarray]:
        """F1 and mean total variation of the marginals, seed by seed; acceptance of the first kind of move."""
        count = max(2, round(budget * seconds["single_site"] / seconds[name]))
        runs = [
            inference.tag(jax.random.key(seed), graph, kernels[name], num_sweeps=count, num_chains=1)
            for seed in range(seeds)
        ]
        acceptance[name] = float(np.mean([run.acceptance[0] for run in runs]))
        f1 = [tagging_crf.entity_f1(field.split(run.marginals.argmax(1), words), truth) for run in runs]
        error = [0.5 * np.abs(run.marginals - exact)[plain].sum(axis=1).mean() for run in runs]
        return np.array(f1), np.array(error)

    acceptance: dict[str, float] = {}
    found = {name: {budget: measured(name, budget) for budget in budgets} for name in kernels}
    others = [name for name in kernels if name != "single_site"]
    learned = [name for name in others if name.startswith("blocks")]

    def against(name: str, budget: int) -> dict[str, list[float]]:
        (f1, error), (base_f1, base_error) = found[name][budget], found["single_site"][budget]
        return {"f1_gain": list(interval(f1 - base_f1)), "error_ratio": list(interval(error / base_error))}

    compared = {name: {budget: against(name, budget) for budget in budgets} for name in others}
    cards = {name: read_metadata(chain_tags.weights_of(name.replace("blocks", "chain"))) for name in learned}
    return {
        "ner_f1_gain": {name: compared[name][HEADLINE]["f1_gain"][0] for name in learned},
        "ner_error_over_single_site": {name: compared[name][HEADLINE]["error_ratio"][0] for name in learned},
        "acceptance": {name: acceptance[name] for name in learned},
        "ner_milliseconds_a_sweep": {name: 1e3 * value / 5 for name, value in seconds.items()},
        "ner_f1": {name: {budget: float(row[budget][0].mean()) for budget in budgets} for name, row in found.items()},
        "ner_error": {
            name: {budget: float(row[budget][1].mean()) for budget in budgets} for name, row in found.items()
        },
        "ner_against_single_site": compared,
        "ner_f1_of_exact_chain": tagging_crf.entity_f1(field.split(exact.argmax(1), words), truth),
        "ner_training_s": {name: card["seconds"] for name, card in cards.items()},
    }
