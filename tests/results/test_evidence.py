"""The error bar of log Z against hand computations and by how often its interval covers the truth."""

import math

import numpy as np
import pytest
import scipy.stats

from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError
from smcinfer.results.evidence import RUN_DEGREES, Evidence, between_runs, combine, lower_bound
from tests.statistics import FAILURE_RATE
from tests.synthetic import make_result

CLOSE = np.array([-10.02, -9.99, -10.05, -9.94])
NAN = math.nan


def variances(value: float, count: int = 4) -> np.ndarray:
    return np.full(count, value)


def test_log_z_is_the_log_of_the_mean() -> None:
    assert combine(CLOSE, variances(NAN)).log_z == pytest.approx(np.log(np.mean(np.exp(CLOSE))))
    huge = CLOSE - 5000.0
    assert combine(huge, variances(NAN)).log_z == pytest.approx(np.log(np.mean(np.exp(CLOSE))) - 5000.0)


def test_between_runs_alone_is_the_delta_method_on_three_degrees() -> None:
    evidence = combine(CLOSE, variances(NAN))
    ratios = np.exp(CLOSE) / np.exp(CLOSE).mean()
    assert evidence.se == pytest.approx(ratios.std(ddof=1) / 2, rel=1e-2)
    assert (evidence.degrees, evidence.source, evidence.disagree) == (3.0, "between runs", False)
    low, high = evidence.interval(0.95)
    assert high - evidence.log_z == pytest.approx(3.18245 * evidence.se, rel=1e-4)
    assert evidence.log_z - low == pytest.approx(high - evidence.log_z)


def test_agreeing_error_bars_are_pooled_by_their_degrees() -> None:
    between = between_runs(CLOSE)
    evidence = combine(CLOSE, variances(0.003))
    degrees = 3 + 4 * RUN_DEGREES
    assert evidence.se**2 == pytest.approx((3 * between + 4 * RUN_DEGREES * 0.003 / 4) / degrees)
    assert (evidence.degrees, evidence.disagree) == (degrees, False)


def test_scattered_estimates_of_the_variance_count_fewer_degrees() -> None:
    scattered = np.array([0.0005, 0.001, 0.008, 0.0025])
    expected = 3 + 4 * 2 * scattered.mean() ** 2 / scattered.var(ddof=1)
    evidence = combine(CLOSE, scattered)
    assert evidence.degrees == pytest.approx(expected)
    assert evidence.degrees < 3 + 4 * RUN_DEGREES


@pytest.mark.parametrize(("within", "source"), [(1e-6, "between"), (0.5, "within")])
def test_disagreeing_error_bars_report_the_larger(within: float, source: str) -> None:
    evidence = combine(CLOSE, variances(within))
    assert evidence.disagree and evidence.source.startswith(source)
    assert evidence.se == pytest.approx(math.sqrt(max(between_runs(CLOSE), within / 4)))


def test_an_unreliable_variance_is_never_pooled() -> None:
    between = between_runs(CLOSE)
    smaller = combine(CLOSE, variances(0.002), within_reliable=False)
    assert (smaller.se, smaller.degrees) == (pytest.approx(math.sqrt(between)), 3.0)
    larger = combine(CLOSE, variances(0.004), within_reliable=False)
    assert (larger.se, larger.degrees) == (pytest.approx(math.sqrt(0.001)), 3.0)
    assert not smaller.disagree and not larger.disagree and "too small" in larger.source


def test_status_of_any_run_decides_what_is_reliable() -> None:
    close = {"log_z_runs": CLOSE, "log_z_variance": variances(0.002)}
    assert make_result(**close).evidence.source == "within and between runs"
    short = np.array([0, 0, int(Status.MOVES_TOO_SHORT), 0])
    assert make_result(**close, status_runs=short).evidence.source == "between runs, the larger"


def test_a_coalesced_genealogy_tells_nothing() -> None:
    # Families that have all died out but one always give a relative variance of one.
    # Five thousand particles: counting then asks for less than the spread.
    ones = {"num_particles": 5000, "log_z_runs": CLOSE, "log_z_variance": np.ones(4)}
    coalesced = np.full(4, int(Status.GENEALOGY_COALESCED))
    evidence = make_result(**ones, status_runs=coalesced).evidence
    assert (evidence.se, evidence.source) == (pytest.approx(math.sqrt(between_runs(CLOSE))), "between runs")
    assert make_result(**ones).evidence.disagree


def test_disagreement_reaches_the_status() -> None:
    assert Status.ERROR_BARS_DISAGREE in make_result(log_z_runs=CLOSE, log_z_variance=variances(1e-6)).status
    assert make_result(log_z_runs=CLOSE, log_z_variance=variances(0.003)).status == Status.OK


def test_one_run_has_its_own_variance_or_nothing() -> None:
    known = combine(CLOSE[:1], np.array([0.04]))
    assert (known.log_z, known.se, known.degrees) == (CLOSE[0], pytest.approx(0.2), RUN_DEGREES)
    unknown = combine(CLOSE[:1], np.array([NAN]))
    assert math.isnan(unknown.se) and "unknown" in unknown.source
    assert all(map(math.isnan, unknown.interval()))


def test_a_run_that_found_nothing_counts_as_zero() -> None:
    log_z = np.array([-10.0, -10.0, -10.0, -math.inf])
    evidence = combine(log_z, variances(0.001))
    assert evidence.log_z == pytest.approx(-10.0 + math.log(0.75))
    # Z / mean is 4/3 three times and 0 once: standard deviation 2/3, over the root of four.
    assert evidence.se == pytest.approx(1 / 3)
    assert evidence.disagree
    assert lower_bound(log_z, variances(0.001)).value == -math.inf


def test_no_run_found_anything() -> None:
    evidence = combine(np.full(3, -math.inf), np.zeros(3))
    assert evidence.log_z == -math.inf and math.isnan(evidence.se)


def test_runs_far_apart_are_not_certain_to_one_nat() -> None:
    apart = np.array([-100.0, -80.0, -60.0, -70.0])
    ratios = np.exp(apart - apart.max())
    assert np.std(ratios / ratios.mean(), ddof=1) / 2 == pytest.approx(1.0, rel=1e-3)
    assert combine(apart, variances(NAN)).se > 15.0


def test_lower_bound_by_hand() -> None:
    bound = lower_bound(CLOSE, variances(NAN))
    assert bound.value == pytest.approx(-10.0)
    assert bound.se == pytest.approx(np.std(CLOSE, ddof=1) / 2)
    assert bound.value < combine(CLOSE, variances(NAN)).log_z
    assert lower_bound(CLOSE[:1], np.array([0.04])).se == pytest.approx(0.2)


@pytest.mark.parametrize("level", [0.0, 1.0, 99.0])
def test_level_is_a_fraction(level: float) -> None:
    with pytest.raises(ArgumentError, match="strictly between 0 and 1"):
        Evidence(0.0, 1.0, 3.0, "").interval(level)


def covered(evidence: Evidence, multiple: float | None = None) -> bool:
    """Whether the 99% interval, or ``multiple`` standard errors, contain the true log Z of zero."""
    half = evidence.interval(0.99)[1] - evidence.log_z if multiple is None else multiple * evidence.se
    return abs(evidence.log_z) <= half


def assert_covers(hits: list[bool]) -> None:
    """At most 1.3% misses: a 99% interval by an approximation that is good to a third of its error."""
    misses = len(hits) - sum(hits)
    assert scipy.stats.binom.sf(misses - 1, len(hits), 0.013) > FAILURE_RATE, f"{misses} of {len(hits)} missed"


def replicates(sigma: float, num_runs: int, seed: int, count: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """log Z_hat of log-normal runs with E[Z_hat] = 1, and noisy unbiased estimates of their relative variance."""
    rng = np.random.default_rng(seed)
    log_z = rng.normal(-(sigma**2) / 2, sigma, (count, num_runs))
    return log_z, np.expm1(sigma**2) * rng.chisquare(RUN_DEGREES, (count, num_runs)) / RUN_DEGREES


@pytest.mark.dealt
@pytest.mark.parametrize(("sigma", "num_runs"), [(0.01, 4), (0.3, 2), (0.3, 4), (0.3, 16), (1.0, 4)])
def test_interval_covers_with_both_witnesses(sigma: float, num_runs: int) -> None:
    assert_covers([covered(combine(*pair)) for pair in zip(*replicates(sigma, num_runs, seed=1), strict=True)])


@pytest.mark.parametrize("num_runs", [2, 4, 16])
def test_interval_covers_between_runs_alone(num_runs: int) -> None:
    log_z, unknown = replicates(0.1, num_runs, seed=2)[0], variances(NAN, num_runs)
    assert_covers([covered(combine(row, unknown)) for row in log_z])


def test_interval_covers_where_runs_understate_their_variance() -> None:
    log_z, within = replicates(0.1, 8, seed=3)
    found = [combine(*pair) for pair in zip(log_z, within / 100, strict=True)]
    assert np.mean([evidence.disagree for evidence in found]) > 0.99
    assert_covers([covered(evidence) for evidence in found])
    with pytest.raises(AssertionError, match="missed"):
        assert_covers(
            [abs(row) <= 2.6 * math.sqrt(v.mean() / 800) for row, v in zip(log_z.mean(1), within, strict=True)]
        )


def test_a_normal_interval_on_four_runs_does_not_cover() -> None:
    log_z = replicates(0.1, 4, seed=2)[0]
    with pytest.raises(AssertionError, match="missed"):
        assert_covers([covered(combine(row, variances(NAN)), multiple=2.576) for row in log_z])


def test_honest_error_bars_seldom_disagree() -> None:
    found = [combine(*pair).disagree for pair in zip(*replicates(0.1, 4, seed=4), strict=True)]
    assert 0 < np.mean(found) < 0.02
