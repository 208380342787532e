"""Ready state-space models: exact answers by two ways, filters against them, and single-run error bars against the spread."""

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import smcinfer
from smcinfer.core import resampling
from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError
from smcinfer.models import bearings_only, finite_hmm, linear_gaussian
from smcinfer.models.stochastic_volatility import StochasticVolatility
from smcinfer.results.evidence import combine
from smcinfer.results.finished import Run
from smcinfer.run.runner import run
from tests.statistics import assert_mean, assert_mean_one_log, assert_within, z_threshold

RUNS = 400
STEPS = 8


def oscillation(num_steps: int = STEPS) -> tuple[linear_gaussian.LinearGaussian, np.ndarray]:
    """The example with data of its own."""
    model = linear_gaussian.example()
    t = np.arange(num_steps + 1)
    return model, np.stack([np.cos(0.4 * t), np.sin(0.7 * t)], axis=1)


def chain(num_steps: int = STEPS) -> tuple[finite_hmm.FiniteHMM, np.ndarray]:
    """The example with data of its own."""
    return finite_hmm.example(), (np.arange(num_steps + 1) ** 2 % 3).astype(np.int32)


def joint_law(model: linear_gaussian.LinearGaussian, num_steps: int) -> tuple[np.ndarray, ...]:
    """Mean and covariance of the whole path, and the matrix and noise that make data of it: no recursion."""
    a, q, c, r = (
        np.asarray(part, np.float64)
        for part in (
            model.transition_matrix,
            model.transition_scale @ model.transition_scale.T,
            model.observation_matrix,
            jnp.diag(model.observation_scale**2),
        )
    )
    size, dim = num_steps + 1, a.shape[0]
    powers = [np.linalg.matrix_power(a, k) for k in range(size)]
    shocks = [np.asarray(model.initial_scale @ model.initial_scale.T, np.float64)] + [q] * num_steps
    blocks = np.zeros((size, size, dim, dim))
    for s in range(size):
        for t in range(size):
            for u in range(min(s, t) + 1):
                blocks[s, t] += powers[s - u] @ shocks[u] @ powers[t - u].T
    mean = np.concatenate([power @ np.asarray(model.initial_mean, np.float64) for power in powers])
    covariance = blocks.transpose(0, 2, 1, 3).reshape(size * dim, size * dim)
    return mean, covariance, np.kron(np.eye(size), c), np.kron(np.eye(size), r)


@pytest.mark.parametrize("is_missing", [False, True], ids=["complete", "missing"])
def test_kalman_is_conditioning_of_one_gaussian(is_missing: bool, x64: None) -> None:
    model, data = oscillation()
    if is_missing:
        data[3], data[5, 0] = np.nan, np.nan
    mean, covariance, c, r = joint_law(model, STEPS)
    seen = ~np.isnan(data.ravel())
    c, r, y = c[seen], r[np.ix_(seen, seen)], data.ravel()[seen]
    total = c @ covariance @ c.T + r
    gain = np.linalg.solve(total, c @ covariance).T
    exact = model.posterior(data)
    log_z = scipy.stats.multivariate_normal(c @ mean, total).logpdf(y)
    np.testing.assert_allclose(exact.log_z, log_z, rtol=1e-9)
    smoothed = (mean + gain @ (y - c @ mean)).reshape(exact.smoothed_mean.shape)
    np.testing.assert_allclose(exact.smoothed_mean, smoothed, atol=1e-9)
    left = covariance - gain @ c @ covariance
    blocks = np.stack([left[2 * t : 2 * t + 2, 2 * t : 2 * t + 2] for t in range(STEPS + 1)])
    np.testing.assert_allclose(exact.smoothed_covariance, blocks, atol=1e-9)


def test_forward_backward_is_enumeration(x64: None) -> None:
    model, data = chain(4)
    paths = np.stack(np.meshgrid(*[np.arange(3)] * 5, indexing="ij")).reshape(5, -1).T
    initial, transition, emission = (
        np.exp(np.asarray(part)) for part in (model.log_initial, model.log_transition, model.log_emission)
    )
    weights = initial[paths[:, 0]] * np.prod(transition[paths[:, :-1], paths[:, 1:]], axis=1)
    weights = weights * np.prod(emission[paths, data], axis=1)
    exact = model.posterior(data)
    np.testing.assert_allclose(exact.log_z, np.log(weights.sum()))
    marginals = np.stack([np.bincount(column, weights, 3) for column in paths.T]) / weights.sum()
    np.testing.assert_allclose(exact.smoothed, marginals)
    np.testing.assert_allclose(exact.filtered[-1], marginals[-1])
    with pytest.raises(ArgumentError, match="emission is no table"):
        finite_hmm.finite_hmm([1.0], [[1.0]], [[0.5, 0.6]])


def test_path_samplers_draw_the_posterior() -> None:
    keys = jax.random.split(jax.random.key(0), 4000)
    model, data = oscillation()
    exact = model.posterior(data)
    paths = np.asarray(jax.jit(jax.vmap(model.path_sampler(data)))(keys), np.float64)
    assert_mean(paths, exact.smoothed_mean)
    centred = paths - exact.smoothed_mean
    assert_mean(centred[..., :, None] * centred[..., None, :], exact.smoothed_covariance)
    # Two times at once: Cov(x_t, x_{t+1} | data) = G_t P_{t+1}, which independent draws of each time would miss.
    between = exact.gains @ exact.smoothed_covariance[1:]
    assert_mean(centred[:, :-1, :, None] * centred[:, 1:, None, :], between)
    with pytest.raises(AssertionError):
        assert_mean(centred[:, :-1, :, None] * np.roll(centred, 1, 0)[:, 1:, None, :], between)
    hidden, symbols = chain()
    draws = np.asarray(jax.jit(jax.vmap(hidden.path_sampler(symbols)))(keys))
    assert_mean(draws[..., None] == np.arange(3), hidden.posterior(symbols).smoothed)


@functools.cache
def filtered(name: str, kind: str, scheme: str = "systematic", num_particles: int = 24) -> Run:
    """Many small filters of an exact model."""
    model, data = {"oscillation": oscillation, "chain": chain}[name]()
    return run(jax.random.key(4), model.state_space(data, kind), num_particles, num_runs=RUNS, resampling=scheme)


def check_filter(name: str, done: Run, *, is_twisted: bool) -> None:
    """E[Z_hat / Z] = 1, and E[Z_hat_t m_hat_t] = Z_t m_t: at the end only where Z_hat_t looks ahead by a twist."""
    model, data = {"oscillation": oscillation, "chain": chain}[name]()
    exact = model.posterior(data)
    means = exact.filtered @ np.arange(3) if name == "chain" else exact.mean
    assert_mean_one_log(done.log_z, exact.log_z)
    ratios = np.exp(np.cumsum(done.history["log_z_increment"], axis=1) - np.cumsum(exact.log_z_increments))
    ratios = ratios.reshape(*ratios.shape, *(1,) * (means.ndim - 1))
    untwisted = slice(-1, None) if is_twisted else slice(None)
    assert_mean((ratios * done.history["filtered_mean"])[:, untwisted], means[untwisted])


@pytest.mark.dealt
@pytest.mark.parametrize("kind", linear_gaussian.KINDS)
@pytest.mark.parametrize("name", ["oscillation", "chain"])
def test_every_filter_is_unbiased(name: str, kind: str) -> None:
    check_filter(name, filtered(name, kind), is_twisted=kind == "twisted")


@pytest.mark.slow
def test_a_wrong_model_is_caught() -> None:
    model, data = oscillation()
    slower = linear_gaussian.linear_gaussian(
        model.initial_mean,
        np.eye(2),
        0.8 * np.asarray(model.transition_matrix),
        model.transition_scale @ model.transition_scale.T,
        model.observation_matrix,
        model.observation_scale**2,
    )
    done = filtered("oscillation", "guided")
    with pytest.raises(AssertionError):
        assert_mean_one_log(done.log_z, slower.posterior(data).log_z)
    with pytest.raises(AssertionError):
        assert_mean(done.history["filtered_mean"], slower.posterior(data).mean)


@pytest.mark.slow
def test_looking_ahead_helps_and_the_exact_twist_leaves_nothing() -> None:
    spreads = {kind: float(np.std(filtered("oscillation", kind).log_z)) for kind in linear_gaussian.KINDS}
    assert spreads["guided"] < 0.8 * spreads["bootstrap"] and spreads["auxiliary"] < 0.8 * spreads["bootstrap"]
    model, data = oscillation()
    exact = model.posterior(data)
    np.testing.assert_allclose(filtered("oscillation", "twisted").log_z, exact.log_z, atol=1e-3)
    assert float(np.std(filtered("chain", "twisted").log_z)) < 0.8 * float(np.std(filtered("chain", "auxiliary").log_z))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", resampling.SCHEMES)
@pytest.mark.parametrize("kind", linear_gaussian.KINDS)
@pytest.mark.parametrize("name", ["oscillation", "chain"])
def test_every_filter_is_unbiased_in_every_scheme(name: str, kind: str, scheme: str, precision: str) -> None:
    model, data = {"oscillation": oscillation, "chain": chain}[name]()
    done = run(jax.random.key(5), model.state_space(data, kind), 12, num_runs=2000, resampling=scheme)
    check_filter(name, done, is_twisted=kind == "twisted")


@pytest.mark.parametrize("kind", ["lost", "unknown"])
def test_unknown_kinds_and_bad_covariances(kind: str) -> None:
    model, data = oscillation()
    for other, seen in ((model, data), chain(), (StochasticVolatility(), data[:, 0])):
        with pytest.raises(ArgumentError, match="unknown kind of filter"):
            other.state_space(seen, kind)
    with pytest.raises(ArgumentError, match="positive definite"):
        linear_gaussian.linear_gaussian([0.0], [[1.0]], [[1.0]], [[-1.0]], [[1.0]], [1.0])


def volatility(shared_data: Path) -> tuple[StochasticVolatility, np.ndarray, float]:
    """The reference series, its parameters and its log likelihood."""
    reference = json.loads((shared_data / "targets" / "stochastic_volatility.json").read_text(encoding="utf8"))
    model = StochasticVolatility(reference["mu"], reference["rho"], reference["sig"])
    return model, np.asarray(reference["y"]), -1054.90


@pytest.mark.slow
def test_stochastic_volatility_reference(shared_data: Path) -> None:
    model, returns, log_z = volatility(shared_data)
    result = smcinfer.sample(jax.random.key(0), model.state_space(returns), num_particles=2048, progress=False)
    assert result.log_z_se < 0.35
    assert_within(result.log_z, log_z, result.log_z_se)
    assert not result.status & Status.GENEALOGY_COALESCED


def test_guides_of_models_without_exact_answers(x64: None) -> None:
    """The bearing's guide is one Kalman update of the linearised angle; the volatility's moves to larger returns."""
    course = bearings_only.zigzag(30)
    assert course.shape == (31, 2)
    tracker = bearings_only.bearings_only(course)
    t, x = jnp.asarray(7), jnp.array([2.0, 3.0, -0.1, 0.2])
    angle = lambda p: jnp.arctan2(p[1] - course[7, 1], p[0] - course[7, 0])  # noqa: E731
    mean = tracker.matrix @ x
    slope, q = jax.grad(angle)(mean), tracker.scale @ tracker.scale.T
    gain = q @ slope / (slope @ q @ slope + tracker.bearing_sd**2)
    law: Any = tracker.guide(t, x, angle(mean) + 0.03 - 2 * jnp.pi)
    np.testing.assert_allclose(law.mean, mean + 0.03 * gain, rtol=1e-9)
    np.testing.assert_allclose(law.covariance_matrix, q - jnp.outer(gain, slope @ q), rtol=1e-7, atol=1e-12)
    model = StochasticVolatility()
    assert (
        model.guide(t, jnp.asarray(-1.0), jnp.asarray(3.0)).loc
        > model.guide(t, jnp.asarray(-1.0), jnp.asarray(0.1)).loc
    )


@pytest.mark.slow
def test_guided_and_blind_filters_agree_where_nothing_is_exact() -> None:
    tracker = bearings_only.bearings_only(bearings_only.zigzag(12))
    _, bearings = tracker.simulate(jax.random.key(1))
    model = StochasticVolatility()
    _, returns = model.simulate(jax.random.key(2), 40)
    for kinds in (tracker, bearings), (model, returns):
        log_z = [
            np.asarray(
                run(jax.random.key(3), kinds[0].state_space(kinds[1], kind), 500, num_runs=200).log_z, np.float64
            )
            for kind in ("bootstrap", "guided")
        ]
        ratios = [np.exp(values - log_z[0].max()) for values in log_z]
        error = np.sqrt(sum(ratio.var(ddof=1) for ratio in ratios) / 200)
        assert abs(ratios[0].mean() - ratios[1].mean()) < z_threshold() * error


def error_bars(model: Any, num_particles: int, num_runs: int = 200) -> tuple[Run, float, np.ndarray, np.ndarray]:
    """The runs, the spread of their log Z, what each run says its own is, and which runs say that they cannot tell."""
    done = run(jax.random.key(6), model, num_particles, num_runs=num_runs, lag=model.plan.lag)
    flagged = (np.asarray(done.status) & int(Status.GENEALOGY_COALESCED)) != 0
    return done, float(np.std(done.log_z, ddof=1)), np.sqrt(np.asarray(done.log_z_variance)), flagged


@pytest.mark.slow
def test_single_run_error_bars_are_honest() -> None:
    _, spread, own, flagged = error_bars(chain(40)[0].state_space(chain(40)[1], "bootstrap"), 300)
    assert not flagged.any()
    assert spread / 1.5 < np.median(own) < 1.5 * spread
    assert np.mean((own > spread / 1.5) & (own < 1.5 * spread)) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", ["oscillation", "volatility", "tracking", "hopeless"])
def test_error_bars_over_200_runs(name: str) -> None:
    """Each run's own error bar, and that of results of four runs, within 1.5 of the truth over all runs, or flagged."""
    if name == "oscillation":
        model, data = oscillation(100)
        target, size = model.state_space(data, "bootstrap"), 3000
    elif name == "volatility":
        target, size = (
            StochasticVolatility().state_space(StochasticVolatility().simulate(jax.random.key(1), 300)[1]),
            1000,
        )
    else:
        noise = 1e-3 if name == "tracking" else 1e-4
        tracker = bearings_only.bearings_only(bearings_only.zigzag(40), acceleration=noise)
        _, bearings = tracker.simulate(jax.random.key(1), (4.5, 3.5, -0.15, 0.05))
        target, size = tracker.state_space(bearings), 3000 if name == "tracking" else 200
    done, spread, own, flagged = error_bars(target, size)
    honest = (own > spread / 1.5) & (own < 1.5 * spread)
    print(f"{name}: spread {spread:.3f}, own {np.quantile(own, [0.05, 0.5, 0.95])}, flagged {flagged.mean():.2f}")
    assert np.mean(honest | flagged) > 0.95
    variances = np.where(flagged, np.nan, own**2).reshape(-1, 4)
    results = [
        combine(*parts) for parts in zip(np.asarray(done.log_z, np.float64).reshape(-1, 4), variances, strict=True)
    ]
    ratios = 2 * np.array([result.se for result in results]) / spread
    told = np.array([result.disagree or "within" not in result.source for result in results])
    print(f"four runs: s.e. / truth {np.quantile(ratios, [0.05, 0.5, 0.95])}, disagreeing or alone {told.mean():.2f}")
    assert np.mean(((ratios > 1 / 1.5) & (ratios < 1.5)) | told) > 0.95
    if name == "hopeless":
        assert flagged.mean() > 0.95
