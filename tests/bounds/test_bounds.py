"""The sandwich of bounds, on models whose log Z is known."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

from smcinfer import bounds
from smcinfer.core import resampling
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels import HMC, RandomWalk
from smcinfer.paths import Exponents, Moves
from smcinfer.run.runner import run
from smcinfer.state_space import StateSpace, simulate, state_space
from smcinfer.static import StaticTarget, posterior
from smcinfer.static.conditional import Choices, ConditionalTempering
from smcinfer.static.methods import Tempering
from smcinfer.static.tempering import TemperingPath
from tests import exact_models, exact_paths
from tests.static.test_static import DATA, DIM, NOISE, conjugate, exact_log_z, exact_mean
from tests.statistics import assert_mean_one_log, assert_within
from tests.synthetic import make_sandwich

PATH = Exponents(jnp.asarray([0.05, 0.3, 1.0]))


def exact_draw(key: jax.Array) -> jax.Array:
    """The conjugate posterior."""
    return exact_mean() + (1 + len(DATA) / NOISE**2) ** -0.5 * jax.random.normal(key, (DIM,))


def wrong_draw(key: jax.Array) -> jax.Array:
    """A draw of the prior."""
    return jax.random.normal(key, (DIM,))


def conditional_runs(scheme: str, draw, num_runs: int) -> jax.Array:  # noqa: ANN001
    """log Z_hat of runs of eight particles through ``draw``."""
    kernel = RandomWalk()
    model = TemperingPath(conjugate(), kernel, schedule=PATH, moves=Moves.exactly(2), record_params=True)
    forward = run(jax.random.key(0), model, 64, resample_below=1.0)
    choices = Choices.of(forward.history, 3)
    conditional = ConditionalTempering(conjugate(), kernel, choices, draw, 3)
    return run(jax.random.key(1), conditional, 8, num_runs=num_runs, resampling=scheme, resample_below=1.0).log_z


# The conditional schemes themselves are tried on paths (test_conditional.py); here they meet tempering.
@pytest.mark.slow
@pytest.mark.parametrize(
    "scheme",
    [
        scheme if scheme == "systematic" else pytest.param(scheme, marks=pytest.mark.slow)
        for scheme in resampling.SCHEMES
    ],
)
def test_reciprocal_is_unbiased_through_an_exact_draw(scheme: str) -> None:
    """E_sigma[Z / Z_hat] = 1 for every conditional scheme."""
    assert_mean_one_log(-conditional_runs(scheme, exact_draw, 1500), -exact_log_z())


@pytest.mark.slow
def test_a_draw_that_is_not_exact_is_caught() -> None:
    with pytest.raises(AssertionError):
        assert_mean_one_log(-conditional_runs("systematic", wrong_draw, 1500), -exact_log_z())


@pytest.mark.slow
def test_sandwich_holds_log_z(precision: str) -> None:
    both = bounds.sandwich(jax.random.key(2), conjugate(), exact_draw, num_particles=64, num_runs=32)
    low, high = both.interval()
    assert low < exact_log_z() < high
    assert both.gap < 1.0 and not both.crossed
    assert "upper bound" in str(both) and "CROSSED" not in str(both)


@pytest.mark.slow
def test_named_draws_and_bad_ones() -> None:
    both = bounds.sandwich(
        jax.random.key(3),
        conjugate(),
        lambda key: {"theta": exact_draw(key)},
        num_particles=64,
        num_runs=4,
        kernel=HMC(),
    )
    assert np.isfinite(both.interval()).all()
    with pytest.raises(TargetError, match="shape"):
        bounds.sandwich(jax.random.key(3), conjugate(), lambda key: jnp.zeros(3))
    with pytest.raises(ArgumentError, match="num_runs"):
        bounds.sandwich(jax.random.key(3), conjugate(), exact_draw, num_runs=1)


def test_crossed_bounds_say_so() -> None:
    crossed = make_sandwich(lower_runs=np.array([1.0, 1.01, 0.99]), upper_runs=np.array([0.0, 0.01, -0.01]))
    assert crossed.crossed and "CROSSED" in str(crossed)


STEPS = 6
FAMILY_LEVEL = 1 - 2e-5
"""Level of an interval that is checked for many seeds."""


def gaussian_kl(mean: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """KL between Gaussians whose means differ by ``mean``, with these covariances."""
    inverse = np.linalg.inv(second)
    logs = np.linalg.slogdet(second)[1] - np.linalg.slogdet(first)[1]
    return float(0.5 * (np.trace(inverse @ first) + mean @ inverse @ mean - len(mean) + logs))


def test_paths_bounds_hold_log_z_and_divergences_are_exact() -> None:
    """The bootstrap proposal without resampling is the prior of the path: a Gaussian, as the target is."""
    draw = exact_paths.draw_walk_path(STEPS)
    both = bounds.sandwich(jax.random.key(4), exact_paths.walk(STEPS), draw, num_particles=32, num_runs=400)
    low, high = both.interval(FAMILY_LEVEL)
    assert low < exact_paths.walk_log_z(STEPS) < high
    assert both.lower[0] < exact_paths.walk_log_z(STEPS) < both.upper[0]
    mean, covariance = exact_paths.walk_posterior(STEPS)
    prior = exact_paths.walk_prior(STEPS)
    for found, exact in [
        (both.kl_proposal_target, gaussian_kl(mean, prior, covariance)),
        (both.kl_target_proposal, gaussian_kl(mean, covariance, prior)),
    ]:
        assert found is not None and found[1] < 0.4
        assert_within(found[0], exact, found[1])
    assert "KL(q||target)" in str(both) and "KL(target||q)" in str(both)


def path_seeds(count: int) -> int:
    """In how many of that many seeds both ends of the twisted chain's sandwich hold log Z."""
    model, exact = exact_models.hmm("twisted"), exact_models.hmm_log_z()
    held = 0
    for seed in range(count):
        both = bounds.sandwich(
            jax.random.key(seed), model, exact_paths.draw_hmm_path, num_particles=16, num_runs=16, resample_below=1.0
        )
        low, high = both.interval(FAMILY_LEVEL)
        held += low < exact < high and not both.crossed
    return held


@pytest.mark.slow
def test_sandwich_holds_for_every_seed() -> None:
    assert path_seeds(6) == 6


@pytest.mark.slow
def test_sandwich_of_paths_holds_for_a_hundred_seeds() -> None:
    assert path_seeds(100) == 100


@pytest.mark.slow
def test_sandwich_of_tempering_holds_for_a_hundred_seeds() -> None:
    target, exact = conjugate(), exact_log_z()
    for seed in range(100):
        # Every seed compiles its own path back, and hundreds of programs alive at once have crashed the process.
        jax.clear_caches()
        both = bounds.sandwich(jax.random.key(seed), target, exact_draw, num_particles=64, num_runs=16)
        low, high = both.interval(FAMILY_LEVEL)
        assert low < exact < high and not both.crossed


@pytest.mark.slow
def test_a_path_that_is_not_exact_gives_no_upper_bound() -> None:
    wrong = lambda key: 3.0 * jax.random.normal(key, (STEPS + 1,))  # noqa: E731
    both = bounds.sandwich(jax.random.key(5), exact_paths.walk(STEPS), wrong, num_particles=4, num_runs=400)
    right = bounds.sandwich(
        jax.random.key(5), exact_paths.walk(STEPS), exact_paths.draw_walk_path(STEPS), num_particles=4, num_runs=400
    )
    assert both.upper[0] < right.upper[0] - 4 * np.hypot(both.upper[1], right.upper[1])


@pytest.mark.slow
def test_simulated_data_bring_their_own_exact_draw() -> None:
    """The interval from one exact draw holds log Z of the data that were made from it."""
    parts = (
        dist.Normal(0.0, 1.0),
        lambda t, x: dist.Normal(exact_paths.A * x, exact_paths.Q),
        lambda t, x: dist.Normal(x, exact_paths.R),
    )
    seen = []

    def build(data: jax.Array) -> StateSpace:
        seen.append(np.asarray(data, np.float64))
        return state_space(*parts, data)

    both = bounds.bidirectional(
        jax.random.key(7), lambda key: simulate(key, *parts, STEPS), build, num_particles=32, num_runs=16
    )
    low, high = both.interval()
    assert low < exact_paths.gaussian_log_z(seen[0]) < high
    assert both.one_draw and not both.crossed and "one exact draw" in str(both)
    assert both.kl_target_proposal is None and "KL(target||q)" not in str(both)


def test_targets_without_bounds_are_refused() -> None:
    with pytest.raises(TargetError, match="kind of target"):
        bounds.sandwich(jax.random.key(0), lambda x: x, exact_draw)
    with pytest.raises(ArgumentError, match="resample_below"):
        bounds.sandwich(jax.random.key(0), conjugate(), exact_draw, resample_below=0.5)
    for method in (Tempering(led=False), Tempering(chain_length=8), "data_annealing"):
        with pytest.raises(ArgumentError, match="walked back"):
            bounds.sandwich(jax.random.key(0), conjugate(), exact_draw, method=method)
    for option in ({"kernel": "hmc"}, {"method": "tempering"}):
        with pytest.raises(ArgumentError, match=f"takes no {next(iter(option))}"):
            bounds.sandwich(jax.random.key(0), exact_models.hmm("twisted"), exact_paths.draw_hmm_path, **option)


@pytest.mark.slow
def test_simulated_parameters_bring_their_own_exact_draw() -> None:
    """Bidirectional Monte Carlo on conjugate targets, whose evidence is known for any data."""
    prior = dist.Normal(0.0, 1.0)
    held = 0
    for seed in range(20):
        seen = []

        def build(data: jax.Array, seen: list = seen) -> StaticTarget:
            seen.append(np.asarray(data, np.float64))
            return posterior(prior, lambda theta: dist.Normal(theta, 1.0).log_prob(data).sum())

        def draw(key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
            theta_key, noise_key = jax.random.split(key)
            theta = prior.sample(theta_key)
            return {"theta": theta}, theta + jax.random.normal(noise_key, (5,))

        both = bounds.bidirectional(
            jax.random.key(seed), draw, build, num_particles=32, num_runs=4, kernel="random_walk"
        )
        covariance = np.eye(5) + 1.0
        exact = scipy.stats.multivariate_normal(np.zeros(5), covariance).logpdf(seen[0])
        low, high = both.interval(FAMILY_LEVEL)
        held += low < exact < high and both.one_draw
    assert held == 20
