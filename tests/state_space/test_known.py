"""Irregular times, inputs from outside, and observations of which a part is missing, against one large Gaussian."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import smcinfer
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.linear_gaussian import linear_gaussian
from smcinfer.run.runner import run
from smcinfer.state_space import StateSpace, state_space
from smcinfer.state_space.gaussian import gaussian_filter
from smcinfer.state_space.online import online
from tests.signatures import unchecked
from tests.statistics import assert_ks, assert_mean_one_log

TIMES = np.array([100.0, 100.1, 100.7, 102.0, 102.05, 103.5])
INPUTS = np.array([0.0, 1.0, -1.0, 0.5, 2.0, 0.0])
DATA = np.array([0.3, 1.2, -0.4, 0.1, 2.2, -0.3])
NOISE = 0.3


def ornstein(data: Any, times: Any, inputs: Any, dt: Any = lambda now: now.dt, **options: Any) -> StateSpace:
    """x_t is a stationary process with covariance exp(-|s - t|), and the inputs are added to what is seen of it."""

    def transition(t: Any, x: Any, now: Any) -> Any:
        return dist.Normal(x * jnp.exp(-dt(now)), jnp.sqrt(-jnp.expm1(-2 * dt(now))))

    look = lambda t, x, now: dist.Normal(x + now.inputs, NOISE)  # noqa: E731
    return state_space(dist.Normal(0.0, 1.0), transition, look, data, times=times, inputs=inputs, **options)


def whole_law(times: np.ndarray, inputs: np.ndarray) -> Any:
    covariance = np.exp(-np.abs(times[:, None] - times)) + NOISE**2 * np.eye(times.size)
    return scipy.stats.multivariate_normal(inputs, covariance)


EXACT = float(whole_law(TIMES, INPUTS).logpdf(DATA))


@pytest.mark.slow
def test_transitions_see_the_time_between_and_observations_the_inputs() -> None:
    done = run(jax.random.key(0), ornstein(DATA, TIMES, INPUTS), 64, num_runs=200)
    assert_mean_one_log(done.log_z, EXACT)
    regular = run(jax.random.key(0), ornstein(DATA, TIMES, INPUTS, lambda now: 0.7 + 0 * now.dt), 64, num_runs=200)
    with pytest.raises(AssertionError):
        assert_mean_one_log(regular.log_z, EXACT)


@pytest.mark.parametrize("in_parallel", [False, True])
def test_kalman_at_irregular_times(in_parallel: bool, precision: str) -> None:
    found = gaussian_filter(ornstein(DATA, TIMES, INPUTS), in_parallel=in_parallel)
    assert found.log_z == pytest.approx(EXACT, abs=1e-9 if precision == "float64" else 1e-4)


@pytest.mark.slow
def test_times_and_inputs_come_one_by_one(tmp_path: Any) -> None:
    whole = run(jax.random.key(1), ornstein(DATA, TIMES, INPUTS), 64, lag=10)
    made = online(jax.random.key(1), ornstein(None, [], np.zeros(0)), num_particles=64)
    for y, time, u in zip(DATA[:4], TIMES, INPUTS, strict=False):
        made.update(y, time=time, inputs=u)
    made = smcinfer.load(made.save(tmp_path / "f.nc")).resume(ornstein(None, [], np.zeros(0)))
    for y, time, u in zip(DATA[4:], TIMES[4:], INPUTS[4:], strict=True):
        made.update(y, time=time, inputs=u)
    np.testing.assert_array_equal(made.log_z_runs, np.asarray(whole.log_z, np.float64))
    np.testing.assert_array_equal(made.state.particles, whole.particles.state)
    first = online(jax.random.key(1), ornstein(DATA, TIMES, INPUTS), num_particles=64)
    np.testing.assert_array_equal(first.state.particles, made.state.particles)
    later = {"future_times": [103.6, 105.0], "future_inputs": [3.0, 0.0]}
    np.testing.assert_array_equal(
        first.predict(2, **later).observations["y"], made.predict(2, **later).observations["y"]
    )
    for call, message in (
        (lambda: made.update(0.1, time=103.5, inputs=0.0), "times do not increase"),
        (lambda: made.update(0.1, time=104.0), "needs inputs"),
        (lambda: made.update(0.1, inputs=0.0), "needs times"),
        (lambda: made.update(0.1, time=104.0, inputs=[0.0, 1.0]), "another shape than before"),
        (lambda: made.update(0.1, time=104.0, inputs=0.0, t=9), "numbers are missing|cannot be left out"),
        (lambda: made.predict(2), "needs times"),
        (lambda: made.predict(2, **(later | {"future_times": [103.0, 104.0]})), "do not increase"),
        (lambda: made.predict(3, **later), "another length"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
    assert made.t == 5


@pytest.mark.slow
def test_forecasts_at_times_to_come() -> None:
    model = ornstein(DATA, TIMES, INPUTS)
    result = smcinfer.sample(jax.random.key(3), model, num_particles=20_000, num_runs=1, progress=False)
    ahead = result.forecast(2, future_times=[103.6, 105.0], future_inputs=[3.0, 0.0], num_draws=1000)
    law = whole_law(np.append(TIMES, [103.6, 105.0]), np.append(INPUTS, [3.0, 0.0]))
    cross = law.cov[6:, :6] @ np.linalg.inv(law.cov[:6, :6])
    mean = law.mean[6:] + cross @ (DATA - law.mean[:6])
    variance = np.diag(law.cov[6:, 6:] - cross @ law.cov[:6, 6:])
    for step in range(2):
        exact = scipy.stats.norm(mean[step], variance[step] ** 0.5)
        assert_ks(ahead.observations["y"][:, step], exact.cdf, num_comparisons=2)
    with pytest.raises(AssertionError):
        assert_ks(ahead.observations["y"][:, 0], exact.cdf)
    with pytest.raises(ArgumentError, match="needs times"):
        result.forecast(2)


NOISES = np.array([[1.0, 0.7], [0.7, 0.8]])
PARTIAL = np.array([[0.3, np.nan], [np.nan, np.nan], [0.5, -0.2], [np.nan, 1.0]])


def test_dependent_coordinates_that_are_missing_are_integrated_out(precision: str) -> None:
    dependent = linear_gaussian([0.0, 0.0], np.eye(2), 0.8 * np.eye(2), 0.3 * np.eye(2), np.eye(2), NOISES)
    model = dependent.state_space(PARTIAL, "bootstrap", missing="skip")
    x = np.array([0.4, -1.0])
    for t, row in enumerate(PARTIAL):
        kept = ~np.isnan(row)
        marginal = scipy.stats.multivariate_normal(x[kept], NOISES[np.ix_(kept, kept)]) if kept.any() else None
        value = float(model.potential(jnp.asarray(t), jnp.asarray(x, precision)))
        assert value == pytest.approx(marginal.logpdf(row[kept]) if marginal else 0.0, abs=1e-5)
    exact = dependent.posterior(PARTIAL).log_z
    assert gaussian_filter(model).log_z == pytest.approx(exact, abs=1e-4)
    if precision == "float64":
        done = run(jax.random.key(2), model, 64, num_runs=200)
        assert_mean_one_log(done.log_z, exact)
        filled = run(jax.random.key(2), dependent.state_space(np.nan_to_num(PARTIAL), "bootstrap"), 64, num_runs=200)
        with pytest.raises(AssertionError):
            assert_mean_one_log(filled.log_z, exact)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": TIMES[:3]}, "times have another length"),
        ({"times": TIMES[::-1]}, "times do not increase(.|\n)*row 1"),
        ({"times": ["a"] * 6}, "times"),
        ({"times": [np.nan, *TIMES[1:]]}, "missing in times"),
        ({"inputs": INPUTS[:3]}, "inputs have another length"),
        ({"inputs": {"u": [np.nan] * 6}}, "missing in inputs"),
    ],
)
def test_times_and_inputs_that_are_refused(options: dict[str, Any], message: str) -> None:
    with unchecked(), pytest.raises(ArgumentError, match=message):
        ornstein(DATA, **({"times": TIMES, "inputs": INPUTS} | options))


def test_a_model_without_times_takes_none() -> None:
    plain = state_space(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(x, 1.0), lambda t, x: dist.Normal(x, 1.0))
    made = online(jax.random.key(0), plain, num_particles=8)
    with pytest.raises(ArgumentError, match="takes no time"):
        made.update(0.1, time=3.0)
    made.update(0.1)
    with pytest.raises(ArgumentError, match="takes no times"):
        made.predict(1, future_times=[1.0])
