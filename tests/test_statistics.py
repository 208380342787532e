"""The statistical assertions themselves: they pass on the truth and fail on what is slightly false."""

import numpy as np
import pytest
import scipy.stats

from tests.statistics import (
    FAILURE_RATE,
    assert_chi2,
    assert_error_bars,
    assert_ks,
    assert_mean,
    assert_mean_one_log,
    assert_weighted_mean,
    assert_within,
    z_threshold,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240601)


def test_threshold_is_the_quantile_of_the_failure_rate() -> None:
    assert 2 * scipy.stats.norm.sf(z_threshold()) == pytest.approx(FAILURE_RATE)
    assert 2 * scipy.stats.norm.sf(z_threshold(100)) == pytest.approx(FAILURE_RATE / 100)


def test_mean_accepts_the_truth_and_rejects_a_small_bias(rng: np.random.Generator) -> None:
    samples = rng.normal([1.0, -2.0], 0.5, size=(10_000, 2))
    assert_mean(samples, [1.0, -2.0])
    with pytest.raises(AssertionError, match="z = .*limit"):
        assert_mean(samples, [1.0, -2.04])


def test_mean_false_alarms_are_as_rare_as_stated(rng: np.random.Generator) -> None:
    # With six replicates a normal threshold would be wrong 35 times too often: the t quantile is what holds.
    alarms = 0
    for samples in rng.normal(size=(20_000, 6)):
        try:
            assert_mean(samples, 0.0)
        except AssertionError:
            alarms += 1
    assert alarms <= scipy.stats.poisson.isf(FAILURE_RATE, 20_000 * FAILURE_RATE)


def test_mean_shares_the_failure_rate_among_elements(rng: np.random.Generator) -> None:
    samples = rng.normal(size=(500, 1000))
    z = np.abs(samples.mean(0)) / (samples.std(0, ddof=1) / np.sqrt(500))
    shift = 1.02 * z_threshold() * samples[:, 0].std(ddof=1) / np.sqrt(500)
    alone = samples[:, 0] - samples[:, 0].mean() + shift
    assert z.max() < z_threshold(1000)
    with pytest.raises(AssertionError):
        assert_mean(alone, 0.0)
    assert_mean(alone, 0.0, num_comparisons=1000)


@pytest.mark.parametrize("bad", [np.array([1.0]), np.array(1.0), np.array([0.0, np.nan]), np.array([0.0, np.inf])])
def test_mean_refuses_what_it_cannot_judge(bad: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="expected"):
        assert_mean(bad, 0.0)


def test_constant_samples_are_compared_up_to_rounding() -> None:
    assert_mean(np.full(10, 1.0 + 1e-7), 1.0)
    with pytest.raises(AssertionError):
        assert_mean(np.full(10, 1.001), 1.0)


def test_mean_one_log_is_about_the_estimate_not_its_log(rng: np.random.Generator) -> None:
    sd = 0.3
    unbiased = rng.normal(-0.5 * sd**2, sd, size=20_000)
    assert_mean_one_log(unbiased)
    assert_mean_one_log(unbiased + 700.0, 700.0)
    with pytest.raises(AssertionError):
        assert_mean_one_log(unbiased + 0.5 * sd**2)


def test_a_bias_that_is_known_is_allowed_and_no_more(rng: np.random.Generator) -> None:
    samples = rng.normal(1.02, 0.1, size=10_000)
    assert_mean(samples, 1.0, bias=0.02)
    with pytest.raises(AssertionError, match="mean differs"):
        assert_mean(samples, 1.0, bias=0.01)
    assert_within(1.02, 1.0, 0.005)
    with pytest.raises(AssertionError, match="expected 1"):
        assert_within(1.05, 1.0, 0.005, bias=0.02)


def test_weighted_means_count_runs_by_their_z_hat(rng: np.random.Generator) -> None:
    # A run whose Z_hat is large says more of f: unweighted the mean would be off.
    noise = rng.normal(size=20_000)
    log_z, means = 0.3 * noise - 0.045, 0.3 * noise
    assert_weighted_mean(log_z + 5.0, 5.0, means, 0.09)
    with pytest.raises(AssertionError):
        assert_weighted_mean(np.zeros(20_000), 0.0, means, 0.09)


def test_error_bars_are_compared_with_the_spread(rng: np.random.Generator) -> None:
    log_z = np.log1p(0.1 * rng.normal(size=400).clip(-5, 5))
    assert_error_bars(log_z, np.full(400, 0.01), 0.0)
    for variance, words in ((0.0049, "too small"), (0.0225, "too large")):
        with pytest.raises(AssertionError, match=words):
            assert_error_bars(log_z, np.full(400, variance), 0.0)


def test_ks_accepts_the_law_and_rejects_a_neighbour(rng: np.random.Generator) -> None:
    samples = rng.normal(size=20_000)
    assert_ks(samples, scipy.stats.norm.cdf)
    assert_ks(samples, rng.normal(size=20_000))
    with pytest.raises(AssertionError, match="do not follow"):
        assert_ks(samples, scipy.stats.norm(scale=1.1).cdf)
    with pytest.raises(AssertionError, match="do not follow"):
        assert_ks(samples, rng.standard_t(4, size=20_000))
    with pytest.raises(AssertionError, match="finite"):
        assert_ks(np.array([0.0, np.nan]), scipy.stats.norm.cdf)


def test_chi2_accepts_the_law_and_rejects_a_neighbour(rng: np.random.Generator) -> None:
    probabilities = np.array([0.5, 0.3, 0.2, 0.0])
    counts = rng.multinomial(20_000, probabilities)
    assert_chi2(counts, 7 * probabilities)
    with pytest.raises(AssertionError, match="worst category"):
        assert_chi2(counts, [0.48, 0.32, 0.2, 0.0])
    with pytest.raises(AssertionError, match="probability zero"):
        assert_chi2(counts + [0, 0, 0, 1], probabilities)


def test_chi2_pools_rare_categories(rng: np.random.Generator) -> None:
    probabilities = scipy.stats.poisson(3.0).pmf(np.arange(60))
    for _ in range(200):
        assert_chi2(rng.multinomial(300, probabilities / probabilities.sum()), probabilities)
    with pytest.raises(AssertionError, match="at least two"):
        assert_chi2([3, 1], [0.5, 0.5])
