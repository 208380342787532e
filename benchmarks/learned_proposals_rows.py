"""Rows of the benchmark of learned proposals: open-universe mixtures; and what these rows share with others.

Everything is compared at equal time: the CPU seconds of one step of each method are measured in turns, each is given as many
steps as fit into one budget, and what counts is where its chains stand when the budget is spent.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.stats

import smcinfer
from smcinfer import proposals
from smcinfer.models import open_mixture as om
from smcinfer.models.open_mixture.model import log_isotropic
from smcinfer.nn import read_metadata
from smcinfer.proposals.mixture_pair import WEIGHTS
from smcinfer.run.chains.run import mcmc

SIZES = ((8, 60), (12, 90), (30, 400))
BUDGET_SWEEPS = 100
"""The budget: the seconds of this many sweeps of single sites."""

NUTS_SIZES, NUTS_SETS = 2, 3
"""Sizes and data sets that NUTS runs on: on the third size a hundred of its steps take minutes."""

RECORDS = 10
PARTS = {"a fifth": 2, "a half": 5, "all": RECORDS}
"""Of the budget, by the record that ends it."""


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
    return {
        "single_site": om.Gibbs(),
        "split_merge": om.InTurn((om.Gibbs(), om.SplitMerge(1))),
        "learned": om.InTurn((om.Gibbs(), proposals.load("mixture_pair"))),
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
        target,
        "nuts",
        num_chains=num_chains,
        num_draws=num_steps,
        num_warmup=num_steps,
        progress=False,
    )
    theta = {name: jnp.asarray(chains.draws[name][:, -max(1, num_steps // 10) :]) for name in prior}
    values = jax.jit(jax.vmap(jax.vmap(log_likelihood)))(theta)
    return float(values.mean()), chains.seconds - chains.compile_seconds


def gmm_size(num_slots: int, num_data: int, quick: bool) -> dict[str, Any]:
    """All methods on one size: seconds a step, steps in the budget, log likelihood at its end, and gains.

    Gains are given where parts of the budget end, and in the mean over ten records of it.
    """
    methods, num_chains = gmm_methods(), 8
    num_sets = 6 if quick else 30 if num_data < 400 else 15
    if quick:
        del methods["split_merge"]
    problems = [gmm_problem(seed, num_slots, num_data) for seed in range(num_sets)]
    starts = [om.start(jax.random.key(100 + seed), problem, num_chains) for seed, problem in enumerate(problems)]
    key = jax.random.key(1)
    seconds = seconds_in_turns(
        {
            name: lambda move=move: om.run_chains(
                key,
                problems[0],
                move,
                initial=starts[0],
                num_chains=num_chains,
                num_draws=RECORDS,
                thin=RECORDS,
                progress=False,
            ).draws["log_likelihood"]
            for name, move in methods.items()
        },
        repeats=5,
    )
    budget = BUDGET_SWEEPS / RECORDS**2 * seconds["single_site"]
    found: dict[str, np.ndarray] = {}
    steps, acceptance = {}, {}
    for name, move in methods.items():
        # What counts is a record, averaged over chains.
        thin = max(1, round(budget / seconds[name] * RECORDS))
        steps[name] = RECORDS * thin
        runs = [
            om.run_chains(
                jax.random.key(seed),
                problem,
                move,
                initial=start,
                num_chains=num_chains,
                num_draws=RECORDS,
                thin=thin,
                progress=False,
            )
            for seed, (problem, start) in enumerate(zip(problems, starts, strict=True))
        ]
        found[name] = np.array([run.draws["log_likelihood"].mean(axis=0) for run in runs])
        acceptance[name] = float(np.mean([run.acceptance.mean() for run in runs]))

    def gain(name: str, other: str) -> dict[str, list[float]]:
        difference = found[name] - found[other]
        ends = {part: list(interval(difference[:, record - 1])) for part, record in PARTS.items()}
        return ends | {"mean": list(interval(difference.mean(axis=1)))}

    names = list(methods)
    pairs = [(name, other) for at, other in enumerate(names) for name in names[at + 1 :]]
    return {
        "data_sets": num_sets,
        "milliseconds_a_step": {name: 1e3 * value / RECORDS**2 for name, value in seconds.items()},
        "budget_s": budget,
        "steps": steps,
        "log_likelihood": {name: float(values[:, -1].mean()) for name, values in found.items()},
        "log_likelihood_of_nuts_sets": {name: float(values[:NUTS_SETS, -1].mean()) for name, values in found.items()},
        "acceptance": {name: acceptance[name] for name in methods if name != "single_site"},
        "gains": {f"{name}_over_{other}": gain(name, other) for name, other in pairs},
    }


def gmm_rows(quick: bool) -> dict[str, Any]:
    """Open-universe mixtures: log likelihood at equal time, nats."""
    sizes = SIZES[1:2] if quick else SIZES
    rows = {f"{m}_{n}": gmm_size(m, n, quick) for m, n in sizes}
    if not quick:
        for m, n in SIZES[:NUTS_SIZES]:
            found = [nuts_log_likelihood(seed, gmm_problem(seed, m, n), 8, 100) for seed in range(NUTS_SETS)]
            rows[f"{m}_{n}"]["log_likelihood_of_nuts_sets"]["nuts"] = float(np.mean([value for value, _ in found]))
            rows[f"{m}_{n}"]["nuts_seconds"] = float(np.mean([seconds for _, seconds in found]))
    card = read_metadata(WEIGHTS)

    def gains(other: str, part: str) -> dict[str, float]:
        return {name: row["gains"][f"learned_over_{other}"][part][0] for name, row in rows.items()}

    others = ("single_site",) if quick else ("single_site", "split_merge")
    return {
        **{f"gmm_loglik_gain_over_{other}": gains(other, "all") for other in others},
        **{f"gmm_loglik_gain_over_{other}_in_the_mean": gains(other, "mean") for other in others},
        "acceptance": {name: row["acceptance"]["learned"] for name, row in rows.items()},
        "gmm_training_s": card["seconds"],
        "gmm_training_in_budgets": {name: card["seconds"] / row["budget_s"] for name, row in rows.items()},
        "gmm_sizes": rows,
    }
