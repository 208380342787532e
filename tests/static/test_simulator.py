"""Inference by simulation against closed forms: log Z is a probability, the draws have the law at the tolerance."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import smcinfer
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.static.simulator import simulator
from tests.signatures import unchecked
from tests.statistics import assert_mean, assert_mean_one_log

Y, TOLERANCE = 1.3, 0.5
MOVES = smcinfer.Moves(6, 1, 0.5)


def simulate(key: Any, theta: Any) -> Any:
    return theta + jax.random.normal(key)


def apart(simulated: Any, data: Any) -> Any:
    return jnp.abs(simulated - data)


def exact_log_z(tolerance: float = TOLERANCE) -> float:
    """Log of P(|s - Y| <= tolerance) with s ~ N(0, 2)."""
    law = scipy.stats.norm(0.0, np.sqrt(2.0))
    return float(np.log(law.cdf(Y + tolerance) - law.cdf(Y - tolerance)))


def exact_moment(power: int, tolerance: float = TOLERANCE) -> float:
    """E[theta^k | |s - Y| <= tolerance] by quadrature."""
    theta = np.linspace(-8.0, 8.0, 20_001)
    near = scipy.stats.norm.cdf(Y + tolerance - theta) - scipy.stats.norm.cdf(Y - tolerance - theta)
    density = scipy.stats.norm.pdf(theta) * near
    return float(np.sum(theta**power * density) / np.sum(density))


@pytest.mark.dealt
@pytest.mark.parametrize(("num_simulations", "double"), [(1, False), (4, True)])
def test_log_z_and_draws_are_those_of_the_tolerance(num_simulations: int, double: bool) -> None:
    with jax.enable_x64(double):
        check_a_tolerance(num_simulations, "float64" if double else "float32")


def check_a_tolerance(num_simulations: int, precision: str) -> None:
    target = simulator(
        dist.Normal(0.0, 1.0), simulate, Y, distance=apart, tolerance=TOLERANCE,
        num_simulations=num_simulations, moves=MOVES,
    )  # fmt: skip
    result = smcinfer.sample(jax.random.key(0), target, num_particles=24, num_runs=600, progress=False)
    assert result.log_z_runs.dtype == precision
    assert_mean_one_log(result.log_z_runs, exact_log_z(), num_comparisons=4)
    weights = np.exp(result.log_z_runs - exact_log_z())[:, None] * np.exp(result.log_weights)
    for power in (1, 2):
        weighted = np.sum(weights * result.particles["theta"] ** power, axis=1)
        assert_mean(weighted, exact_moment(power), num_comparisons=4)
    with pytest.raises(AssertionError):
        assert_mean_one_log(result.log_z_runs, exact_log_z() + 0.3)
    with pytest.raises(AssertionError):
        assert_mean(np.sum(weights * result.particles["theta"], axis=1), exact_moment(1, 6.0))
    assert (result.particles["distance"][np.isfinite(result.log_weights)] <= TOLERANCE + 1e-6).all()
    tolerances = result.history["tolerance"]
    assert (np.diff(tolerances[0, : result.num_steps[0] + 1]) < 0).all() and (tolerances == tolerances[:1]).all()
    assert "within the last tolerance" in str(result) and "simulator" in str(result)


@pytest.mark.slow
def test_without_a_tolerance_it_stops_where_moves_are_rare_and_the_posterior_is_near() -> None:
    target = simulator(dist.Normal(0.0, 1.0), simulate, Y, moves=MOVES, least_acceptance=0.1)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=1000, num_runs=2, progress=False)
    last = result.history["tolerance"][0, result.num_steps[0]]
    assert last < 0.6 and not result.status & smcinfer.Status.SCHEDULE_UNFINISHED
    # N(Y / 2, 1 / 2) is the exact posterior.
    assert float(result.expectation("theta")) == pytest.approx(Y / 2, abs=0.1)
    assert result.history["acceptance"][0, result.num_steps[0]] < 0.1


@pytest.mark.slow
def test_a_tolerance_out_of_reach_is_a_status() -> None:
    target = simulator(
        dist.Normal(0.0, 1.0), simulate, Y, distance=apart, tolerance=1e-4, moves=MOVES, least_acceptance=0.2
    )
    result = smcinfer.sample(jax.random.key(0), target, num_particles=100, num_runs=2, progress=False)
    assert result.status & smcinfer.Status.SCHEDULE_UNFINISHED and result.serious


@pytest.mark.slow
def test_simulators_on_the_host_counts_and_failures() -> None:
    """Whole numbers repeat their distances; a simulation that fails is NaN, and far."""

    def events(seed: Any, theta: Any) -> float:
        count = np.random.default_rng(seed).poisson(theta["rate"])
        return np.nan if count > 30 else float(count)

    hosted = smcinfer.on_host(events)
    target = simulator({"rate": dist.Gamma(2.0, 0.2)}, hosted, 4.0, distance=apart, tolerance=0.0, moves=MOVES)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=300, num_runs=4, progress=False)
    # Gamma(2, 0.2) and a Poisson count: the posterior at tolerance zero is Gamma(6, 1.2), the count negative binomial.
    exact = scipy.stats.nbinom(2, 0.2 / 1.2).logpmf(4)
    assert abs(result.log_z - exact) < 5 * result.log_z_se < 1.0
    assert float(result.expectation("rate")) == pytest.approx(5.0, abs=0.5)
    assert hosted.tally.evaluations > 0 and (result.particles["distance"] == 0).all()


def test_summaries_are_put_on_one_scale() -> None:
    def pair(key: Any, theta: Any) -> Any:
        return {"small": theta + jax.random.normal(key, (3,)), "large": 1000.0 * (theta + jax.random.normal(key))}

    target = simulator(
        dist.Normal(0.0, 1.0),
        pair,
        {"small": np.zeros(3), "large": 0.0},
        summaries=lambda data: [data["small"].mean(), data["large"]],
    )
    far = target.distance_of.apart({"small": jnp.ones(3), "large": jnp.asarray(1000.0)}, target.distance_of.data)
    spreads = np.asarray(target.distance_of.apart.spread)
    assert 300 < spreads[1] / spreads[0] < 3000 and float(far) == pytest.approx(
        np.hypot(*(np.array([1, 1000]) / spreads))
    )


WRONG: dict[str, tuple[Any, str]] = {
    "structure": (lambda: simulator(dist.Normal(), simulate, {"y": Y}), "makes other data"),
    "shape": (lambda: simulator(dist.Normal(), simulate, np.zeros(3)), "makes other data"),
    "raises": (lambda: simulator(dist.Normal(), lambda key, theta: theta["a"], Y), "simulate raised"),
    "distance": (lambda: simulator(dist.Normal(), simulate, Y, distance=lambda a, b: jnp.ones(2)), "no scalar"),
    "both": (
        lambda: simulator(dist.Normal(), simulate, Y, distance=apart, summaries=lambda d: d),
        "exclude each other",
    ),
    "missing": (lambda: simulator(dist.Normal(), simulate, np.nan), "missing in data"),
    "no function": (lambda: simulator(dist.Normal(), 3, Y), "simulate is not callable"),
    "tolerance": (lambda: simulator(dist.Normal(), simulate, Y, tolerance=-1.0), "tolerance is out of range"),
    "fraction": (lambda: simulator(dist.Normal(), simulate, Y, fraction=1.0), "fraction is out of range"),
    "num_simulations": (lambda: simulator(dist.Normal(), simulate, Y, num_simulations=0), "num_simulations"),
    "moves": (lambda: simulator(dist.Normal(), simulate, Y, moves=3), "moves is of the wrong kind"),  # pyright: ignore
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused(name: str) -> None:
    call, words = WRONG[name]
    with unchecked(), pytest.raises((ArgumentError, TargetError), match=words):
        call()


def test_kernels_and_methods_are_none_of_its_business() -> None:
    with unchecked(), pytest.raises(ArgumentError, match="takes no kernel"):
        smcinfer.sample(jax.random.key(0), simulator(dist.Normal(), simulate, Y), kernel="hmc", progress=False)
