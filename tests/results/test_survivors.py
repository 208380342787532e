"""A certificate never claims more than counting and rounding allow: one survivor and equal counts are no knowledge."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import smcinfer
from smcinfer.core.status import Status
from smcinfer.results import Evidence
from smcinfer.results.evidence import combine, lower_bound, mean_bound
from smcinfer.results.survivors import NO_FLOOR, Floor, fewest, floor_under, unit_of_rounding
from tests.statistics import FAILURE_RATE
from tests.synthetic import make_result, make_sandwich, two_points

NAN = math.nan


def counted(counts: list[float], num_particles: int) -> Evidence:
    """The evidence of runs in which so many particles fell into a region, and whose genealogies tell nothing."""
    with np.errstate(divide="ignore"):
        log_z = np.log(np.array(counts) / num_particles)
    floor = floor_under(log_z, np.array(counts, np.float64), num_particles, 0.0)
    return combine(log_z, np.full(len(counts), NAN), floor=floor)


class TestByHand:
    """The floor against closed forms."""

    def test_the_interval_is_that_of_clopper_and_pearson(self) -> None:
        found = counted([1, 1], 32)
        law = scipy.stats.binomtest(2, 64).proportion_ci(0.99, method="exact")
        assert found.interval(0.99) == pytest.approx((math.log(law.low), math.log(law.high)))
        assert found.se == pytest.approx(math.sqrt((1 - 2 / 64 + 1 / 64) / 2)) and found.few

    def test_all_survive_is_the_rule_of_three(self) -> None:
        low, high = counted([50, 50], 50).interval(0.9)
        assert high == 0.0 and low == pytest.approx(math.log(0.05) / 100)
        assert counted([50, 50], 50).se == pytest.approx(0.01)
        assert not counted([50, 50], 50).few and counted([49, 49], 50).few

    def test_runs_that_found_nothing_count(self) -> None:
        law = scipy.stats.binomtest(3, 40).proportion_ci(0.99, method="exact")
        low, high = counted([0, 0, 3, 0], 10).interval(0.99)
        # Runs that differ by so much are a witness too: the interval is no narrower than counting says.
        assert low <= math.log(law.low) and high >= math.log(law.high)
        assert floor_under(np.log(np.array([0.3, 0.2])), np.array([3.0, 2.0]), 10, 0.0)[:2] == pytest.approx(
            (5.0, 20.0)
        )

    def test_weights_count_by_their_effective_size_where_they_are_used_up(self) -> None:
        log_weights = np.log(np.array([[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]]))
        history = {
            "ess": np.array([[2.0, 1.2, 2.0], [1.9, 1.8, NAN], [1.1, 2.0, 2.0]]),
            "resampled": np.array([[False, False, True], [False, True, True], [False, False, False]]),
        }
        look_ahead = {"ess": np.array([[2.0, 2.0, 1.3]] * 3), "resampled": np.array([[False, False, True]] * 3)}
        np.testing.assert_allclose(fewest(log_weights, look_ahead, np.array([2, 2, 1])), [1.3, 1 / 0.82, 2.0])
        found = fewest(log_weights, history, np.array([2, 1, 2]))
        np.testing.assert_allclose(found, [1.2, 1 / 0.82, 2.0])
        np.testing.assert_allclose(fewest(log_weights, {}, np.array([2, 1, 2])), [2.0, 1 / 0.82, 2.0])

    def test_runs_count_by_their_share(self) -> None:
        floor = floor_under(np.array([0.0, -50.0]), np.array([3.0, 1000.0]), 1000, 0.0)
        assert floor.survivors == pytest.approx(3.0)
        assert floor_under(np.full(2, -math.inf), np.ones(2), 9, 0.5) == Floor(rounding=0.5)

    def test_many_particles_leave_the_witnesses_alone(self) -> None:
        log_z = np.array([-10.02, -9.99, -10.05, -9.94])
        bare = combine(log_z, np.full(4, 0.002))
        floored = combine(log_z, np.full(4, 0.002), floor=floor_under(log_z, np.full(4, 2048.0), 4096, 1e-6))
        assert floored.interval() == bare.interval() and floored.se == bare.se

    def test_one_unit_of_rounding(self) -> None:
        assert unit_of_rounding(np.array([1e6, math.inf, NAN], np.float32), np.zeros(1)) == 2.0**-4
        assert unit_of_rounding(np.array([1e6])) == 2.0**-33
        assert unit_of_rounding(np.zeros(1, np.float32)) < 1e-40


class TestEqualRuns:
    """Runs that are equal to the last digit are no witness."""

    def test_spread_of_equal_numbers_is_no_error_bar(self) -> None:
        result = two_points([math.log(1 / 16)] * 2, [[1.0] * 16] * 2, [[1.0] + [0.0] * 15] * 2)
        assert result.log_z == pytest.approx(-math.log(16)) and result.log_z_se == pytest.approx(0.698, abs=0.02)
        assert result.lower_bound.se == pytest.approx(result.log_z_se)
        low, high = result.log_z_interval()
        assert low < -5 and high > -2.43
        assert result.status == Status.FEW_SURVIVORS and "FEW_SURVIVORS" in str(result)
        assert "± 0.70" in str(result) and "equal tell nothing" in result.evidence.source

    def test_what_runs_say_of_themselves_stays_a_witness(self) -> None:
        log_z, floor = np.full(4, -3.0), Floor(400.0, 4000.0)
        found = combine(log_z, np.full(4, 0.02), floor=floor)
        assert found.se == pytest.approx(math.sqrt(0.005)) and found.degrees == 32 and not found.disagree
        assert lower_bound(log_z, np.full(4, 0.02), floor=floor).se == pytest.approx(math.sqrt(math.log(1.02) / 4))

    def test_nothing_known_is_said(self) -> None:
        assert math.isnan(combine(np.full(3, -1.0), np.full(3, NAN)).se)
        assert math.isnan(mean_bound(np.full(3, -1.0)).se)

    def test_both_ends_of_a_sandwich(self) -> None:
        equal = np.full(3, -2.0)
        both = make_sandwich(
            num_particles=10, lower_runs=equal, upper_runs=equal, lower_fewest=np.ones(3), upper_fewest=np.ones(3)
        )
        assert both.lower.se > 0.5 and both.upper.se > 0.5 and not both.crossed
        low, high = both.interval()
        assert low < -4 and high > -1

    def test_close_runs_do_not_make_a_narrow_lower_bound(self) -> None:
        result = make_result(2, 5000, log_z_runs=np.array([-5.0, -5.0004]), log_z_variance=np.full(2, 0.02))
        assert result.lower_bound.se == pytest.approx(result.log_z_se, rel=0.05)
        assert result.log_z_se > 0.05


def simulated(share: float, num_particles: int, num_runs: int, steps: int, *, floored: bool) -> list[bool]:
    """Whether 99% intervals for the probability of surviving some thresholds in a row hold it, over many replicates."""
    rng, held = np.random.default_rng(11), []
    for _ in range(1500):
        counts = rng.binomial(num_particles, share, (num_runs, steps))
        with np.errstate(divide="ignore", invalid="ignore"):
            log_z = np.log(counts / num_particles).sum(axis=1)
            own = (1 / counts - 1 / num_particles).sum(axis=1)
        # A genealogy tells no variance above one half.
        own = np.where(own > 0.5, NAN, own)
        if np.isneginf(log_z).all():
            held.append(True)  # nothing is claimed
            continue
        floor = floor_under(log_z, counts.min(axis=1).astype(np.float64), num_particles, 1e-7) if floored else NO_FLOOR
        low, high = combine(log_z, own, floor=floor).interval()
        held.append(not (steps * math.log(share) < low or steps * math.log(share) > high))
    return held


@pytest.mark.dealt
@pytest.mark.parametrize("share", [0.0385, 0.3, 0.9, 0.99])
@pytest.mark.parametrize(("num_particles", "num_runs", "steps"), [(32, 2, 1), (32, 4, 1), (32, 4, 2), (500, 4, 1)])
def test_intervals_hold_the_truth_however_few_survive(
    share: float, num_particles: int, num_runs: int, steps: int
) -> None:
    held = simulated(share, num_particles, num_runs, steps, floored=True)
    misses = len(held) - sum(held)
    assert scipy.stats.binom.sf(misses - 1, len(held), 0.013) > FAILURE_RATE, f"{misses} of {len(held)} missed"


def test_without_counting_they_do_not() -> None:
    assert np.mean(simulated(0.99, 32, 2, 1, floored=False)) < 0.9


def heavy(rng: np.random.Generator, sigma: float, num_runs: int = 2, num_particles: int = 2000) -> np.ndarray:
    """Log weights of particles that are drawn too narrow: log-normal, their mean one."""
    return sigma * rng.standard_normal((num_runs, num_particles)) - sigma**2 / 2


def weighed(raw: np.ndarray) -> smcinfer.Result:
    """The result of runs whose last step weighed particles so."""
    log_z = np.logaddexp.reduce(raw, axis=1)
    log_weights = raw - log_z[:, None]
    own = np.exp(np.logaddexp.reduce(2 * log_weights, axis=1)) - 1 / raw.shape[1]
    return make_result(
        *raw.shape, log_weights=log_weights, log_z_runs=log_z - math.log(raw.shape[1]), log_z_variance=own, history={}
    )


class TestCollapse:
    """Weights that a few particles carry."""

    @pytest.mark.parametrize(("sigma", "collapsed"), [(3.0, True), (1.5, False), (0.5, False)])
    def test_the_status_says_so(self, sigma: float, collapsed: bool) -> None:
        found = weighed(heavy(np.random.default_rng(1), sigma))
        assert found.status == (Status.WEIGHTS_COLLAPSED if collapsed else Status.OK)
        assert (found.ess.min() < 30) == collapsed and ("WEIGHTS_COLLAPSED" in str(found)) == collapsed

    def test_a_count_says_it_already(self) -> None:
        assert weighed(heavy(np.random.default_rng(1), 5.0)).status == Status.FEW_SURVIVORS

    @pytest.mark.slow
    def test_intervals_of_two_runs_reach_what_was_not_drawn(self) -> None:
        rng, held = np.random.default_rng(7), []
        for _ in range(400):
            found = weighed(heavy(rng, 2.5))
            blind = dataclasses.replace(found.evidence, floor=found.floor._replace(heaviest=math.inf))
            ends = [evidence.interval(0.99) for evidence in (found.evidence, blind)]
            held.append([low <= 0.0 <= high for low, high in ends])
        misses, blind_misses = 400 - np.sum(held, axis=0)
        assert scipy.stats.binom.sf(misses - 1, 400, 0.013) > FAILURE_RATE, f"{misses} of 400 missed"
        assert scipy.stats.binom.sf(blind_misses - 1, 400, 0.013) < FAILURE_RATE, f"{blind_misses} of 400 missed"


def sample(target: object, seed: int, **options: object) -> smcinfer.Result:
    return smcinfer.sample(jax.random.key(seed), target, progress=False, **options)


class TestRuns:
    """Runs whose true log Z is known."""

    @pytest.mark.slow
    def test_one_survivor_of_thirty_two(self) -> None:
        walk = smcinfer.process(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(x, 1.0))
        target = smcinfer.compose(
            walk, lambda t, x: jnp.where(jnp.where(t == 1, x, 3.0) > 2.5, 0.0, -jnp.inf), num_steps=1
        )
        result = sample(target, 2, num_particles=32, num_runs=2)
        truth = scipy.stats.norm.logsf(2.5 / math.sqrt(2))
        assert truth == pytest.approx(-3.256, abs=1e-3)
        low, high = result.log_z_interval()
        assert low < truth < high and low < -5.5 and Status.FEW_SURVIVORS in result.status
        assert min(result.log_z_se, result.lower_bound.se) > 0.4

    @pytest.mark.slow
    def test_a_threshold_in_one_tempering_step(self) -> None:
        target = smcinfer.posterior(dist.Normal(0.0, 1.0), lambda x: jnp.where(x > 2.5, 0.0, -jnp.inf))
        result = sample(target, 0, num_particles=300, num_runs=2, kernel="random_walk")
        low, high = result.log_z_interval()
        assert low < scipy.stats.norm.logsf(2.5) < high and result.lower_bound.se > 0.3
        assert Status.FEW_SURVIVORS in result.status

    @pytest.mark.slow
    def test_a_constant_likelihood_gives_no_alarm(self, precision: str) -> None:
        constant = 0.0 if precision == "float32" else -3.7
        target = smcinfer.posterior(dist.Normal(0.0, 1.0), lambda x: 0 * x + constant)
        result = sample(target, 0, num_particles=200)
        assert result.status == Status.OK, result.status_in_words
        assert result.log_z == pytest.approx(constant, abs=1e-6) and result.history["num_move_steps"].max() < 20
        low, high = result.log_z_interval()
        # The rule of three: a part of less than 3 in 800 may weigh nothing and was never seen.
        assert constant - 0.01 < low and low - 1e-6 < constant < high + 1e-6 and high < constant + 1e-3

    def test_equal_weights_of_a_filter_give_no_alarm(self) -> None:
        walk = smcinfer.process(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(x, 1.0))
        result = sample(smcinfer.compose(walk, lambda t, x: 0 * x - 1.3, num_steps=7), 0, num_particles=40)
        assert result.status == Status.OK and result.log_z == pytest.approx(8 * -1.3, abs=1e-5)

    @pytest.mark.slow
    def test_no_interval_is_narrower_than_the_rounding_of_float32(self) -> None:
        with jax.enable_x64(False):
            target = smcinfer.posterior(dist.Normal(0.0, 1.0), lambda x: -0.5 * (x - 1.0) ** 2 - 1e6)
            result = sample(target, 1, num_particles=20_000, kernel="independent")
        truth = -1e6 - 0.25 - 0.5 * math.log(2.0)
        low, high = result.log_z_interval()
        assert low < truth < high and high - low >= 2 * 2.0**-4
        assert Status.ROUNDED in result.status and "float64" in str(result)
