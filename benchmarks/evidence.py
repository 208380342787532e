"""Evidence on problems whose log Z is known: intervals, evaluations, and nested samplers of others beside ours.

    python -m benchmarks.evidence [--quick] [--problems spike_5,shells_2] [--num-particles 512] [--seeds 10]

A seed is a group of four runs of `smcinfer.Nested`; all seeds of a problem share one call, and so the levels of its leading
run. They tell how often intervals hold the truth. What an error costs is told by runs to a tolerance, ``sample(tolerance=)``,
and compared with peers at equal error: evaluations times the squared error of log Z. Peers (dynesty, nautilus, ultranest) are
run ``--peer-seeds`` times where they are installed, and named as skipped where not. ``--quick``: four problems, few seeds.

``spike_interval_share`` is the share of 99% intervals that hold the truth on the spikes, ``interval_share`` that of all results
with status OK; ratios over peers are medians over problems; ``pooled_variance_ratio`` is the variance of log Z from all
exponents of a tempering run over that of its plain estimate.
"""

import argparse
import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logit, ndtri

import smcinfer
from benchmarks.timing import print_json
from smcinfer.models import evidence_problems
from smcinfer.models.evidence_problems import EvidenceProblem

RUNS = 4
QUICK = ("spike_5", "shells_2", "eggbox", "log_gamma_2")
Estimate = tuple[float, float, float]
"""log Z, its standard error, and evaluations of the likelihood."""


def groups(result: Any) -> list[Any]:
    """A result of many runs, cut into results of four."""

    def part(run: int) -> Any:
        taken = slice(run, run + RUNS)
        arrays = ("log_weights", "log_z_runs", "log_z_variance", "status_runs", "num_steps")
        fields: dict[str, Any] = {name: getattr(result, name)[taken] for name in arrays}
        fields |= {
            name: {key: value[taken] for key, value in getattr(result, name).items()}
            for name in ("particles", "history")
        }
        return dataclasses.replace(result, **fields)

    return [part(run) for run in range(0, result.num_runs, RUNS)]


def ours(problem: EvidenceProblem, num_particles: int, seeds: int) -> list[Any]:
    """Results of all seeds."""
    common: dict[str, Any] = {"method": "nested", "num_particles": num_particles, "progress": False}
    return groups(smcinfer.sample(jax.random.key(0), problem.target, num_runs=RUNS * seeds, **common))


def to_tolerance(problem: EvidenceProblem, tolerance: float, seed: int) -> Estimate:
    """Ours, until an error is met."""
    key = jax.random.key(seed)
    result = smcinfer.sample(key, problem.target, method="nested", tolerance=tolerance, progress=False)
    return result.log_z, result.log_z_se, result.settings["num_evals"]


def on_the_cube(problem: EvidenceProblem) -> Callable[[np.ndarray], np.ndarray]:
    """Log likelihoods of rows of a unit cube, as nested samplers want them."""
    target = problem.target
    to_vector = logit if target.base_mean is None else ndtri
    function = jax.jit(jax.vmap(lambda u: target.log_potential(to_vector(u))))
    eps = float(jnp.finfo(jnp.result_type(float)).eps)
    return lambda u: np.maximum(np.asarray(function(np.clip(np.atleast_2d(u), eps, 1 - eps)), np.float64), -1e100)


def dynesty(problem: EvidenceProblem, seed: int) -> Estimate:
    """Its static sampler with its defaults."""
    peer: Any = importlib.import_module("dynesty")
    rows, dim = on_the_cube(problem), problem.target.dim
    sampler = peer.NestedSampler(
        lambda u: float(rows(u)[0]), lambda u: u, dim, nlive=500, rstate=np.random.default_rng(seed)
    )
    sampler.run_nested(print_progress=False, dlogz=0.01)
    found: Any = sampler.results
    return float(found.logz[-1]), float(found.logzerr[-1]), float(np.sum(found.ncall))


def nautilus(problem: EvidenceProblem, seed: int) -> Estimate:
    """With its defaults, in batches."""
    peer: Any = importlib.import_module("nautilus")
    dim = problem.target.dim
    sampler = peer.Sampler(
        lambda u: u, on_the_cube(problem), n_dim=dim, n_live=1000, seed=seed, vectorized=True, pass_dict=False
    )
    sampler.run(verbose=False)
    return float(sampler.log_z), float(sampler.n_eff**-0.5), float(sampler.n_like)


def ultranest(problem: EvidenceProblem, seed: int) -> Estimate:
    """Its reactive sampler with its defaults, in batches."""
    peer: Any = importlib.import_module("ultranest")
    np.random.seed(seed)  # noqa: NPY002, it takes no generator
    names = [f"x{i}" for i in range(problem.target.dim)]
    sampler = peer.ReactiveNestedSampler(names, on_the_cube(problem), lambda u: u, vectorized=True)
    found: Any = sampler.run(show_status=False, viz_callback=None)
    return float(found["logz"]), float(found["logzerr"]), float(found["ncall"])


PEERS = {"dynesty": dynesty, "nautilus": nautilus, "ultranest": ultranest}


def squared_error(estimates: list[float], exact: float) -> float:
    """Mean squared error of log Z, nats squared."""
    return float(np.mean((np.asarray(estimates) - exact) ** 2))


def compare(name: str, num_particles: int, seeds: int, peer_seeds: int, tolerance: float) -> dict[str, Any]:
    """Everything about one problem."""
    problem = evidence_problems.EXAMPLES[name]()
    results = ours(problem, num_particles, seeds)
    intervals = [result.log_z_interval() for result in results]
    held = [low < problem.log_z < high for low, high in intervals]
    reached = [to_tolerance(problem, tolerance, seed) for seed in range(max(peer_seeds, 3))]
    own = squared_error([log_z for log_z, *_ in reached], problem.log_z)
    evaluations = float(np.mean([spent for *_, spent in reached]))
    row: dict[str, Any] = {"exact": problem.log_z, "held": held, "fine": [not int(result.status) for result in results]}
    row |= {"rmse": own**0.5, "se": float(np.mean([se for _, se, _ in reached])), "evals": evaluations}
    for peer in [peer for peer in PEERS if peer_seeds and importlib.util.find_spec(peer)]:
        found = [PEERS[peer](problem, seed) for seed in range(peer_seeds)]
        error = squared_error([estimate[0] for estimate in found], problem.log_z)
        spent = float(np.mean([estimate[2] for estimate in found]))
        row[f"rmse_{peer}"], row[f"evals_{peer}"] = error**0.5, spent
        row[f"evals_ratio_{peer}"] = own * evaluations / (error * spent)
        row[f"error_ratio_{peer}"] = (own / error) ** 0.5
    return row


def pooled_ratio(num_particles: int, num_runs: int) -> float:
    """Variance of the pooled log Z over that of the plain one, between runs, on `log_gamma` in two dimensions."""
    common = {"num_particles": num_particles, "num_runs": num_runs, "history": "full", "progress": False}
    result = smcinfer.sample(jax.random.key(0), evidence_problems.log_gamma(2).target, kernel="random_walk", **common)
    return float(np.var(result.pooled.log_z_runs) / np.var(result.log_z_runs))


def main() -> None:
    """Print a row a problem, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four problems, few seeds")
    parser.add_argument("--problems", help="names between commas; all of them if not given")
    parser.add_argument("--num-particles", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--tolerance", type=float, default=0.02, help="standard error of log Z at which costs are compared"
    )
    parser.add_argument("--peer-seeds", type=int, default=3)
    args = parser.parse_args()
    names = args.problems.split(",") if args.problems else QUICK if args.quick else tuple(evidence_problems.EXAMPLES)
    size, seeds, peer_seeds = (256, 5, 1) if args.quick else (args.num_particles, args.seeds, args.peer_seeds)
    for peer in PEERS:
        if not importlib.util.find_spec(peer):
            print(f"{peer}: skipped, it is not installed", flush=True)
    rows = {}
    for name in names:
        rows[name] = compare(name, size, seeds, peer_seeds, args.tolerance)
        shown = {key: round(value, 4) for key, value in rows[name].items() if isinstance(value, float)}
        print(
            f"{name}: held {sum(rows[name]['held'])} of {seeds}, status OK {sum(rows[name]['fine'])}; {shown}",
            flush=True,
        )
    spikes = [held for name, row in rows.items() if name.startswith("spike") for held in row["held"]]
    trusted = [held for row in rows.values() for held, fine in zip(row["held"], row["fine"], strict=True) if fine]
    figures: dict[str, float] = {"pooled_variance_ratio": pooled_ratio(size // 2, 16)}
    figures |= {"spike_interval_share": float(np.mean(spikes))} if spikes else {}
    figures |= {"interval_share": float(np.mean(trusted))} if trusted else {}
    for key in ("evals_ratio_dynesty", "evals_ratio_nautilus", "error_ratio_dynesty"):
        known = [row[key] for row in rows.values() if key in row]
        figures |= {key: float(np.median(known))} if known else {}
    print_json(figures)


if __name__ == "__main__":
    main()
