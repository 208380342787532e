"""State-space models: online steps, panels, Gaussian filters and maximum likelihood, beside dynamax and cuthbert if installed.

- host cost of an online step: processor time of the process on a population of two, where the device has nothing to do; beside
  it the wall time of a step at ten thousand particles, until its log Z is there;
- a panel of series of different lengths, beside a loop over them that calls one compiled program, and one that calls `sample`;
- the Kalman filter in float64, beside its peers in the same process: seconds, and how far apart the log likelihoods are;
- how far from Kalman's optimum, in nats, a climb by particle filters ends;
- the associative scan beside the sequential filter.
"""

import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.optimize

import smcinfer
from benchmarks.timing import measure_together, parse_quick, print_json
from smcinfer.core.settings import Settings
from smcinfer.models import linear_gaussian
from smcinfer.models.stochastic_volatility import StochasticVolatility
from smcinfer.state_space import StateSpace, state_space
from smcinfer.state_space.gaussian import log_likelihood
from smcinfer.state_space.online import Online
from smcinfer.state_space.panel import Panel, filter_series

Figures = dict[str, float | None]


def a_filter(num_particles: int, data: np.ndarray) -> Online:
    """A bootstrap filter of stochastic volatility that has seen a few data: its step is compiled."""
    made = smcinfer.online(jax.random.key(1), StochasticVolatility().state_space(None), num_particles=num_particles)
    for y in data[:5]:
        made.update(y)
    return made


def each_ms(made: Online, data: np.ndarray, clock: Callable[[], float]) -> float:
    """Median milliseconds of a step by a clock."""
    found = []
    for y in data:
        start = clock()
        made.update(y)
        _ = made.log_z
        found.append(1e3 * (clock() - start))
    return statistics.median(found)


def online_rows(quick: bool) -> Figures:
    """Milliseconds of one step: the host's share, and all of it at ten thousand particles."""
    _, made = StochasticVolatility().simulate(jax.random.key(0), 200 if quick else 2000)
    data = np.asarray(made)
    return {
        "online_ms_per_step_1e4": each_ms(a_filter(10_000, data), data[5:], time.perf_counter),
        "online_host_ms_per_step": each_ms(a_filter(2, data), data[5:], time.process_time),
    }


def a_panel(num_series: int) -> Panel:
    """Series of 20 to 60 observations of one random walk."""
    generator = np.random.default_rng(0)
    series = [np.cumsum(generator.normal(size=length)) for length in generator.integers(20, 60, size=num_series)]
    return smcinfer.panel(
        dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(x, 1.0), lambda t, x: dist.Normal(x, 0.5), series
    )


def panel_rows(quick: bool) -> Figures:
    """How many times faster a panel is than a loop over its series, both by compiled programs."""
    num_series, num_particles = (200, 100) if quick else (1000, 100)
    many, settings = a_panel(num_series), Settings(num_particles, history="none")
    keys = jax.random.split(jax.random.key(0), num_series)

    @eqx.filter_jit
    def one(model: StateSpace, key: jax.Array, length: jax.Array) -> jax.Array:
        return filter_series(key[None], model, length, settings)[0].log_z

    rows = lambda tree, place: jax.tree.map(lambda leaf: leaf[place], tree)  # noqa: E731
    models = [
        eqx.tree_at(lambda m: m.potential.data, many.model, rows(many.model.observations, s)) for s in range(num_series)
    ]
    whole = eqx.filter_jit(lambda many, keys: many.each(one, keys, many.lengths))
    calls = {
        "panel": lambda: whole(many, keys),
        "loop": lambda: [one(*parts) for parts in zip(models, keys, many.lengths, strict=True)],
    }
    seconds = in_turns(calls, 5)
    return {
        "panel_speedup_over_loop": seconds["loop"] / seconds["panel"],
        "panel_speedup_over_sample": num_series * one_sample_s(models[0]) / seconds["panel"],
        "panel_seconds": seconds["panel"],
    }


def one_sample_s(model: StateSpace) -> float:
    """Seconds of `sample` on one series of the panel, its program made before."""

    def call() -> None:
        options = {"num_particles": 100, "num_runs": 1, "history": "none", "progress": False}
        smcinfer.sample(jax.random.key(0), model, **options)

    return in_turns({"sample": call}, 9)["sample"]


def in_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of every call, taking turns, after one that compiles."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn:
                found[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in found.items()}


def kalman_rows(quick: bool) -> Figures:
    """The Kalman filter beside dynamax, and the associative scan beside the loop; all in float64."""
    with jax.enable_x64(True):
        truth, num_steps = linear_gaussian.example(), 1000 if quick else 10_000
        _, data = truth.simulate(jax.random.key(0), num_steps)
        model = truth.state_space(data, "bootstrap")
        arrays, still = eqx.partition(model, eqx.is_array)
        ours = {
            name: lambda arrays, in_parallel=in_parallel: log_likelihood(
                eqx.combine(arrays, still), in_parallel=in_parallel
            )
            for name, in_parallel in (("loop", False), ("scan", True))
        }
        makers: dict[str, Any] = {"dynamax": dynamax_of, "cuthbert": cuthbert_of}
        peers = {name: make(truth) for name, make in makers.items() if importlib.util.find_spec(name)}
        timed = measure_together(ours | peers, arrays, repeats=7)
        exact, loop = truth.posterior(data).log_z, float(jax.jit(ours["loop"])(arrays))
        figures: Figures = {
            "parallel_scan_speedup": timed["loop"].median_s / timed["scan"].median_s,
            "kalman_log_lik_error": abs(loop - exact),
            "parallel_log_lik_error": abs(float(jax.jit(ours["scan"])(arrays)) - exact),
        }
        for name in makers:
            there = name in peers
            figures[f"time_ratio_{name}"] = timed[name].median_s / timed["loop"].median_s if there else None
            apart = abs(float(jax.jit(peers[name])(arrays)) - loop) if there else None
            figures[f"{name}_log_lik_difference"] = apart
    return figures


def dynamax_of(truth: linear_gaussian.LinearGaussian) -> Callable[[Any], jax.Array]:
    """The log likelihood of the same data by dynamax, as a function of the arrays of our model, which hold them."""
    peer: Any = importlib.import_module("dynamax.linear_gaussian_ssm")
    model = peer.LinearGaussianSSM(state_dim=2, emission_dim=2)
    square = lambda scale: scale @ scale.T  # noqa: E731
    parameters, _ = model.initialize(
        jax.random.key(0),
        initial_mean=truth.initial_mean,
        initial_covariance=square(truth.initial_scale),
        dynamics_weights=truth.transition_matrix,
        dynamics_bias=jnp.zeros(2),
        dynamics_covariance=square(truth.transition_scale),
        emission_weights=truth.observation_matrix,
        emission_bias=jnp.zeros(2),
        emission_covariance=jnp.diag(truth.observation_scale**2),
    )
    return lambda arrays: peer.lgssm_filter(parameters, arrays.observations.values).marginal_loglik


def cuthbert_of(truth: linear_gaussian.LinearGaussian) -> Callable[[Any], jax.Array]:
    """The same by cuthbert, in square-root form; it observes nothing of its first state, which ours starts from at once."""
    filtering: Any = importlib.import_module("cuthbert.filtering")
    kalman: Any = importlib.import_module("cuthbert.gaussian.kalman")
    nothing, eye = jnp.zeros(2), jnp.eye(2)

    def move(t: jax.Array) -> tuple[jax.Array, ...]:
        first = t == 0
        matrix = jnp.where(first, eye, truth.transition_matrix)
        return matrix, nothing, jnp.where(first, 0.0, truth.transition_scale)

    def log_likelihood_of(arrays: Any) -> jax.Array:
        data = arrays.observations.values
        look = lambda t: (truth.observation_matrix, nothing, jnp.diag(truth.observation_scale), data[t])  # noqa: E731
        made = kalman.build_filter(truth.initial_mean, truth.initial_scale, move, look)
        return filtering.filter(made, jnp.arange(data.shape[0]), made.init_prepare()).log_normalizing_constant[-1]

    return log_likelihood_of


def mle_rows(quick: bool) -> Figures:
    """Nats between the likelihood where the climb ends and Kalman's optimum."""
    kept = lambda a, q: linear_gaussian.linear_gaussian([0.0], [[1.0]], [[a]], [[q**2]], [[1.0]], [[0.16]])  # noqa: E731
    data = np.asarray(kept(0.8, 0.5).simulate(jax.random.key(4), 50)[1])[:, 0]

    def build(theta: Any) -> StateSpace:
        transition = lambda t, x: dist.Normal(theta["a"] * x, theta["q"])  # noqa: E731
        return state_space(dist.Normal(0.0, 1.0), transition, lambda t, x: dist.Normal(x, 0.4), data)

    exact = lambda a, q: kept(a, q).posterior(data[:, None]).log_z  # noqa: E731
    best = scipy.optimize.minimize(lambda v: -exact(v[0], np.exp(v[1])), [0.5, -0.5], method="Nelder-Mead")
    target = smcinfer.parametric({"a": dist.Uniform(-1.0, 1.0), "q": dist.LogNormal(0.0, 1.0)}, build)
    sums = lambda t, before, x, y: {"before": before**2, "cross": before * x, "now": x**2}  # noqa: E731

    def from_sums(averages: Any) -> Any:
        a = averages["cross"] / averages["before"]
        return {"a": a, "q": jnp.sqrt(averages["now"] - a * averages["cross"])}

    figures: Figures = {}
    ways = {"": "score", "_iterated_filtering": "iterated_filtering", "_online_em": smcinfer.OnlineEM(sums, from_sums)}
    for name, method in ways.items():
        found = smcinfer.maximum_likelihood(
            jax.random.key(0), target, method=method, num_particles=256, num_steps=100 if quick else 300
        )
        reached = exact(float(found.estimate["a"]), float(found.estimate["q"]))
        figures[f"mle{name}_log_lik_gap_kalman"] = -best.fun - reached
        figures[f"mle{name}_seconds"] = found.seconds - found.compile_seconds
    return figures


def main() -> None:
    quick = parse_quick(__doc__ or "")
    figures: Figures = {}
    for rows in (online_rows, panel_rows, kalman_rows, mle_rows):
        figures |= rows(quick)
    print_json(figures)


if __name__ == "__main__":
    main()
