"""What people bring: PyMC and numpyro models, likelihoods on workers, draws, simulators, and the tree that they take away.

    python -m benchmarks.intake [--quick]

Each of eight models (`benchmarks.intake_models`) is judged by its own NUTS, numpyro's or PyMC's, run here: right where every
posterior mean is within a tenth of a standard deviation. log Z is judged by quadrature, beside `pymc.sample_smc`. PyMC and
pyabc are measured where they are installed, and their figures are null where they are not. ``--quick`` takes one model.
"""

import importlib
import importlib.util
import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import scipy.stats
from numpyro.infer import MCMC, NUTS

import smcinfer
from benchmarks.intake_models import NUMPYRO, X, exact_log_z, in_pymc
from benchmarks.timing import parse_quick, print_json

RIGHT = 0.1
"""Standard deviations that a posterior mean may be off."""

NUM_PARTICLES = 2000
CALL_SECONDS = 0.02
Draws = dict[str, np.ndarray]


def off(result: smcinfer.Result, truth: Draws) -> float:
    """The worst mean, in posterior standard deviations; ``truth`` holds draws, leading axis."""
    worst = 0.0
    for name in set(truth) & set(result.particles):
        flat = np.reshape(truth[name], (len(truth[name]), -1)).astype(np.float64)
        spread, mean = flat.std(axis=0), np.reshape(result.expectation(name), -1)
        moving = spread > 1e-6
        worst = max(worst, float(np.max(np.abs(mean - flat.mean(axis=0))[moving] / spread[moving], initial=0.0)))
    return worst


class Evidence(NamedTuple):
    """Root mean square error of log Z of a run, nats, and evaluations of the likelihood that a run took."""

    error: float
    evals: float

    def __str__(self) -> str:
        return f"log Z off by {self.error:.3f} in {self.evals:.2g} evaluations"


def evidence(result: smcinfer.Result, exact: float) -> Evidence:
    """Of a result."""
    evals = np.nansum(result.history["num_evals"], axis=1).mean() * NUM_PARTICLES
    return Evidence(float(np.sqrt(np.mean((result.log_z_runs - exact) ** 2))), float(evals))


def sampled(target: smcinfer.StaticTarget) -> smcinfer.Result:
    """By the settings that nobody chose."""
    return smcinfer.sample(jax.random.key(0), target, num_particles=NUM_PARTICLES, progress=False)


def of_numpyro(name: str) -> tuple[bool, float, Evidence]:
    """Whether NUTS of numpyro agrees; log Z by quadrature; and the evidence."""
    chains = MCMC(NUTS(NUMPYRO[name]), num_warmup=500, num_samples=4000, progress_bar=False)
    chains.run(jax.random.key(1))
    draws = {site: np.asarray(value) for site, value in chains.get_samples().items()}
    result = sampled(smcinfer.from_numpyro(NUMPYRO[name]))
    found, exact = off(result, draws), exact_log_z(name, draws)
    ours = evidence(result, exact)
    print(f"numpyro {name:<16} means off by {found:.3f} sd, {ours}", flush=True)
    return found < RIGHT, exact, ours


def of_pymc(name: str, exact: float) -> tuple[bool, Evidence, Evidence]:
    """Whether NUTS of PyMC agrees; the evidence, and that of `pymc.sample_smc`."""
    pm: Any = importlib.import_module("pymc")
    model, quiet = in_pymc(name), {"progressbar": False, "cores": 1, "random_seed": 0}
    trace = pm.sample(2000, tune=500, chains=2, model=model, compute_convergence_checks=False, **quiet)["posterior"]
    draws = {str(site): np.concatenate(value.to_numpy()) for site, value in trace.data_vars.items()}
    result = sampled(smcinfer.from_pymc(model))
    found, ours = off(result, draws), evidence(result, exact)
    peer = pymc_smc(pm, model, exact, quiet)
    print(f"pymc    {name:<16} means off by {found:.3f} sd, {ours}; sample_smc: {peer}", flush=True)
    return found < RIGHT, ours, peer


def pymc_smc(pm: Any, model: Any, exact: float, quiet: dict[str, Any]) -> Evidence:
    """`pymc.sample_smc` with as many particles and four runs."""
    counts = {"evals": 0}

    class Counted(pm.smc.kernels.IMH):
        def _initialize_kernel(self) -> None:
            super()._initialize_kernel()
            counts["evals"] += self.draws

        def mutate(self) -> None:
            super().mutate()
            counts["evals"] += self.draws * (self.n_steps - 1)

    with model:
        tree = pm.sample_smc(NUM_PARTICLES, kernel=Counted, chains=4, compute_convergence_checks=False, **quiet)
    found = np.asarray(tree["sample_stats"]["log_marginal_likelihood"])
    last = np.asarray([np.asarray(chain, float)[np.isfinite(np.asarray(chain, float))][-1] for chain in found])
    return Evidence(float(np.sqrt(np.mean((last - exact) ** 2))), counts["evals"] / 4)


def models(names: list[str]) -> dict[str, Any]:
    """The figures of the models, in both languages where there are both."""
    has_pymc = importlib.util.find_spec("pymc") is not None
    right: list[bool] = []
    right_pymc: list[bool] = []
    ratios: list[tuple[float, float]] = []
    for name in names:
        good, exact, _ = of_numpyro(name)
        right.append(good)
        if has_pymc:
            good, ours, peer = of_pymc(name, exact)
            right_pymc.append(good)
            ratios.append((ours.error / peer.error, ours.evals / peer.evals))
    found = np.exp(np.mean(np.log(ratios), axis=0)) if ratios else (None, None)
    return {
        "numpyro_models_right": sum(right),
        "pymc_models_right": sum(right_pymc) if has_pymc else None,
        "models": len(names),
        "log_z_error_ratio_pymc_smc": None if found[0] is None else float(found[0]),
        "evals_ratio_pymc_smc": None if found[1] is None else float(found[1]),
    }


def sleeping(theta: float) -> float:
    """A likelihood of 20 ms."""
    time.sleep(CALL_SECONDS)
    return -0.5 * float(theta) ** 2


def pool_efficiency(num_workers: int = 2, num_points: int = 200) -> float:
    """Share of the workers' time that goes into calls of 20 ms."""
    with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(sleeping, np.zeros(4 * num_workers)))
        hosted = smcinfer.on_host(sleeping, executor=pool)
        evaluate = jax.jit(jax.vmap(hosted))
        jax.block_until_ready(evaluate(jnp.zeros(num_points)))
        before = (hosted.tally.work_seconds, hosted.tally.wait_seconds)
        for seed in range(5):
            jax.block_until_ready(evaluate(jax.random.normal(jax.random.key(seed), (num_points,))))
    work, wait = hosted.tally.work_seconds - before[0], hosted.tally.wait_seconds - before[1]
    return work / (num_workers * wait)


def warm_start_evals_ratio() -> tuple[float, float]:
    """Evaluations of a warm run over those of a cold one at the same error of log Z, and the ratio of the errors as run."""

    def log_likelihood(theta: Any) -> Any:
        return dist.Normal(theta["mean"], theta["sd"]).log_prob(jnp.asarray((X + 1.0).tolist())).sum()

    target = smcinfer.posterior({"mean": dist.Normal(0, 10), "sd": dist.LogNormal()}, log_likelihood)
    cold = smcinfer.sample(jax.random.key(0), target, num_particles=512, num_runs=16, progress=False)
    warmed = target.with_reference(smcinfer.reference_from(cold))
    warm = smcinfer.sample(jax.random.key(1), warmed, num_particles=512, num_runs=16, progress=False)
    spent = [np.nansum(result.history["num_evals"], axis=1).mean() for result in (cold, warm)]
    errors = warm.log_z_se / cold.log_z_se
    return float(spent[1] / spent[0] * errors**2), float(errors)


def abc_distance_ratio(num_seeds: int = 3, size: int = 500) -> float | None:
    """Wasserstein distance of ABC draws from the exact posterior over that of pyabc's, with as many draws and simulations."""
    if importlib.util.find_spec("pyabc") is None:
        return None
    pyabc: Any = importlib.import_module("pyabc")
    y, quantiles = 1.3, (np.arange(2000) + 0.5) / 2000
    exact = scipy.stats.norm(y / 2, 0.5**0.5).ppf(quantiles)

    def apart(one: Any, other: Any) -> Any:
        return jnp.abs(one - other)

    target = smcinfer.simulator(
        dist.Normal(), lambda key, theta: theta + jax.random.normal(key), y, distance=apart, tolerance=0.05
    )
    distances = []
    for seed in range(num_seeds):
        result = smcinfer.sample(jax.random.key(seed), target, num_particles=size, num_runs=1, progress=False)
        budget = int(np.nansum(result.history["num_evals"]) * size)
        rng = np.random.default_rng(seed)
        np.random.seed(seed)
        peer = pyabc.ABCSMC(
            lambda p, rng=rng: {"y": p["theta"] + rng.normal()},
            pyabc.Distribution(theta=pyabc.RV("norm", 0, 1)),
            lambda a, b: abs(a["y"] - b["y"]),
            population_size=size,
            sampler=pyabc.sampler.SingleCoreSampler(),
        )
        peer.new("sqlite://", {"y": y})
        history = peer.run(max_total_nr_simulations=budget)
        frame, weights = history.get_distribution()
        spent = history.total_nr_simulations
        ours = (result.particles["theta"][0], np.exp(result.log_weights[0]))
        theirs = (frame["theta"].to_numpy(), weights)
        distances.append([scipy.stats.wasserstein_distance(x, exact, w) for x, w in (ours, theirs)])
        print(f"abc: {distances[-1]} after {budget} and {spent} simulations", flush=True)
    found = np.mean(distances, axis=0)
    return float(found[0] / found[1])


def arviz_groups() -> int:
    """Groups of the tree of a numpyro model."""

    def model(y: Any) -> None:
        numpyro.sample("y", dist.Normal(numpyro.sample("mean", dist.Normal()), 1.0).expand([3]), obs=y)

    target = smcinfer.from_numpyro(model, np.array([1.2, -0.3, 0.8]))
    result = smcinfer.sample(jax.random.key(0), target, num_particles=100, kernel="random_walk", progress=False)
    return len(result.to_arviz(groups="all").children)


def main(*, quick: bool) -> None:
    """Run all and print the figures."""
    warnings.filterwarnings("ignore")
    efficiency = pool_efficiency()
    print(f"pool efficiency {efficiency:.1%}", flush=True)
    ratio, errors = warm_start_evals_ratio()
    print(f"warm start: {ratio:.3f} of the evaluations at one error, errors as run {errors:.2f}", flush=True)
    found = models(["censored"] if quick else list(NUMPYRO))
    print_json(
        {
            "warm_start_evals_ratio": ratio,
            "warm_start_error_ratio": errors,
            "pool_efficiency": efficiency,
            "abc_distance_ratio_pyabc": abc_distance_ratio(1 if quick else 3),
            "arviz_groups": arviz_groups(),
        }
        | found
    )


if __name__ == "__main__":
    main(quick=parse_quick(__doc__ or ""))
