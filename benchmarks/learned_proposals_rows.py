"""Rows of the benchmark of learned proposals: open-universe mixtures, and named entities.

Everything is compared at equal time: the CPU seconds of one step of each method are measured in turns, each is given as many
steps as fit into one budget, and what counts is where its chains stand when the budget is spent.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.stats

import smcinfer
from smcinfer import proposals
from smcinfer.chains import mcmc
from smcinfer.graphs import FactorGraph, uniform_states
from smcinfer.kernels.block_gibbs import BlockGibbs
from smcinfer.models import open_mixture as om
from smcinfer.models import tagging_crf
from smcinfer.models.open_mixture.model import log_isotropic
from smcinfer.models.tagging_crf import inference
from smcinfer.models.tagging_crf.recipe import FILES
from smcinfer.nn import read_metadata
from smcinfer.proposals import chain_tags
from smcinfer.proposals.mixture_pair import WEIGHTS

SIZES = ((8, 60), (12, 90), (30, 400))
BUDGET_SWEEPS = 100
"""The budget: the seconds of this many sweeps of single sites."""

RECORDS = 10
NER_SENTENCES = 600
"""Of the test set, from its start."""


class Interval(NamedTuple):
    """A mean and half the width of its 95% interval."""

    mean: float
    half_width: float


def interval(values: Any) -> Interval:
    """Mean over independent repetitions, with Student's interval."""
    data = np.asarray(values, float)
    width = scipy.stats.t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / len(data) ** 0.5 if len(data) > 1 else np.nan
    return Interval(float(data.mean()), float(width))


def seconds_in_turns(calls: Mapping[str, Callable[[], Any]], repeats: int = 7) -> dict[str, float]:
    """Median CPU seconds of each call, taking turns, after one that compiles: what else runs on the machine counts less."""
    for call in calls.values():
        jax.block_until_ready(call())
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            jax.block_until_ready(call())
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def gmm_methods() -> dict[str, om.Move]:
    """What runs on the mixtures; all but the first add their move to a sweep of single sites."""
    learned = proposals.load("mixture_pair")
    return {
        "single_site": om.Gibbs(),
        "split_merge": om.InTurn((om.Gibbs(), om.SplitMerge(1))),
        "learned": om.InTurn((om.Gibbs(), learned)),
    }


def gmm_problem(seed: int, num_slots: int, num_data: int) -> om.OpenMixture:
    """Data of three quarters as many components as there are slots."""
    data, _ = om.simulate(jax.random.key(seed), num_data, max(1, 3 * num_slots // 4))
    return om.open_mixture(data, num_slots=num_slots)


def nuts_log_likelihood(seed: int, model: om.OpenMixture, num_chains: int, num_steps: int) -> tuple[float, float]:
    """Mean log likelihood of NUTS with labels summed out and all slots active, and the seconds it took to run."""
    prior = {
        "means": dist.Normal(0.0, model.spread).expand([model.num_slots, 2]).to_event(2),
        "weights": dist.Dirichlet(jnp.full((model.num_slots,), model.concentration)),
    }

    def log_likelihood(theta: dict[str, jax.Array]) -> jax.Array:
        each = log_isotropic(model.data[:, None] - theta["means"], model.noise)
        return jnp.sum(jax.nn.logsumexp(jnp.log(theta["weights"]) + each, axis=1))

    target = smcinfer.posterior(prior, log_likelihood)
    chains = mcmc(
        jax.random.key(seed),
        "nuts",
        target,
        num_chains=num_chains,
        num_draws=num_steps,
        num_warmup=num_steps,
        progress=False,
    )
    theta = {name: jnp.asarray(chains.draws[name][:, -max(1, num_steps // 10) :]) for name in prior}
    values = jax.jit(jax.vmap(jax.vmap(log_likelihood)))(theta)
    return float(values.mean()), chains.seconds - chains.compile_seconds


def gmm_size(num_slots: int, num_data: int, num_sets: int, num_chains: int) -> dict[str, Any]:
    """All methods on one size: seconds a step, steps in the budget, log likelihood at its end, gains over single sites."""
    methods = gmm_methods()
    problems = [gmm_problem(seed, num_slots, num_data) for seed in range(num_sets)]
    starts = [om.start(jax.random.key(100 + seed), problem, num_chains) for seed, problem in enumerate(problems)]
    key = jax.random.key(1)
    seconds = seconds_in_turns(
        {
            name: lambda move=move: (
                om.run_chains(key, problems[0], move, starts[0], RECORDS, thin=RECORDS).log_likelihood
            )
            for name, move in methods.items()
        }
    )
    budget = BUDGET_SWEEPS / RECORDS**2 * seconds["single_site"]
    found: dict[str, list[float]] = {}
    steps, acceptance = {}, {}
    for name, move in methods.items():
        # What counts is the last record, averaged over chains.
        thin = max(1, round(budget / seconds[name] * RECORDS))
        steps[name] = RECORDS * thin
        runs = [
            om.run_chains(jax.random.key(seed), problem, move, start, RECORDS, thin=thin)
            for seed, (problem, start) in enumerate(zip(problems, starts, strict=True))
        ]
        found[name] = [float(run.log_likelihood[-1].mean()) for run in runs]
        acceptance[name] = float(np.mean([run.acceptance.mean() for run in runs]))
    gains = {
        f"{name}_over_{other}": interval(np.subtract(found[name], found[other]))
        for name, other in (("learned", "single_site"), ("learned", "split_merge"), ("split_merge", "single_site"))
    }
    return {
        "milliseconds_a_step": {name: 1e3 * value / RECORDS**2 for name, value in seconds.items()},
        "budget_s": budget,
        "steps": steps,
        "log_likelihood": {name: float(np.mean(values)) for name, values in found.items()},
        "acceptance": {name: acceptance[name] for name in ("split_merge", "learned")},
        "gains": {name: list(gain) for name, gain in gains.items()},
    }


def gmm_rows(quick: bool) -> dict[str, Any]:
    """Open-universe mixtures: log likelihood at equal time, nats."""
    num_sets, num_chains = (3, 8) if quick else (10, 32)
    sizes = SIZES[:2] if quick else SIZES
    rows = {f"{m}_{n}": gmm_size(m, n, num_sets, num_chains) for m, n in sizes}
    if not quick:
        for m, n in sizes:
            found = [nuts_log_likelihood(seed, gmm_problem(seed, m, n), 8, 100) for seed in range(3)]
            rows[f"{m}_{n}"]["log_likelihood"]["nuts_all_slots_active"] = float(np.mean([value for value, _ in found]))
            rows[f"{m}_{n}"]["nuts_seconds"] = float(np.mean([seconds for _, seconds in found]))
    card = read_metadata(WEIGHTS)
    return {
        "gmm_loglik_gain_over_single_site": {
            name: row["gains"]["learned_over_single_site"][0] for name, row in rows.items()
        },
        "gmm_loglik_gain_over_split_merge": {
            name: row["gains"]["learned_over_split_merge"][0] for name, row in rows.items()
        },
        "acceptance": {name: row["acceptance"]["learned"] for name, row in rows.items()},
        "training_s": card["seconds"],
        "training_in_budgets": {name: card["seconds"] / row["budget_s"] for name, row in rows.items()},
        "sizes": rows,
    }


def ner_kernels(graph: FactorGraph, words: list[tuple[str, ...]], sizes: tuple[int, ...]) -> dict[str, BlockGibbs]:
    """Single sites alone, and with learned blocks; exact blocks of two as the peer."""
    skip = (chain_tags.load("skip").moves(graph),) if inference.linked_words(graph).size else ()
    kernels = {"single_site": inference.tag_kernel(graph)}
    for size in sizes:
        proposal = chain_tags.load(f"chain_{size}")
        blocks = proposal.motif.match(graph, inference.runs_of(words, size, graph))
        kernels[f"blocks_{size}"] = inference.tag_kernel(graph, proposal.moves(graph, blocks), *skip)
    kernels["exact_blocks_2"] = inference.tag_kernel(graph, inference.exact_runs(graph, words, 2))
    return kernels


def wnut17() -> Path | None:
    """The folder of the data, or ``None``."""
    root = Path(os.environ.get("SMCINFER_SHARED", Path(__file__).resolve().parents[2] / "shared" / "data"))
    folder = root / "ner" / "wnut17"
    return folder if folder.is_dir() else None


def ner_rows(quick: bool) -> dict[str, Any]:
    """Named entities on WNUT17: F1 at equal time. Empty without the data."""
    folder = wnut17()
    if folder is None:
        return {}
    sentences = tagging_crf.read_conll(folder / FILES["test"])[: 150 if quick else NER_SENTENCES]
    field, words = tagging_crf.load(), [sentence.words for sentence in sentences]
    truth = [sentence.tags for sentence in sentences]
    graph = field.graph(words)
    sizes, seeds = ((2,), 3) if quick else ((2, 3, 4), 5)
    kernels = ner_kernels(graph, words, sizes)
    x = uniform_states(jax.random.key(0), graph, 1)
    seconds = seconds_in_turns(
        {
            name: lambda kernel=kernel: inference.sweeps(jax.random.key(1), graph, kernel, x, jnp.asarray(2))[1]
            for name, kernel in kernels.items()
        }
    )
    budgets = (25,) if quick else (6, 25, 100)
    at_time: dict[str, dict[str, list[float]]] = {}
    at_sweeps: dict[str, list[float]] = {}
    acceptance = {}

    def f1_of(kernel: BlockGibbs, num_sweeps: int) -> tuple[list[float], float]:
        """Entity F1 of each seed's marginals, and the acceptance of the first kind of move."""
        runs = [
            inference.tag(jax.random.key(s), graph, kernel, num_sweeps=num_sweeps, num_chains=1) for s in range(seeds)
        ]
        scores = [tagging_crf.entity_f1(field.split(run.marginals.argmax(1), words), truth) for run in runs]
        return scores, float(np.mean([run.acceptance[0] for run in runs]))

    for name, kernel in kernels.items():
        at_sweeps[name], acceptance[name] = f1_of(kernel, BUDGET_SWEEPS // 4)
        counts = {str(b): max(2, round(b * seconds["single_site"] / seconds[name])) for b in budgets}
        at_time[name] = {budget: f1_of(kernel, count)[0] for budget, count in counts.items()}
    others = [name for name in kernels if name != "single_site"]

    def gain(values: list[float], base: list[float]) -> list[float]:
        return list(interval(np.subtract(values, base)))

    gains = {
        name: {budget: gain(values, at_time["single_site"][budget]) for budget, values in at_time[name].items()}
        for name in others
    }
    learned = [name for name in others if name.startswith("blocks")]
    cards = {f"chain_{size}": read_metadata(chain_tags.weights_of(f"chain_{size}")) for size in sizes}
    return {
        "ner_f1_gain": {name: gains[name]["25"][0] for name in learned},
        "acceptance": {name: acceptance[name] for name in learned},
        "milliseconds_a_sweep": {name: 1e3 * value / 2 for name, value in seconds.items()},
        "f1_at_time": {n: {budget: float(np.mean(v)) for budget, v in row.items()} for n, row in at_time.items()},
        "gains_at_time": gains,
        "f1_at_25_sweeps": {name: float(np.mean(values)) for name, values in at_sweeps.items()},
        "gains_at_25_sweeps": {name: gain(at_sweeps[name], at_sweeps["single_site"]) for name in others},
        "training_s": {name: card["seconds"] for name, card in cards.items()},
    }
