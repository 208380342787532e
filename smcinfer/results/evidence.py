r"""The estimate of log Z over independent runs, and its error bar.

Every run gives an unbiased :math:`\hat Z_r`, so their mean is unbiased too: runs are combined on the scale of Z,
not of log Z. Two witnesses tell its error: the spread between runs, and what each run says of its own variance.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from smcinfer.ground.errors import ArgumentError

RUN_DEGREES = 8
"""Degrees of freedom that one run's own estimate of its variance counts for, at most.

Eight say that the estimate is trusted to a relative standard deviation of sqrt(2 / 8) = one half. It rests on
hundreds of families or chains, which would allow more, but it also has a bias that no number of runs averages
away (families die out, chains are correlated), and a small number keeps it from outvoting the replicate runs.
"""

DISAGREEMENT_LEVEL = 0.01
"""Level of the two-sided F test that asks whether the two witnesses agree."""

Runs = Float[np.ndarray, " num_runs"]


class Bound(NamedTuple):
    """A stochastic bound on log Z and its standard error, nats."""

    value: float
    se: float


@dataclass(frozen=True)
class Evidence:
    """log Z with its standard error.

    Attributes:
        log_z: log of the mean of Z_hat over runs, nats.
        se: standard error of ``log_z``, nats; NaN where nothing tells it.
        degrees: degrees of freedom of ``se``.
        source: which witnesses ``se`` rests on, in words.
        disagree: whether the two witnesses differ by more than chance.
    """

    log_z: float
    se: float
    degrees: float
    source: str
    disagree: bool = False

    def interval(self, level: float = 0.99) -> tuple[float, float]:
        r""":math:`\log \hat Z \pm t_{\nu} \, \mathrm{se}`, the Student t interval at ``level``.

        Args:
            level: coverage, strictly between 0 and 1.

        Returns:
            Lower and upper end, nats; NaN where the standard error is unknown.
        """
        if not 0.0 < level < 1.0:
            raise ArgumentError("level is a coverage", expected="a number strictly between 0 and 1", got=level)
        if not (math.isfinite(self.se) and self.degrees > 0):
            return math.nan, math.nan
        half = float(special.stdtrit(self.degrees, 0.5 + level / 2)) * self.se
        return self.log_z - half, self.log_z + half


def between_runs(log_z: Runs) -> float:
    r"""Squared standard error of the log of the mean of Z_hat, from the spread between runs.

    The delta method gives :math:`s^2 / R` with :math:`s^2` the sample variance of :math:`\hat Z_r / \bar Z`. It
    never exceeds one, however far apart the runs are, because the largest run then is the mean. So the law
    of log-normal replicates, :math:`\log(1 + (e^{\sigma^2} - 1) / R)` with :math:`\sigma` the spread of
    :math:`\log \hat Z_r`, is taken too and the larger of the two returned; they agree where runs are close.

    Args:
        log_z: Float["num_runs"], at least two, nats; minus infinity is a run that found nothing.

    Returns:
        The squared standard error, nats squared.
    """
    num_runs = log_z.size
    ratios = np.exp(log_z - _log_mean(log_z))
    delta = float(np.var(ratios, ddof=1)) / num_runs
    alive = log_z[np.isfinite(log_z)]
    if alive.size < 2:
        return delta
    spread = float(np.var(alive, ddof=1))
    return max(delta, float(np.logaddexp(math.log(num_runs - 1), spread)) - math.log(num_runs))


def within_runs(log_z_variance: Runs) -> tuple[float, float]:
    r"""Squared standard error from what runs say of their own variance, and its degrees of freedom.

    The mean of the known :math:`v_r` over :math:`R`. Each run counts `RUN_DEGREES`, or fewer where the
    :math:`v_r` scatter by more than that allows: Satterthwaite's :math:`2 \bar v^2 / \mathrm{var}(v_r)`.

    Args:
        log_z_variance: Float["num_runs"], relative variance of each Z_hat; NaN where unknown.

    Returns:
        The squared standard error (nats squared; NaN where no run knows) and its degrees of freedom.
    """
    known = log_z_variance[np.isfinite(log_z_variance)]
    if known.size == 0:
        return math.nan, 0.0
    mean = float(known.mean())
    degrees = float(RUN_DEGREES)
    scatter = float(known.var(ddof=1)) if known.size > 1 else 0.0
    if scatter > 0.0:
        degrees = min(degrees, 2.0 * mean**2 / scatter)
    return mean / log_z_variance.size, degrees * known.size


def combine(log_z: Runs, log_z_variance: Runs, *, within_reliable: bool = True) -> Evidence:
    r"""log Z over runs with an error bar that both witnesses stand behind.

    An F test at `DISAGREEMENT_LEVEL` asks whether the two squared standard errors estimate one number. If they
    do, they are pooled by their degrees of freedom, :math:`(\nu_b u_b + \nu_w u_w) / (\nu_b + \nu_w)`: with four
    runs the interval is then half as wide as three degrees of freedom would make it. If not, the larger is
    reported and the disagreement flagged.

    Args:
        log_z: Float["num_runs"], log of each Z_hat, nats.
        log_z_variance: Float["num_runs"], relative variance of each Z_hat as its run estimates it, or NaN.
        within_reliable: false where runs warn that their own variance may be too small (moves shorter than
            their correlation): the larger is then reported whatever the test says, on the degrees of freedom of
            the runs.

    Returns:
        The `Evidence`.
    """
    num_runs = log_z.size
    total = _log_mean(log_z)
    if np.isnan(total):
        return Evidence(math.nan, math.nan, 0.0, "unknown: a run has no log Z")
    if total == -math.inf:
        return Evidence(-math.inf, math.nan, 0.0, "unknown: no run found any weight")
    # A run that found nothing has no relative variance.
    within, within_degrees = within_runs(np.where(log_z == -math.inf, math.nan, log_z_variance))
    warning = "" if within_reliable else ", may be too small"
    if num_runs == 1:
        if math.isnan(within):
            return Evidence(total, math.nan, 0.0, "unknown: one run that cannot tell its own variance")
        return Evidence(total, math.sqrt(within), within_degrees, "within the run" + warning)
    between, between_degrees = between_runs(log_z), float(num_runs - 1)
    if math.isnan(within):
        return Evidence(total, math.sqrt(between), between_degrees, "between runs")
    agree = _agree(between, between_degrees, within, within_degrees)
    if agree and within_reliable:
        degrees = between_degrees + within_degrees
        pooled = (between_degrees * between + within_degrees * within) / degrees
        return Evidence(total, math.sqrt(pooled), degrees, "within and between runs")
    reason = "the larger" if agree else "the larger: the two disagree"
    if between >= within:
        return Evidence(total, math.sqrt(between), between_degrees, f"between runs, {reason}", not agree)
    degrees = within_degrees if within_reliable else between_degrees
    return Evidence(total, math.sqrt(within), degrees, f"within runs, {reason}{warning}", not agree)


def lower_bound(log_z: Runs, log_z_variance: Runs) -> Bound:
    r"""Mean of :math:`\log \hat Z_r`: in expectation a lower bound, :math:`E[\log \hat Z] \le \log Z` (Jensen).

    Returns:
        The mean and its standard error (from the spread; of a single run, from its own variance), nats.
    """
    value = float(np.mean(log_z))
    if not math.isfinite(value):
        return Bound(value, math.nan)
    if log_z.size == 1:
        return Bound(value, float(np.sqrt(log_z_variance[0])))
    return Bound(value, float(np.std(log_z, ddof=1)) / math.sqrt(log_z.size))


def _log_mean(log_z: Runs) -> float:
    return float(np.logaddexp.reduce(log_z)) - math.log(log_z.size)


def _agree(first: float, first_degrees: float, second: float, second_degrees: float) -> bool:
    """Two-sided F test that two variance estimates, with their degrees of freedom, estimate one number."""
    if first == 0.0 or second == 0.0:
        return first == second
    law = (first_degrees, second_degrees, first / second)
    return min(float(special.fdtr(*law)), float(special.fdtrc(*law))) > DISAGREEMENT_LEVEL / 2
