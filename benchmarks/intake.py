"""What people bring: PyMC and numpyro models, likelihoods on workers, draws, simulators, and the tree that they take away.

    python -m benchmarks.intake [--quick]

Each model is judged by a truth in closed form or by long chains of numpyro's own NUTS: right within a tenth of a posterior
standard deviation. PyMC and pyabc are measured where they are installed, and their figures are null where they are not.
``--quick`` takes fewer models.
"""

import importlib.util
import multiprocessing
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

import smcinfer
from benchmarks.timing import parse_quick, print_json

RIGHT = 0.1
"""Standard deviations that a posterior mean may be off."""

CALL_SECONDS = 0.02
RNG = np.random.default_rng(0)
X = RNG.normal(size=30)
SCHOOLS = (np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), np.array([15.0, 10, 16, 11, 9, 11, 10, 18]))


def hierarchical() -> None:
    """Eight schools, in plates."""
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfNormal(5))
    with numpyro.plate("school", 8):
        z = numpyro.sample("z", dist.Normal())
        numpyro.sample("y", dist.Normal(mu + tau * z, SCHOOLS[1]), obs=SCHOOLS[0])


def process() -> None:
    """A Gaussian process on 15 points."""
    scale, length = numpyro.sample("scale", dist.LogNormal()), numpyro.sample("length", dist.LogNormal())
    x = jnp.linspace(0, 3, 15)
    kernel = scale * jnp.exp(-0.5 * ((x[:, None] - x) / length) ** 2) + 0.1 * jnp.eye(15)
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(15), kernel), obs=jnp.sin(2 * x))


def ordinal() -> None:
    """Ordered categories."""
    slope = numpyro.sample("slope", dist.Normal(0, 2))
    first, gap = numpyro.sample("first", dist.Normal(0, 2)), numpyro.sample("gap", dist.HalfNormal(2))
    seen = np.digitize(X + 0.5 * np.sin(7 * X), [-0.5, 0.7])
    numpyro.sample("y", dist.OrderedLogistic(slope * X, jnp.stack([first, first + gap])), obs=seen)


def censored() -> None:
    """Lifetimes cut off at two."""
    rate = numpyro.sample("rate", dist.Gamma(2.0, 2.0))
    lives = np.exp(X)
    numpyro.factor("y", jnp.where(lives < 2, jnp.log(rate) - rate * lives, -2 * rate).sum())


def mixed() -> None:
    """A mixture of two Gaussians, ordered by a gap."""
    low, gap = numpyro.sample("low", dist.Normal(0, 3)), numpyro.sample("gap", dist.Gamma(4.0, 1.0))
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    data = np.concatenate([X[:12] * 0.5 - 2, X[12:] * 0.5 + 2])
    laws = dist.Normal(jnp.stack([low, low + gap]), 0.7)
    numpyro.sample(
        "y", dist.MixtureSameFamily(dist.Categorical(jnp.stack([share, 1 - share])), laws).expand([30]), obs=data
    )


def autoregressive() -> None:
    """AR(1)."""
    rho, sd = numpyro.sample("rho", dist.Uniform(-1, 1)), numpyro.sample("sd", dist.HalfNormal(2))
    walk = np.convolve(X, 0.7 ** np.arange(10))[:30]
    numpyro.sample("y", dist.Normal(rho * walk[:-1], sd), obs=walk[1:])


def inflated() -> None:
    """A zero-inflated Poisson law."""
    gate, rate = numpyro.sample("gate", dist.Beta(1.0, 1.0)), numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    seen = np.where(X > 0.2, np.floor(3 + X).astype(int), 0)
    numpyro.sample("y", dist.ZeroInflatedPoisson(gate, rate).expand([30]), obs=seen)


def correlated() -> None:
    """An LKJ prior of a correlation."""
    factor = numpyro.sample("factor", dist.LKJCholesky(2, 2.0))
    pairs = np.stack([X, 0.6 * X + 0.8 * np.roll(X, 1)], axis=1)
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(2), scale_tril=factor).expand([30]), obs=pairs)


MODELS: dict[str, Callable[[], None]] = {
    one.__name__: one for one in (hierarchical, process, ordinal, censored, mixed, autoregressive, inflated, correlated)
}


def off(result: smcinfer.Result, truth: dict[str, np.ndarray]) -> float:
    """The worst mean, in posterior standard deviations; ``truth`` holds draws, leading axis."""
    worst = 0.0
    for name, draws in truth.items():
        flat = np.reshape(draws, (len(draws), -1)).astype(np.float64)
        spread, mean = flat.std(axis=0), np.reshape(result.expectation(name), -1)
        moving = spread > 1e-6
        worst = max(worst, float(np.max(np.abs(mean - flat.mean(axis=0))[moving] / spread[moving])))
    return worst


def numpyro_models_right(names: list[str]) -> int:
    """How many models agree with NUTS of numpyro."""
    right = 0
    for name in names:
        chains = MCMC(NUTS(MODELS[name]), num_warmup=500, num_samples=8000, progress_bar=False)
        chains.run(jax.random.key(1))
        target = smcinfer.from_numpyro(MODELS[name])
        result = smcinfer.sample(jax.random.key(0), target, num_particles=4000, progress=False)
        found = off(result, {site: np.asarray(value) for site, value in chains.get_samples().items()})
        right += found < RIGHT
        print(
            f"numpyro {name:<16} off by {found:.3f} sd, log Z {result.log_z:.2f} +- {result.log_z_se:.2f}", flush=True
        )
    return right


def pymc_models() -> dict[str, tuple[Any, Callable[[smcinfer.Result], float]]]:
    """PyMC models with closed forms: how many standard deviations a result is off, log Z in its error bars too."""
    pm = importlib.import_module("pymc")
    with pm.Model(coords={"unit": range(3)}) as normal:
        mean = pm.Normal("mean", 0.0, 2.0)
        pm.Normal("y", mean, 1.0, observed=[1.2, -0.3, 0.8], dims="unit")
    with pm.Model() as counts:
        rate = pm.Gamma("rate", 2.0, 1.0)
        pm.Poisson("y", rate, observed=[3, 4, 1, 2])
    with pm.Model() as share:
        chance = pm.Beta("chance", 2.0, 2.0)
        pm.Binomial("y", 10, chance, observed=7)
    truths = {
        "mean": (1.7 / 3.25, 3.25**-0.5),
        "rate": (12 / 5, 12**0.5 / 5),
        "chance": (9 / 14, (9 * 5 / 14**2 / 15) ** 0.5),
    }

    def judge(name: str) -> Callable[[smcinfer.Result], float]:
        centre, spread = truths[name]
        return lambda result: abs(float(result.expectation(name)) - centre) / spread

    return {name: (model, judge(name)) for name, model in zip(truths, (normal, counts, share), strict=True)}


def pymc_models_right() -> tuple[int | None, int]:
    """How many agree with their closed forms; nothing where PyMC is not installed."""
    if importlib.util.find_spec("pymc") is None:
        return None, 0
    models, right = pymc_models(), 0
    for name, (model, judge) in models.items():
        result = smcinfer.sample(jax.random.key(0), smcinfer.from_pymc(model), num_particles=4000, progress=False)
        right += judge(result) < RIGHT
        print(f"pymc {name:<16} off by {judge(result):.3f} sd", flush=True)
    return right, len(models)


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


def abc_distance_ratio() -> float | None:
    """Distance of the ABC posterior's mean from the exact one over pyabc's, at as many simulations."""
    if importlib.util.find_spec("pyabc") is None:
        return None
    pyabc = importlib.import_module("pyabc")
    y = 1.3

    def apart(one: Any, other: Any) -> Any:
        return jnp.abs(one - other)

    errors = []
    for seed in range(5):
        target = smcinfer.simulator(
            dist.Normal(), lambda key, theta: theta + jax.random.normal(key), y, distance=apart, tolerance=0.1
        )
        result = smcinfer.sample(jax.random.key(seed), target, num_particles=250, num_runs=1, progress=False)
        budget = int(np.nansum(result.history["num_evals"]) * 250 * 2)
        rng = np.random.default_rng(seed)
        peer = pyabc.ABCSMC(
            lambda p, rng=rng: {"y": p["theta"] + rng.normal()},
            pyabc.Distribution(theta=pyabc.RV("norm", 0, 1)),
            lambda a, b: abs(a["y"] - b["y"]),
            population_size=500,
            sampler=pyabc.sampler.SingleCoreSampler(),
        )
        peer.new("sqlite://", {"y": y})
        frame, weights = peer.run(minimum_epsilon=0.1, max_total_nr_simulations=budget).get_distribution()
        ours, theirs = float(result.expectation("theta")), float(np.sum(frame["theta"].to_numpy() * weights))
        errors.append((abs(ours - y / 2), abs(theirs - y / 2)))
    found = np.mean(errors, axis=0)
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
    names = ["censored"] if quick else list(MODELS)
    efficiency = pool_efficiency()
    print(f"pool efficiency {efficiency:.1%}", flush=True)
    ratio, errors = warm_start_evals_ratio()
    print(f"warm start: {ratio:.3f} of the evaluations at one error, errors as run {errors:.2f}", flush=True)
    groups = arviz_groups()
    right, count = (None, 0) if quick else pymc_models_right()
    print_json(
        {
            "warm_start_evals_ratio": ratio,
            "warm_start_error_ratio": errors,
            "pool_efficiency": efficiency,
            "abc_distance_ratio_pyabc": None if quick else abc_distance_ratio(),
            "numpyro_models_right": numpyro_models_right(names),
            "numpyro_models": len(names),
            "pymc_models_right": right,
            "pymc_models": count,
            "arviz_groups": groups,
        }
    )


if __name__ == "__main__":
    main(quick=parse_quick(__doc__ or ""))
