"""Statistical assertions with one named failure rate.

A correct implementation fails any one of these assertions with probability at most `FAILURE_RATE`,
whatever it compares: what compares many numbers at once pays for it by Bonferroni. Seeds are fixed,
so a test that passes keeps passing; the rate is what a change of seed or of code would risk.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

FAILURE_RATE = 2e-5
"""Probability that one assertion fails on correct code."""


def z_threshold(num_comparisons: int = 1) -> float:
    """Number of standard errors that correct code exceeds with probability `FAILURE_RATE`, two-sided."""
    return float(scipy.stats.norm.isf(FAILURE_RATE / (2 * num_comparisons)))


def assert_mean(samples: ArrayLike, expected: ArrayLike, *, bias: ArrayLike = 0.0, num_comparisons: int = 1) -> None:
    """Assert E[samples] = expected by a Student t test on every element.

    Args:
        samples: (replicates, ...), independent along the first axis.
        expected: (...), broadcast against one replicate.
        bias: (...), how far E[samples] may truly be from what is expected: the size of a step, or one over the particles.
        num_comparisons: how many calls share the failure rate; the elements are counted on top.
    """
    values = np.asarray(samples, dtype=np.float64)
    count = values.shape[0] if values.ndim else 0
    assert count >= 2, f"expected at least 2 replicates on the first axis, got shape {values.shape}"
    _assert_finite(values, "samples")
    mean = values.mean(axis=0)
    target = np.broadcast_to(np.asarray(expected, dtype=np.float64), mean.shape)
    # A constant sample has no standard error: what is left is the rounding of a float32 computation.
    rounding = 1e-6 * np.maximum(np.abs(target), np.abs(values).max(axis=0))
    error = values.std(axis=0, ddof=1) / np.sqrt(count)
    limit = scipy.stats.t.isf(FAILURE_RATE / (2 * num_comparisons * max(mean.size, 1)), count - 1)
    excess = np.abs(mean - target) - limit * error - rounding - np.asarray(bias, dtype=np.float64)
    if np.any(excess > 0):
        worst = np.unravel_index(np.argmax(excess), mean.shape)
        z = (mean - target)[worst] / max(error[worst], np.finfo(float).tiny)
        raise AssertionError(
            f"mean differs from its expectation at {tuple(map(int, worst))}: "
            f"observed {mean[worst]:.6g} +- {error[worst]:.2g}, expected {target[worst]:.6g}, "
            f"z = {z:.1f}, limit {limit:.1f} ({count} replicates)"
        )


def assert_mean_one_log(
    log_values: ArrayLike, log_expected: ArrayLike = 0.0, *, bias: ArrayLike = 0.0, num_comparisons: int = 1
) -> None:
    r"""Assert :math:`E[e^{v}] = e^{v_0}`: an estimate of a normaliser is unbiased on its own scale.

    Args:
        log_values: (replicates, ...), nats; minus infinity is an estimate of zero.
        log_expected: (...), the exact log normaliser, nats.
        bias: how far :math:`E[e^{v - v_0}]` may truly be from one.
        num_comparisons: as in `assert_mean`.
    """
    ratios = np.exp(np.asarray(log_values, dtype=np.float64) - np.asarray(log_expected, dtype=np.float64))
    assert_mean(ratios, 1.0, bias=bias, num_comparisons=num_comparisons)


def assert_weighted_mean(
    log_z: ArrayLike, log_expected: float, means: ArrayLike, expected: ArrayLike, *, num_comparisons: int = 1
) -> None:
    r"""Assert :math:`E[\hat Z_r \hat f_r] = Z E_\pi[f]`: what independent runs say of a mean, properly weighted.

    Args:
        log_z: (R,), log Z_hat of each run, nats.
        log_expected: log Z, nats.
        means: (R, ...), what each run says of E[f].
        expected: (...), E[f] under the target.
        num_comparisons: as in `assert_mean`.
    """
    values = np.asarray(means, dtype=np.float64)
    ratios = np.exp(np.asarray(log_z, dtype=np.float64) - log_expected).reshape(-1, *[1] * (values.ndim - 1))
    assert_mean(ratios * (values - np.asarray(expected, dtype=np.float64)), 0.0, num_comparisons=num_comparisons)


def assert_within(estimate: float, expected: float, error: float, *, bias: float = 0.0) -> None:
    """Assert that one estimate is as near to the truth as its standard error says.

    Args:
        estimate: a normal estimate.
        expected: the truth.
        error: its standard error.
        bias: how far its expectation may truly be from the truth.
    """
    allowed = z_threshold() * error + bias + 1e-6 * max(abs(estimate), abs(expected))
    assert abs(estimate - expected) <= allowed, f"{estimate:.6g} +- {error:.2g}, expected {expected:.6g}"


def assert_error_bars(log_z: ArrayLike, variances: ArrayLike, log_expected: float, *, slack: float = 0.1) -> None:
    r"""Assert that the error bars of independent runs are those of their spread: :math:`E[v_r] = E[(\hat Z_r / Z - 1)^2]`.

    Args:
        log_z: (R,), log Z_hat of each run, nats.
        variances: (R,), what each run says of the relative variance of its Z_hat.
        log_expected: log Z, nats.
        slack: how far the reported standard deviation may truly be from the right one, relatively: lags and epochs have a
            bias of their own.
    """
    squares = (np.exp(np.asarray(log_z, dtype=np.float64) - log_expected) - 1.0) ** 2
    reported = np.asarray(variances, dtype=np.float64)
    for factor, side in ((1.0 + slack, -1.0), (1.0 / (1.0 + slack), 1.0)):
        excess = side * (factor**2 * reported - squares)
        limit = scipy.stats.t.isf(FAILURE_RATE / 2, excess.size - 1)
        z = excess.mean() / (excess.std(ddof=1) / np.sqrt(excess.size))
        assert z <= limit, (
            f"error bars are {'too small' if side < 0 else 'too large'}: reported {np.sqrt(reported.mean()):.4g}, "
            f"spread {np.sqrt(squares.mean()):.4g}, z = {z:.1f}, limit {limit:.1f} ({excess.size} runs)"
        )


def assert_ks(samples: ArrayLike, reference: Callable[[Any], Any] | ArrayLike, *, num_comparisons: int = 1) -> None:
    """Assert that independent draws follow a distribution, by a Kolmogorov-Smirnov test.

    Args:
        samples: (n,), independent draws.
        reference: a cumulative distribution function, or (m,) independent draws to compare with.
        num_comparisons: how many calls share the failure rate.
    """
    values = _finite_vector(samples, "samples")
    if callable(reference):
        outcome = scipy.stats.ks_1samp(values, reference)
    else:
        outcome = scipy.stats.ks_2samp(values, _finite_vector(reference, "reference"), method="asymp")
    limit = FAILURE_RATE / num_comparisons
    assert outcome.pvalue > limit, (
        f"draws do not follow the reference: observed distance {outcome.statistic:.4g} "
        f"at {outcome.statistic_location:.4g} ({values.size} draws), expected p > {limit:.1g}, p = {outcome.pvalue:.2g}"
    )


def assert_chi2(counts: ArrayLike, probabilities: ArrayLike, *, num_comparisons: int = 1) -> None:
    """Assert that counts of independent draws follow category probabilities, by Pearson's test.

    A category of probability zero must not occur at all. Categories expected fewer than five times
    are pooled, for the chi-squared law does not hold there.

    Args:
        counts: (k,), how often each category was seen.
        probabilities: (k,), need not be normalised.
        num_comparisons: how many calls share the failure rate.
    """
    observed = np.asarray(counts, dtype=np.float64)
    weights = np.asarray(probabilities, dtype=np.float64)
    assert observed.ndim == 1 and observed.shape == weights.shape, (
        f"expected two vectors of one length, got shapes {observed.shape} and {weights.shape}"
    )
    impossible = (weights == 0) & (observed > 0)
    assert not impossible.any(), f"categories of probability zero were seen: {np.flatnonzero(impossible).tolist()}"
    expected = weights / weights.sum() * observed.sum()
    observed, expected = _pool_rare(observed, expected)
    assert expected.size >= 2, "expected at least two categories that are common enough to compare: draw more"
    statistic = float(np.sum((observed - expected) ** 2 / expected))
    freedom = expected.size - 1
    p_value = float(scipy.stats.chi2.sf(statistic, freedom))
    worst = int(np.argmax((observed - expected) ** 2 / expected))
    assert p_value > FAILURE_RATE / num_comparisons, (
        f"counts do not follow the probabilities: chi2 = {statistic:.1f} on {freedom} degrees of freedom, "
        f"p = {p_value:.2g}; worst category observed {observed[worst]:.0f}, expected {expected[worst]:.1f}"
    )


def _pool_rare(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Merge categories, from the rarest up, until each is expected at least five times."""
    order = np.argsort(expected)
    num_pooled = max(np.count_nonzero(expected < 5), int(np.searchsorted(np.cumsum(expected[order]), 5.0)) + 1)
    starts = [0, *range(num_pooled, expected.size)]
    return np.add.reduceat(observed[order], starts), np.add.reduceat(expected[order], starts)


def _finite_vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    vector = np.asarray(values, dtype=np.float64)
    assert vector.ndim == 1 and vector.size >= 2, f"expected {name} to be a vector of draws, got shape {vector.shape}"
    _assert_finite(vector, name)
    return vector


def _assert_finite(values: NDArray[np.float64], name: str) -> None:
    num_bad = np.count_nonzero(~np.isfinite(values))
    assert num_bad == 0, f"expected finite {name}, got {num_bad} of {values.size} that are not"
