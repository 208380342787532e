"""Tempering, data annealing and waste-free sampling against closed-form evidence."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels import HMC, RandomWalk
from smcinfer.paths import ESS, ConditionalESS, Exponents, Moves
from smcinfer.paths.schedules import by_name
from smcinfer.run.runner import run
from smcinfer.static import StaticTarget, log_density, posterior
from smcinfer.static.methods import DataAnnealing, Tempering
from tests.statistics import assert_error_bars, assert_mean, assert_mean_one_log, assert_weighted_mean

DATA = np.array([0.7, 1.9, -0.4, 1.1, 2.3, 0.2])
NOISE = 0.8
DIM = 2


def exact_log_z(count: int = len(DATA)) -> float:
    """Evidence of independent coordinates x_j ~ N(0, 1), y_i ~ N(x_j, NOISE^2) for the first ``count`` data."""
    y = DATA[:count]
    covariance = NOISE**2 * np.eye(count) + 1.0
    _, log_det = np.linalg.slogdet(2 * np.pi * covariance)
    return float(DIM * (-0.5 * log_det - 0.5 * y @ np.linalg.solve(covariance, y)))


def exact_mean() -> float:
    """Posterior mean of each coordinate."""
    return float(DATA.sum() / (len(DATA) + NOISE**2))


def conjugate() -> StaticTarget:
    """The target, its data given one by one."""

    def log_likelihood(x, y):  # noqa: ANN001, ANN202
        return dist.Normal(x, NOISE).log_prob(y).sum()

    return posterior(dist.Normal(0.0, 1.0).expand([DIM]).to_event(1), log_likelihood, data=jnp.asarray(DATA))


PATH = Exponents(jnp.asarray([0.02, 0.1, 0.3, 1.0]))
STEPS = Moves(2, 2, 0.0)


@pytest.mark.dealt
@pytest.mark.parametrize("kernel", [RandomWalk(), HMC()], ids=["random_walk", "hmc"])
def test_led_runs_are_unbiased(kernel, precision: str) -> None:  # noqa: ANN001
    """Few particles and few steps: any bias of the order of 1/N would show."""
    model = Tempering(ESS(0.5), moves=Moves(3, 1, 0.5)).model(conjugate(), kernel)
    done = run(jax.random.key(1), model, 16, num_runs=1500, resample_below=1.0)
    assert done.log_z.shape == (1500,)
    assert done.log_z.dtype == precision
    assert_mean_one_log(done.log_z, exact_log_z())
    weighted = jnp.exp(done.log_z - exact_log_z()) * jnp.mean(done.particles.position, axis=(1, 2))
    assert_mean(weighted, exact_mean())


@pytest.mark.slow
def test_adaptation_is_biased_with_few_particles() -> None:
    """The negative control of the test above: a run that chooses by its own particles pays for it."""
    model = Tempering(moves=Moves(3, 1, 0.5), led=False).model(conjugate(), HMC())
    done = run(jax.random.key(1), model, 6, num_runs=1500, resample_below=1.0)
    with pytest.raises(AssertionError):
        assert_mean_one_log(done.log_z, exact_log_z())


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [ESS(0.5), ConditionalESS(0.9), ConditionalESS(0.5, 0.3), PATH])
def test_every_schedule_ends_and_agrees(schedule) -> None:  # noqa: ANN001
    done = run(
        jax.random.key(2),
        Tempering(schedule).model(conjugate(), HMC()),
        256,
        num_runs=16,
        resample_below=schedule.resample_below,
    )
    assert_mean_one_log(done.log_z, exact_log_z())
    assert (np.asarray(done.status) == 0).all()
    exponents = done.history["exponent"]
    for r in range(16):
        path = exponents[r, : int(done.num_steps[r]) + 1]
        assert path[0] == 0 and path[-1] == 1 and (np.diff(path) > 0).all()
    weights, offset = (
        np.exp(np.asarray(done.log_weights))[..., None],
        np.asarray(done.particles.position) - exact_mean(),
    )
    for power, moment in ((1, 0.0), (2, 1 / (1 + len(DATA) / NOISE**2))):
        assert_weighted_mean(done.log_z, exact_log_z(), (weights * offset**power).sum(axis=1), moment)


@pytest.mark.slow
def test_waste_free_is_unbiased_and_uses_every_state() -> None:
    model = Tempering(PATH, chain_length=8).model(conjugate(), RandomWalk())
    done = run(jax.random.key(3), model, 64, num_runs=1500, resample_below=1.0)
    assert_mean_one_log(done.log_z, exact_log_z())
    assert done.particles.position.shape == (1500, 64, DIM)
    with pytest.raises(ArgumentError, match="multiple"):
        run(jax.random.key(3), model, 63)


@pytest.mark.slow
def test_waste_free_error_bar_knows_that_chains_are_dependent() -> None:
    """Chains that hardly move: counting their states as independent would be far too bold."""
    sticky = Tempering(PATH, chain_length=32).model(conjugate(), RandomWalk(target_acceptance=0.99))
    done = run(jax.random.key(4), sticky, 512, num_runs=200, resample_below=1.0, lag=3)
    told = all(Status(int(bits)) & Status.MOVES_TOO_SHORT for bits in done.status)
    if not told:
        assert_error_bars(done.log_z, done.log_z_variance, exact_log_z())


@pytest.mark.slow
def test_data_annealing_gives_every_partial_evidence() -> None:
    model = DataAnnealing(moves=Moves(30, 1, 0.1)).model(conjugate(), RandomWalk())
    done = run(jax.random.key(5), model, 512, num_runs=16)
    exact = [exact_log_z(count) if count else 0.0 for count in range(len(DATA) + 1)]
    assert_mean_one_log(done.history["log_z_increment"].cumsum(axis=1), exact)
    weights = np.exp(np.asarray(done.log_weights))[..., None]
    mean = (weights * np.asarray(done.particles.states.position)).sum(axis=1)
    assert_weighted_mean(done.log_z, exact_log_z(), mean, exact_mean())
    # Moves, and so passes over all data, happen only where the particles were resampled.
    moved = done.history["num_move_steps"] > 0
    np.testing.assert_array_equal(moved, done.history["resampled"])
    assert moved.any() and not moved.all()


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_data_annealing_in_batches(batch_size: int) -> None:
    model = DataAnnealing(batch_size=batch_size).model(conjugate(), HMC())
    done = run(jax.random.key(6), model, 256, num_runs=16)
    assert_mean_one_log(done.log_z, exact_log_z())
    assert done.num_steps[0] == -(-len(DATA) // batch_size)


@pytest.mark.slow
def test_an_acceptance_tunes_once_however_many_data_come_before_the_next_moves() -> None:
    """Forty data, moves after two of them: a step that grew at every one between would end at its bounds."""
    target = posterior(
        dist.Normal(0.0, 1.0), lambda x, y: dist.Normal(x, 1.0).log_prob(y), data=jnp.linspace(-2.0, 3.0, 40)
    )
    done = run(jax.random.key(8), DataAnnealing().model(target, HMC()), 128, num_runs=2)
    assert (np.asarray(done.status) == 0).all()
    assert np.nansum(done.history["num_evals"], axis=1).max() < 100
    acceptance = np.asarray(done.history["acceptance"])
    assert (np.isfinite(acceptance).sum(axis=1) >= 2).all() and np.nanmin(acceptance) > 0.8


def test_data_annealing_needs_data() -> None:
    target = posterior(dist.Normal(0.0, 1.0), lambda x: -(x**2))
    with pytest.raises(TargetError, match="sum over data"):
        DataAnnealing().model(target, RandomWalk())
    with pytest.raises(ArgumentError, match="batch_size"):
        DataAnnealing(batch_size=7).model(conjugate(), RandomWalk())


@pytest.mark.slow
def test_half_the_base_outside_the_support_does_not_freeze_the_path() -> None:
    """log Z of an indicator is the log of its mass, and the ESS rule must not wait for the dead."""
    target = posterior(dist.Normal(0.0, 1.0), lambda x: jnp.where(x > 0.5, -2.0 * x, -jnp.inf))
    done = run(jax.random.key(7), Tempering().model(target, RandomWalk()), 512, num_runs=16, resample_below=1.0)
    exact = np.log(np.exp(2.0) * (1 - float(jax.scipy.stats.norm.cdf(2.5))))
    assert_mean_one_log(done.log_z, exact)
    assert (np.asarray(done.particles.position) > 0.5).all()
    assert (np.asarray(done.num_steps) < 10).all()


@pytest.mark.slow
def test_nan_region_is_never_entered_and_shows_in_the_status() -> None:
    target = log_density(lambda x: jnp.where(x > 1.0, jnp.nan, -0.5 * x**2), dist.Normal(0.0, 2.0))
    done = run(jax.random.key(8), Tempering().model(target, HMC()), 256, num_runs=16, resample_below=1.0)
    assert np.isfinite(np.asarray(done.log_z)).all()
    assert (np.asarray(done.particles.position) <= 1.0).all()
    assert all(Status(int(bits)) == Status.NON_FINITE_POTENTIAL for bits in done.status)
    exact = 0.5 * np.log(2 * np.pi) + np.log(float(jax.scipy.stats.norm.cdf(1.0)))
    assert_mean_one_log(done.log_z, exact)


@pytest.mark.slow
def test_nowhere_positive_is_a_status() -> None:
    target = posterior(dist.Normal(0.0, 1.0), lambda x: jnp.where(x > 1e6, 0.0, -jnp.inf))
    done = run(jax.random.key(9), Tempering().model(target, RandomWalk()), 64, num_runs=2, resample_below=1.0)
    assert (np.asarray(done.log_z) == -np.inf).all()
    assert all(Status(int(bits)) & Status.ALL_WEIGHTS_ZERO for bits in done.status)
    assert not any(np.isnan(np.asarray(leaf)).any() for leaf in jax.tree.leaves(done.particles))


@pytest.mark.slow
def test_a_path_that_runs_out_of_steps_says_so() -> None:
    model = Tempering(ESS(0.9), max_steps=2).model(conjugate(), RandomWalk())
    done = run(jax.random.key(10), model, 256, num_runs=2, resample_below=1.0)
    assert all(Status(int(bits)) & Status.SCHEDULE_UNFINISHED for bits in done.status)
    assert (done.history["exponent"][:, -1] < 1).all()


@pytest.mark.slow
def test_moves_that_do_not_mix_say_so() -> None:
    """Two far modes: no random walk of five steps forgets which one it started in."""
    target = posterior(dist.Normal(0.0, 10.0), lambda x: jnp.logaddexp(-50.0 * (x - 9.0) ** 2, -50.0 * (x + 9.0) ** 2))
    done = run(
        jax.random.key(11), Tempering(moves=Moves(5)).model(target, RandomWalk()), 512, num_runs=2, resample_below=1.0
    )
    assert all(Status(int(bits)) & Status.MOVES_TOO_SHORT for bits in done.status)


@pytest.mark.slow
def test_the_number_of_moves_follows_the_mixing() -> None:
    far, near = (
        run(
            jax.random.key(12),
            Tempering(moves=Moves(200, 1, rho), led=False).model(conjugate(), RandomWalk()),
            1024,
            resample_below=1.0,
        )
        for rho in (0.05, 0.6)
    )
    last = int(far.num_steps[0])
    assert far.history["num_move_steps"][0, 1 : last + 1].mean() > 2 * near.history["num_move_steps"][0, 1:].mean()
    assert far.history["autocorrelation"][0, 1 : last + 1].max() < 0.05


@pytest.mark.parametrize("bad", [[0.5, 0.2, 1.0], [0.0, 1.0], [0.2, 0.9], [], "linear", [0.5, 0.5, 1.0]], ids=str)
def test_bad_schedules_are_refused(bad) -> None:  # noqa: ANN001
    with pytest.raises(ArgumentError, match="schedule"):
        by_name(bad)


def test_bad_numbers_are_refused() -> None:
    for build in (lambda: ESS(1.0), lambda: ConditionalESS(0.0), lambda: Moves(0), lambda: Moves(5, 1, 1.0)):
        with pytest.raises(ArgumentError):
            build()
    with pytest.raises(ArgumentError, match="chain_length"):
        Tempering(chain_length=1)
