"""The Gaussian family against the algebra of one large Gaussian, and what it refuses."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.models import linear_gaussian
from smcinfer.models.finite_hmm import example as finite_chain
from smcinfer.models.stochastic_volatility import StochasticVolatility
from smcinfer.state_space import state_space
from smcinfer.state_space.gaussian import ensemble_filter, gaussian_filter, gaussian_guide, log_likelihood
from smcinfer.state_space.gaussian.moments import Moments, extended, law_moments, unscented
from tests.signatures import unchecked

STEPS = 9


def the_data() -> np.ndarray:
    """Observations of the oscillation, one of them missing and one coordinate of another."""
    made = np.array(linear_gaussian.example().simulate(jax.random.key(5), STEPS)[1], np.float64)
    made[3], made[6, 0] = np.nan, np.nan
    return made


@pytest.mark.slow
@pytest.mark.parametrize("in_parallel", [False, True])
def test_kalman_is_exact_with_entries_missing(in_parallel: bool, precision: str) -> None:
    truth = linear_gaussian.example()
    exact = truth.posterior(the_data())
    found = gaussian_filter(truth.state_space(the_data(), "bootstrap", missing="skip"), in_parallel=in_parallel)
    close = {"rtol": 1e-9, "atol": 1e-9} if precision == "float64" else {"rtol": 2e-4, "atol": 1e-4}
    np.testing.assert_allclose(found.log_z_increments, exact.log_z_increments, **close)
    np.testing.assert_allclose(found.mean, exact.mean, **close)
    np.testing.assert_allclose(found.covariance, exact.covariance, **close)
    np.testing.assert_allclose(found.smoothed_mean, exact.smoothed_mean, **close)
    np.testing.assert_allclose(found.smoothed_covariance, exact.smoothed_covariance, **close)
    # The data as they would be were the gap an observation: nothing like it.
    filled = gaussian_filter(truth.state_space(np.nan_to_num(the_data()), "bootstrap"), in_parallel=in_parallel)
    assert abs(filled.log_z - exact.log_z) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["extended", "unscented"])
def test_nonlinear_filters_are_kalmans_where_nothing_bends(method: str, x64: None) -> None:
    truth = linear_gaussian.example()
    exact = truth.posterior(the_data())
    found = gaussian_filter(truth.state_space(the_data(), "bootstrap", missing="skip"), method=method)
    np.testing.assert_allclose(found.log_z, exact.log_z, rtol=1e-8)
    np.testing.assert_allclose(found.smoothed_mean, exact.smoothed_mean, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.sd(), np.sqrt(np.diagonal(exact.covariance, axis1=1, axis2=2)), rtol=1e-7)


def test_a_square_by_points_has_the_moments_of_a_square(x64: None) -> None:
    mean, variance = 0.7, 0.3
    given = Moments(jnp.array([mean]), jnp.array([[variance]]))
    square = lambda x: Moments(x**2, jnp.eye(1) * (0.1 + x[0] ** 2))  # noqa: E731
    exact = mean**2 + variance, 2 * variance**2 + 4 * mean**2 * variance + 0.1 + mean**2 + variance, 2 * mean * variance
    np.testing.assert_allclose([float(part.squeeze()) for part in unscented(square, given)], exact, rtol=1e-9)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose([float(part.squeeze()) for part in extended(square, given)], exact, rtol=0.05)


@pytest.mark.slow
def test_a_position_that_follows_from_its_velocity(x64: None) -> None:
    """Point masses, a tree of states, and a start that is known: smoothing is the conditioning of one large Gaussian."""
    y, q, r = np.array([0.3, 1.1, 1.8, 3.2]), 0.5, 0.4
    model = state_space(
        {"place": dist.Delta(jnp.asarray(0.0)), "speed": dist.Normal(1.0, 1.0)},
        lambda t, x: {"place": dist.Delta(x["place"] + x["speed"]), "speed": dist.Normal(x["speed"], q)},
        lambda t, x: dist.Normal(x["place"], r),
        y,
    )
    speeds = np.tril(np.ones((4, 4))) @ np.diag([1.0, q, q, q])
    places = np.tril(np.ones((4, 4)), -1) @ speeds
    means = np.concatenate([np.arange(4.0), np.ones(4)])
    root = np.concatenate([places, speeds])
    cross, total = root @ places.T, places @ places.T + r**2 * np.eye(4)
    surprise = y - means[:4]
    exact = means + cross @ np.linalg.solve(total, surprise)
    spread = np.diag(root @ root.T - cross @ np.linalg.solve(total, cross.T))
    log_z = -0.5 * (surprise @ np.linalg.solve(total, surprise) + np.linalg.slogdet(total)[1] + 4 * np.log(2 * np.pi))
    for in_parallel in (False, True):
        found = gaussian_filter(model, in_parallel=in_parallel)
        assert found.names == ["place", "speed"] and found.log_z == pytest.approx(log_z, abs=1e-9)
        np.testing.assert_allclose(found.smoothed_mean.T.ravel(), exact, atol=1e-9)
        np.testing.assert_allclose(found.sd(smoothed=True).T.ravel() ** 2, spread, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("transform", [False, True])
def test_ensembles_tend_to_kalman(transform: bool) -> None:
    truth = linear_gaussian.example()
    model, exact = truth.state_space(the_data(), "bootstrap", missing="skip"), truth.posterior(the_data())
    many = ensemble_filter(jax.random.key(0), model, num_members=600, transform=transform)
    few = ensemble_filter(jax.random.key(0), model, num_members=4, transform=transform)
    sd = np.sqrt(np.diagonal(exact.covariance, axis1=1, axis2=2))
    far = lambda found: np.sqrt(np.mean(((found.mean - exact.mean) / sd) ** 2))  # noqa: E731
    assert far(many) < 0.1 < far(few)
    np.testing.assert_allclose(many.covariance, exact.covariance, atol=0.05)
    np.testing.assert_allclose(many.smoothed_mean, exact.smoothed_mean, atol=0.1)
    assert many.log_z == pytest.approx(exact.log_z, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("way", [True, smcinfer.GaussSeidelJacobi(num_blocks=3)])
def test_a_bent_recursion_at_all_steps_at_once(way: Any, x64: None) -> None:
    """A filter whose moments come by a derivative, and the same by iterations on all of them."""
    data = np.asarray([0.4, -0.2, np.nan, 0.7, 1.1, 0.3, -0.6, 0.2, 0.9])
    model = state_space(
        dist.Normal(0.0, 1.0),
        lambda t, x: dist.Normal(0.5 * x + jnp.sin(x), 0.5),
        lambda t, x: dist.Normal(x + 0.1 * x**2, 0.4),
        data,
        missing="skip",
    )
    loop, found = (gaussian_filter(model, method="extended", in_parallel=how) for how in (False, way))
    np.testing.assert_allclose(found.log_z_increments, loop.log_z_increments, atol=1e-8)
    np.testing.assert_allclose(found.smoothed_mean, loop.smoothed_mean, atol=1e-8)
    assert found.settings["iterations"] <= 9 and found.settings["error"] < 1e-9 and found.status == Status.OK
    assert "iterations" in str(found) and "iterations" not in str(loop)
    short = gaussian_filter(model, method="extended", in_parallel=smcinfer.DEER(max_iterations=1))
    assert short.status == Status.SCHEDULE_UNFINISHED and abs(short.log_z - loop.log_z) > 1e-6


def ar_data() -> np.ndarray:
    return np.asarray([0.4, -0.2, 0.7, 1.1, 0.3, -0.6])


def ar(a: Any, data: Any = None) -> smcinfer.StateSpace:
    parts: Any = (dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(a * x, 0.5), lambda t, x: dist.Normal(x, 0.4))
    return state_space(*parts, ar_data() if data is None else data)


def exact_log_likelihood(a: float) -> float:
    model = linear_gaussian.linear_gaussian([0.0], [[1.0]], [[a]], [[0.25]], [[1.0]], [[0.16]])
    return model.posterior(ar_data()[:, None]).log_z


@pytest.mark.slow
def test_the_likelihood_and_its_slope(x64: None) -> None:
    value, slope = jax.value_and_grad(lambda a: log_likelihood(ar(a)))(0.6)
    assert value == pytest.approx(exact_log_likelihood(0.6), abs=1e-9)
    difference = (exact_log_likelihood(0.6 + 1e-5) - exact_log_likelihood(0.6 - 1e-5)) / 2e-5
    assert slope == pytest.approx(difference, abs=1e-5)
    parallel = jax.grad(lambda a: log_likelihood(ar(a), in_parallel=True))(0.6)
    assert parallel == pytest.approx(difference, abs=1e-5)


@pytest.mark.slow
def test_parameters_by_tempering_with_kalmans_likelihood() -> None:
    target = smcinfer.posterior(dist.Uniform(0.0, 1.0), lambda a: log_likelihood(ar(a)))
    result = smcinfer.sample(
        jax.random.key(2), target, num_particles=256, num_runs=4, kernel="random_walk", progress=False
    )
    grid = (np.arange(200) + 0.5) / 200
    values = np.array([exact_log_likelihood(a) for a in grid])
    exact = np.logaddexp.reduce(values) - np.log(grid.size)
    low, high = result.log_z_interval(0.9999)
    assert low < exact < high and high - low < 1.0
    weights = np.exp(values - np.logaddexp.reduce(values))
    mean, error = result.expectation("theta", with_se=True)
    assert abs(mean - weights @ grid) < 8 * error + 0.01


@pytest.mark.parametrize("method", ["extended", "unscented"])
def test_a_gaussian_guide_is_the_best_of_a_linear_model(method: str, x64: None) -> None:
    truth = linear_gaussian.example()
    exact: Any = truth.state_space(np.zeros((2, 2))).proposal
    t, x, y = jnp.asarray(1), jnp.array([0.3, -1.0]), jnp.array([1.0, 0.5])
    best = exact.guide.function(t, x, y)
    found = gaussian_guide(truth.transition, truth.observation, method=method)(t, x, y)
    np.testing.assert_allclose(found.mean, best.mean, rtol=1e-7)
    np.testing.assert_allclose(found.covariance_matrix, best.covariance_matrix, rtol=1e-6)
    plain = truth.transition(t, x)
    assert np.abs(found.mean - plain.mean).max() > 0.1


@pytest.mark.slow
def test_a_guided_filter_of_a_model_that_bends() -> None:
    start, move = dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(0.9 * x, 1.0)
    look = lambda t, x: dist.Normal(x + 0.02 * x**2, 0.1)  # noqa: E731
    data = np.array([0.3, 1.0, -0.4, 0.8])
    plain = state_space(start, move, look, data)
    guided = state_space(start, move, look, data, proposal=gaussian_guide(move, look))
    runs = {
        name: smcinfer.run(jax.random.key(0), model, 256, num_runs=100)
        for name, model in (("plain", plain), ("guided", guided))
    }
    spread = {name: np.std(np.asarray(done.log_z)[np.isfinite(done.log_z)]) for name, done in runs.items()}
    assert spread["guided"] < 0.7 * spread["plain"]
    means = {name: np.exp(np.asarray(done.log_z, np.float64)) for name, done in runs.items()}
    error = np.sqrt(sum(np.var(each) / each.size for each in means.values()))
    assert abs(means["plain"].mean() - means["guided"].mean()) < 5 * error
    with pytest.raises(TargetError, match="one number or one vector"):
        gaussian_guide(move, look)(jnp.asarray(1), {"a": jnp.zeros(())}, jnp.zeros(()))
    with unchecked(), pytest.raises(ArgumentError, match="method is unknown"):
        gaussian_guide(move, look, method="square")


def test_moments_of_laws() -> None:
    law = {"a": dist.MultivariateNormal(jnp.ones((2, 2)), jnp.array([[2.0, 0.5], [0.5, 1.0]])), "b": dist.Poisson(3.0)}
    found = law_moments(law)
    np.testing.assert_allclose(found.mean, [1, 1, 1, 1, 3])
    block = np.array([[2.0, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(found.covariance[:4, :4], np.kron(np.eye(2), block))
    assert found.covariance[4, 4] == 3.0 and np.all(found.covariance[4, :4] == 0)


def test_a_record_is_kept_whole(tmp_path: Path) -> None:
    found = gaussian_filter(ar(0.5))
    read = smcinfer.load(found.save(tmp_path / "g.nc"))
    np.testing.assert_array_equal(read.smoothed_mean, found.smoothed_mean)
    assert "kalman" in str(read) and read.of("x") == 0 and read.log_z == found.log_z
    with pytest.raises(ArgumentError, match="unknown entry"):
        read.of("z")


def test_a_filter_that_diverges_says_so() -> None:
    """At zero the observation says nothing, and the transition triples what is not known: 3^100 is no number in float32."""
    move, look = lambda t, x: dist.Normal(3.0 * x, 1.0), lambda t, x: dist.Normal(x**2, 1.0)
    grows = state_space(dist.Normal(0.0, 1.0), move, look, [1.0] * 100)
    found = gaussian_filter(grows, method="extended")
    assert found.status is Status.DIVERGED and found.serious and "DIVERGED" in str(found)
    assert gaussian_filter(ar(0.5)).status is Status.OK


def test_what_is_refused() -> None:
    volatility = StochasticVolatility().state_space(np.zeros(3))
    with pytest.raises(TargetError, match="observation is not linear(.|\n)*varies"):
        gaussian_filter(volatility)
    counted = state_space(
        dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(x, 1.0), lambda t, x: dist.Poisson(jnp.exp(x)), [1, 2]
    )
    with pytest.raises(TargetError, match="observation is not Gaussian"):
        gaussian_filter(counted)
    bent = state_space(
        dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(jnp.sin(x), 1.0), lambda t, x: dist.Normal(x, 1.0), [1.0]
    )
    with pytest.raises(TargetError, match="transition is not linear(.|\n)*bends"):
        gaussian_filter(bent)
    assert np.isfinite(gaussian_filter(counted, method="unscented").log_z)
    chain = finite_chain()
    with pytest.raises(TargetError, match="states of real numbers"):
        gaussian_filter(chain.state_space(np.asarray(chain.simulate(jax.random.key(0), 3)[1])), method="extended")
    with unchecked(), pytest.raises(ArgumentError, match="method is unknown"):
        gaussian_filter(bent, method="square")
    with unchecked(), pytest.raises(ArgumentError, match="in_parallel"):
        gaussian_filter(bent, method="extended", in_parallel="DEER")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TargetError, match="no data"):
        gaussian_filter(StochasticVolatility().state_space(None), method="extended")
