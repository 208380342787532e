"""A filter fed one observation after another: the numbers of the offline one, its forecasts, and what it refuses."""

import gc
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import smcinfer
from smcinfer.ground.errors import ArgumentError, CheckpointError, TargetError
from smcinfer.models.linear_gaussian import linear_gaussian
from smcinfer.run.runner import run
from smcinfer.state_space import StateSpace, state_space
from smcinfer.state_space.online import Cloud, Online, online
from smcinfer.state_space.online.step import _flat_advance
from smcinfer.state_space.smoothing.smooth import smooth
from tests.exact_paths import A, Q, R, walk_data
from tests.signatures import unchecked
from tests.statistics import assert_ks

STEPS = 8
DATA = walk_data(STEPS)
GAPS = np.where(np.arange(STEPS + 1) == 4, np.nan, DATA)
EXACT = linear_gaussian([0.0], [[1.0]], [[A]], [[Q**2]], [[1.0]], [[R**2]])
VARIANCE = 1 / (1 / Q**2 + 1 / R**2)


def guide(t: Any, x: Any, y: Any) -> Any:
    return dist.Normal(VARIANCE * (A * x / Q**2 + y / R**2), VARIANCE**0.5)


def ahead(t: Any, x: Any, y: Any) -> Any:
    return dist.Normal(A * x, (Q**2 + R**2) ** 0.5).log_prob(y)


KINDS: dict[str, dict[str, Any]] = {
    "bootstrap": {},
    "guided": {"proposal": guide},
    "auxiliary": {"proposal": guide, "look_ahead": ahead},
}


def walk(kind: str, data: Any = None, missing: str = "refuse", **options: Any) -> StateSpace:
    parts: Any = (dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(A * x, Q), lambda t, x: dist.Normal(x, R), data)
    return state_space(*parts, missing=missing, **KINDS[kind], **options)


def fed(data: Any, model: StateSpace, key: int = 1, **options: Any) -> Online:
    made = online(jax.random.key(key), model, **({"num_particles": 64, "num_runs": 2} | options))
    for y in data:
        made.update(y)
    return made


@pytest.fixture(scope="module")
def model() -> StateSpace:
    return walk("bootstrap", missing="skip")


def same(filter: Online, other: Online) -> bool:
    keyed = lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf  # noqa: E731
    pairs = zip(map(keyed, filter._leaves), map(keyed, other._leaves), strict=True)
    return all(np.array_equal(one, two) for one, two in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "data"), [("bootstrap", GAPS), ("guided", GAPS), ("auxiliary", DATA)])
def test_online_is_offline_bit_for_bit(kind: str, data: np.ndarray, precision: str) -> None:
    missing = "skip" if np.isnan(data).any() else "refuse"
    whole = run(jax.random.key(1), walk(kind, data, missing), 64, num_runs=2, lag=10)
    made, means, increments = (
        online(jax.random.key(1), walk(kind, missing=missing), num_particles=64, num_runs=2),
        [],
        [],
    )
    for y in data:
        made.update(None if np.isnan(y) else y)
        means.append(made._now.record["filtered_mean"])
        increments.append(made.log_z_increment)
    assert np.asarray(means).dtype == precision and made.t == STEPS
    np.testing.assert_array_equal(made.log_z_runs, np.asarray(whole.log_z, np.float64))
    np.testing.assert_array_equal(np.stack(means, 1), whole.history["filtered_mean"])
    np.testing.assert_array_equal(made.state.particles, whole.particles.state)
    np.testing.assert_array_equal(made.state.log_weights, whole.log_weights)
    np.testing.assert_array_equal(made.result().log_z_variance, whole.log_z_variance)
    assert sum(increments) == pytest.approx(made.log_z, abs=1e-4)
    np.testing.assert_allclose(increments[4], 0.0 if missing == "skip" else increments[4], atol=1e-5)


@pytest.mark.slow
def test_means_quantiles_and_spreads_pool_the_runs(model: StateSpace) -> None:
    made = fed(DATA, model)
    shares = np.exp(made.log_z_runs) / np.exp(made.log_z_runs).sum()
    weights = shares[:, None] * np.exp(np.asarray(made.state.log_weights, np.float64))
    x = np.asarray(made.state.particles, np.float64)
    assert made.mean == pytest.approx((weights * x).sum(), abs=1e-5)
    assert made.sd == pytest.approx(np.sqrt((weights * (x - made.mean) ** 2).sum()), abs=1e-5)
    low, middle, high = made.quantile([0.05, 0.5, 0.95])
    assert np.sum(weights[x < low]) < 0.06 and np.sum(weights[x < high]) > 0.94 and low < middle < high
    assert made.status == 0 and f"after step {STEPS}" in repr(made) and made.ess.shape == (2,)


@pytest.mark.slow
def test_the_last_steps_are_smoothed_as_offline() -> None:
    lag = 3
    whole = smooth(
        jax.random.key(2),
        walk("guided", DATA),
        method="fixed_lag",
        lag=lag,
        num_particles=64,
        num_runs=2,
        progress=False,
    )
    made = online(jax.random.split(jax.random.key(2))[0], walk("guided"), num_particles=64, num_runs=2, lag=lag)
    for t, y in enumerate(DATA):
        made.update(y)
        assert made.smoothed.num_steps == min(t, lag)
    found = made.smoothed
    np.testing.assert_array_equal(found.values["x"], whole.values["x"][:, -lag - 1 :])
    np.testing.assert_array_equal(found.log_weights, whole.log_weights[:, -lag - 1 :])
    np.testing.assert_array_equal(found.chosen, whole.chosen[:, -lag - 1 :])
    assert found.settings["first"] == STEPS - lag
    with pytest.raises(ArgumentError, match="keeps no lag"):
        _ = fed(DATA[:1], walk("guided")).smoothed


@pytest.mark.slow
def test_forecasts_follow_kalmans_prediction(model: StateSpace) -> None:
    made = fed(DATA, model, num_particles=50_000, num_runs=1)
    before = made.log_z
    ahead = made.predict(3, num_draws=2000)
    exact = EXACT.posterior(DATA[:, None])
    mean, variance = exact.mean[-1, 0], exact.covariance[-1, 0, 0]
    for step in range(3):
        mean, variance = A * mean, A**2 * variance + Q**2
        law = scipy.stats.norm(mean, np.sqrt(variance + R**2))
        assert_ks(ahead.observations["y"][:, step], law.cdf, num_comparisons=6)
        assert_ks(ahead.states["x"][:, step], scipy.stats.norm(mean, np.sqrt(variance)).cdf, num_comparisons=6)
        assert ahead.log_score([0.3, np.nan, -0.5])[step] == pytest.approx(
            0.0 if step == 1 else law.logpdf([0.3, np.nan, -0.5][step]), abs=0.1
        )
    with pytest.raises(AssertionError):
        assert_ks(ahead.states["x"][:, 2], law.cdf)
    assert made.log_z == before and ahead.first == STEPS + 1
    np.testing.assert_array_equal(made.predict(3, num_draws=2000).observations["y"], ahead.observations["y"])
    assert not np.array_equal(made.predict(3, num_draws=2000, key=jax.random.key(9)).states["x"], ahead.states["x"])


def test_a_saved_filter_goes_on_bit_for_bit(model: StateSpace, tmp_path: Path) -> None:
    whole, cut = fed(DATA, model), fed(DATA[:5], model)
    paused = smcinfer.load(cut.save(tmp_path / "filter.nc"))
    assert "saved after step 4" in str(paused)
    resumed = paused.resume(walk("bootstrap", missing="skip"))
    assert same(resumed, cut) and resumed.mean == cut.mean
    for y in DATA[5:]:
        resumed.update(y)
    assert same(resumed, whole) and not same(resumed, fed(DATA, model, key=2))
    np.testing.assert_array_equal(resumed.predict(2).states["x"], whole.predict(2).states["x"])
    with pytest.raises(CheckpointError, match="another model"):
        paused.resume(walk("guided", missing="skip"))


STREAM = """
import sys
import jax, numpyro.distributions as dist, smcinfer
from tests.state_space.test_online import DATA, walk
f = smcinfer.online(jax.random.key(1), walk("bootstrap", missing="skip"), num_particles=64, num_runs=2)
for y in DATA:
    f.update(y)
    f.save(sys.argv[1])
    print(f.t, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_a_filter_that_was_killed_in_mid_stream_goes_on(model: StateSpace, tmp_path: Path) -> None:
    path = tmp_path / "filter.nc"
    with subprocess.Popen(
        [sys.executable, "-c", STREAM, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        for t in range(4):
            assert child.stdout.readline() == f"{t}\n"
            child.stdin.write("\n")
            child.stdin.flush()
        # The next step, or its saving, is under way.
        child.kill()
    resumed = smcinfer.load(path).resume(model)
    assert child.returncode == -signal.SIGKILL and 3 <= resumed.t <= 4
    for y in DATA[resumed.t + 1 :]:
        resumed.update(y)
    assert same(resumed, fed(DATA, model))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bootstrap", "auxiliary"])
def test_a_cloud_fed_back_goes_on(kind: str) -> None:
    model = walk(kind)
    whole, half = fed(DATA, model), fed(DATA[:5], model)
    cloud = Cloud(half.state.particles, half.state.log_weights + half.log_z_runs[:, None])
    other = online(jax.random.key(1), model, num_particles=64, num_runs=2, cloud=cloud, t=4)
    assert other.t == 4 and other.log_z == pytest.approx(half.log_z, abs=1e-4)
    assert other.mean == pytest.approx(half.mean, abs=1e-5)
    for y in DATA[5:]:
        other.update(y)
    # The same keys, states and weights: the same filter, but for the rounding of log Z and of weights.
    np.testing.assert_allclose(other.log_z_runs, whole.log_z_runs, atol=1e-4)
    np.testing.assert_allclose(other.state.particles, whole.state.particles, atol=1e-4)


@pytest.mark.slow
def test_a_cloud_of_another_size_has_the_mean_that_kalman_says() -> None:
    """A cloud that is the prior of x_0, of few heavy and many light particles, resampled to as many as are wanted."""
    x = np.linspace(-4.0, 4.0, 501)
    cloud = Cloud(x[None], scipy.stats.norm.logpdf(x)[None])
    made = online(jax.random.key(3), walk("guided"), num_particles=20_000, cloud=cloud)
    assert made.mean == pytest.approx(0.0, abs=0.02) and made.sd == pytest.approx(1.0, abs=0.02)
    normaliser = np.logaddexp.reduce(cloud.log_weights[0])
    assert made.log_z == pytest.approx(normaliser, abs=1e-4)
    made.update(0.7)
    assert made.log_z - normaliser == pytest.approx(
        scipy.stats.norm.logpdf(0.7, 0.0, np.sqrt(A**2 + Q**2 + R**2)), abs=0.02
    )


def test_a_cloud_that_does_not_fit_is_refused(model: StateSpace) -> None:
    key, one = jax.random.key(0), Cloud(np.zeros((1, 5)), np.zeros((1, 5)))
    with pytest.raises(ArgumentError, match="does not fit"):
        online(key, model, num_particles=8, num_runs=2, cloud=one)
    with pytest.raises(ArgumentError, match="without weight"):
        online(key, model, num_particles=8, cloud=one._replace(log_weights=np.full((1, 5), -np.inf)))
    with pytest.raises(ArgumentError, match="has no times"):
        online(key, model, num_particles=8, cloud=one, time=1.0)
    with pytest.raises(ArgumentError, match="without a cloud"):
        online(key, model, num_particles=8, t=3)


def test_data_of_the_model_are_filtered_first(model: StateSpace) -> None:
    made = fed(DATA[6:], walk("bootstrap", GAPS[:6], "skip"))
    assert same(made, fed([*GAPS[:6], *DATA[6:]], model))


def test_steps_left_out_were_not_observed(model: StateSpace) -> None:
    made = fed(DATA[:4], model)
    made.update(DATA[5], t=5)
    other = fed([*DATA[:4], None, DATA[5]], model)
    assert made.t == 5 and same(made, other)


@pytest.mark.slow
def test_nothing_is_kept_of_steps_that_are_over(model: StateSpace) -> None:
    made = fed(DATA, model)
    gc.collect()
    arrays, programs = len(jax.live_arrays()), _flat_advance._cache_size()
    for t in range(300):
        made.update(0.1 * (t % 5))
    gc.collect()
    assert len(jax.live_arrays()) <= arrays and _flat_advance._cache_size() == programs
    kept = [made._leaves for made in [fed(DATA, model)]]
    assert len(jax.live_arrays()) > arrays and kept


REFUSED = {
    "late": ({"y": 0.1, "t": 1}, "comes late"),
    "shape": ({"y": [0.1, 0.2]}, "wrong shape"),
    "structure": ({"y": {"y": 0.1}}, "another structure"),
    "text": ({"y": "low"}, "numbers"),
    "missing": ({"y": np.nan}, "missing in the observation of step 2(.|\n)*skip"),
    "nothing": ({"y": None}, "missing in the observation of step 2"),
    "left out": ({"y": 0.1, "t": 9}, "missing in the observation of step 2"),
    "no step": ({"y": 0.1, "t": 2.5}, "t is not a whole number"),
}


@pytest.fixture(scope="module")
def strict() -> Online:
    return fed(DATA[:2], walk("bootstrap"))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_filtered_is_refused_and_changes_nothing(strict: Online, name: str) -> None:
    options, message = REFUSED[name]
    before = list(strict._leaves)
    with unchecked(), pytest.raises(ArgumentError, match=message):
        strict.update(**options)
    assert strict.t == 1 and all(one is two for one, two in zip(strict._leaves, before, strict=True))


@pytest.mark.slow
def test_trees_counts_and_laws_of_several_kinds() -> None:
    made = state_space(
        {"level": dist.Normal(0.0, 1.0), "rate": dist.Gamma(2.0, 1.0)},
        lambda t, x: {"level": dist.Normal(x["level"], 0.1), "rate": dist.Gamma(2.0, 1.0)},
        lambda t, x: {"count": dist.Poisson(x["rate"]), "seen": dist.Normal(x["level"], 1.0).expand([2]).to_event(1)},
        missing="skip",
    )
    told = online(jax.random.key(0), made, num_particles=32)
    told.update({"count": 3, "seen": [0.1, np.nan]})
    told.update({"count": None, "seen": [0.1, 0.2]})
    assert set(told.mean) == {"level", "rate"}
    coming = told.predict(2, num_draws=10)
    assert set(coming.observations) == {"count", "seen"} and coming.observations["seen"].shape == (10, 2, 2)
    with pytest.raises(ArgumentError, match="outside the support"):
        told.update({"count": -1, "seen": [0.1, 0.2]})


@pytest.mark.slow
def test_models_that_cannot_be_online() -> None:
    with pytest.raises(TargetError, match="looks at data to come"):
        online(jax.random.key(0), walk("bootstrap", twist=lambda t, x: -(x**2)))
    with pytest.raises(TargetError, match="no data(.|\n)*online"):
        smcinfer.sample(jax.random.key(0), walk("bootstrap"), progress=False)
    with pytest.raises(ArgumentError, match="nothing was observed"):
        _ = online(jax.random.key(0), walk("bootstrap")).mean
