r"""The estimate of log Z over independent runs, and its error bar.

Every run gives an unbiased :math:`\hat Z_r`, so their mean is unbiased too: runs are combined on the scale of Z,
not of log Z. Two witnesses tell its error: the spread between runs, and what each run says of its own variance. Neither may
claim more than counting allows (`smcinfer.results.survivors`); runs that are equal to the last digit are no witness at all.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from scipy import special

from smcinfer.ground.errors import ArgumentError
from smcinfer.results.survivors import NO_FLOOR, Floor, Runs

RUN_DEGREES = 8
"""Degrees of freedom that one run's own estimate of its variance counts for, at most.

Eight say that the estimate is trusted to a relative standard deviation of sqrt(2 / 8) = one half. It rests on
hundreds of families or chains, which would allow more, but it also has a bias that no number of runs averages
away (families die out, chains are correlated), and a small number keeps it from outvoting the replicate runs.
"""

DISAGREEMENT_LEVEL = 0.01
"""Level of the two-sided F test that asks whether the two witnesses agree."""

FEW_SURVIVORS_SE = 0.316
"""Standard error by counting above which survivors are few: fewer than ten in all, where few survive."""

COUNTED = "the few particles that are left: runs that are equal tell nothing"
"""Source of an error that no witness tells."""


class Bound(NamedTuple):
    """A stochastic bound on log Z and its standard error, nats."""

    value: float
    se: float


class Check(NamedTuple):
    """What another path to the same target says of log Z.

    Attributes:
        method: how it went there.
        log_z, log_z_se: its estimate and standard error, nats.
        low, high: its 99% interval, nats.
        depth: of the deepest valley that it saw between two phases (`smcinfer.results.transition`), nats.
    """

    method: str
    log_z: float
    log_z_se: float
    low: float
    high: float
    depth: float

    def agrees(self, log_z: float, low: float, high: float) -> bool:
        """Whether an estimate and its 99% interval differ from this one by no more than chance; unknown errors do not agree.

        Args:
            log_z: the estimate, nats.
            low, high: its interval, nats.
        """
        if log_z <= self.log_z:
            apart, errors = self.log_z - log_z, (self.log_z - self.low, high - log_z)
        else:
            apart, errors = log_z - self.log_z, (log_z - low, self.high - self.log_z)
        return apart <= math.hypot(*errors)


class Witnessed(NamedTuple):
    """What the witnesses say together.

    Attributes:
        variance: squared standard error, nats squared; NaN where nothing tells it.
        degrees: its degrees of freedom.
        source: which witnesses it rests on, in words.
        disagree: whether the two differ by more than chance.
    """

    variance: float
    degrees: float
    source: str
    disagree: bool = False


@dataclasses.dataclass(frozen=True)
class Evidence:
    """log Z with its standard error.

    Attributes:
        log_z: log of the mean of Z_hat over runs, nats.
        witnessed: standard error of ``log_z`` by the two witnesses, nats; NaN where nothing tells it.
        degrees: degrees of freedom of ``witnessed``; zero where no witness spoke.
        source: which witnesses the error rests on, in words.
        disagree: whether the two witnesses differ by more than chance.
        floor: what counting says at least.
    """

    log_z: float
    witnessed: float
    degrees: float
    source: str
    disagree: bool = False
    floor: Floor = NO_FLOOR

    @property
    def se(self) -> float:
        """Standard error of ``log_z``, nats; NaN where nothing tells it."""
        return self.witnessed if math.isnan(self.witnessed) else max(self.witnessed, self.floor.se)

    @property
    def few(self) -> bool:
        """Whether the estimate rests on so few particles that its error bar is a guess by counting."""
        lost = self.floor.trials - self.floor.survivors >= 1.0
        guessed = self.source == COUNTED and lost
        return math.isfinite(self.log_z) and (self.floor.counting_se > FEW_SURVIVORS_SE or guessed)

    @property
    def rounded(self) -> bool:
        """Whether the rounding of what was summed is larger than the error that everything else tells."""
        return self.floor.rounding / 2 > max(self.witnessed, self.floor.counting_se)

    def interval(self, level: float = 0.99) -> tuple[float, float]:
        r""":math:`\log \hat Z \pm t_{\nu} \, \mathrm{se}`, the Student t interval, and no less than counting allows.

        Args:
            level: coverage, strictly between 0 and 1.

        Returns:
            Lower and upper end, nats; NaN where the standard error is unknown.
        """
        if not 0.0 < level < 1.0:
            raise ArgumentError("level is a coverage", expected="a number strictly between 0 and 1", got=level)
        if not math.isfinite(self.se):
            return math.nan, math.nan
        tail = (1.0 - level) / 2
        half = float(special.stdtrit(self.degrees, 1.0 - tail)) * self.witnessed if self.degrees > 0 else 0.0
        below, above = self.floor.reach(tail)
        return self.log_z - max(half, below), self.log_z + max(half, above)


class HasEvidence:
    """What a record says of log Z where it has an `evidence`."""

    evidence: Evidence

    @property
    def log_z(self) -> float:
        """log of the mean of Z_hat over runs, nats."""
        return self.evidence.log_z

    @property
    def log_z_se(self) -> float:
        """Standard error of `log_z`, nats; NaN where nothing tells it (see `evidence.source`)."""
        return self.evidence.se

    def log_z_interval(self, level: float = 0.99) -> tuple[float, float]:
        """Student t interval for log Z at coverage ``level``, nats."""
        return self.evidence.interval(level)


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


def combine(log_z: Runs, log_z_variance: Runs, *, within_reliable: bool = True, floor: Floor = NO_FLOOR) -> Evidence:
    r"""log Z over runs with an error bar that both witnesses stand behind.

    Args:
        log_z: Float["num_runs"], log of each Z_hat, nats.
        log_z_variance: Float["num_runs"], relative variance of each Z_hat as its run estimates it, or NaN.
        within_reliable: false where runs warn that their own variance may be too small (moves shorter than
            their correlation).
        floor: what counting says at least.

    Returns:
        The `Evidence`.
    """
    total = _log_mean(log_z)
    if np.isnan(total):
        return Evidence(math.nan, math.nan, 0.0, "unknown: a run has no log Z")
    if total == -math.inf:
        return Evidence(-math.inf, math.nan, 0.0, "unknown: no run found any weight")
    # A run that found nothing has no relative variance.
    within = within_runs(np.where(log_z == -math.inf, math.nan, log_z_variance))
    between = between_runs(log_z) if log_z.size > 1 and not _equal(log_z, floor) else math.nan
    found = weigh(between, within, log_z.size, reliable=within_reliable, floor=floor)
    return Evidence(total, math.sqrt(found.variance), found.degrees, found.source, found.disagree, floor)


def weigh(between: float, own: tuple[float, float], num_runs: int, *, reliable: bool, floor: Floor) -> Witnessed:
    r"""The two witnesses weighed against each other.

    An F test at `DISAGREEMENT_LEVEL` asks whether the two squared standard errors estimate one number. If they
    do, they are pooled by their degrees of freedom, :math:`(\nu_b u_b + \nu_w u_w) / (\nu_b + \nu_w)`: with four
    runs the interval is then half as wide as three degrees of freedom would make it. If not, the larger is
    reported and the disagreement flagged.

    Args:
        between: squared standard error from the spread between runs, nats squared; NaN where it tells nothing.
        own: the same from what runs say of themselves, NaN where they cannot tell; and its degrees of freedom.
        num_runs: runs.
        reliable: whether the latter can be trusted not to be too small; if not, the larger of the two is
            reported whatever the test says, on the degrees of freedom of the runs.
        floor: what counting says at least; where no witness is left of several equal runs, it is the error.
    """
    (within, within_degrees), between_degrees = own, float(num_runs - 1)
    warning = "" if reliable else ", may be too small"
    if num_runs == 1:
        if math.isnan(within):
            return Witnessed(math.nan, 0.0, "unknown: one run that cannot tell its own variance")
        return Witnessed(within, within_degrees, "within the run" + warning)
    if math.isnan(between):
        if math.isnan(within):
            if math.isinf(floor.survivors):
                return Witnessed(math.nan, 0.0, "unknown: runs that are equal tell nothing")
            return Witnessed(0.0, 0.0, COUNTED)
        return Witnessed(within, within_degrees, "within runs, which are equal" + warning)
    if math.isnan(within):
        return Witnessed(between, between_degrees, "between runs")
    # What differs by rounding alone does not disagree.
    least = (floor.rounding / 2) ** 2
    agree = _agree(max(between, least), between_degrees, max(within, least), within_degrees)
    if agree and reliable:
        degrees = between_degrees + within_degrees
        pooled = (between_degrees * between + within_degrees * within) / degrees
        return Witnessed(pooled, degrees, "within and between runs")
    reason = "the larger" if agree else "the larger: the two disagree"
    if between >= within:
        return Witnessed(between, between_degrees, f"between runs, {reason}", not agree)
    degrees = within_degrees if reliable else between_degrees
    return Witnessed(within, degrees, f"within runs, {reason}{warning}", not agree)


def lower_bound(log_z: Runs, log_z_variance: Runs, *, within_reliable: bool = True, floor: Floor = NO_FLOOR) -> Bound:
    r"""Mean of :math:`\log \hat Z_r`: in expectation a lower bound, :math:`E[\log \hat Z] \le \log Z` (Jensen).

    Args:
        log_z, log_z_variance, within_reliable, floor: as in `combine`.

    Returns:
        The mean and its standard error by the same witnesses as that of log Z, on the scale of log Z: a relative
        variance v of a log-normal Z_hat is a variance :math:`\log(1 + v)` of its logarithm; nats.
    """
    value = float(np.mean(log_z))
    if not math.isfinite(value):
        return Bound(value, math.nan)
    # For one run the delta method, as for its log Z: the two are then one number.
    own = log_z_variance if log_z.size == 1 else np.log1p(log_z_variance)
    spread = math.nan if log_z.size == 1 or _equal(log_z, floor) else float(np.var(log_z, ddof=1)) / log_z.size
    found = weigh(spread, within_runs(own), log_z.size, reliable=within_reliable, floor=floor)
    return Bound(value, max(math.sqrt(found.variance), floor.se) if math.isfinite(found.variance) else math.nan)


def mean_bound(log_z: Runs, floor: Floor = NO_FLOOR) -> Bound:
    r"""Mean of :math:`\log \hat Z_r`, with a standard error from the spread between runs that is no less than counting allows.

    Args:
        log_z: Float["num_runs"], at least two, nats: of runs from the base, or of runs through exact draws.
        floor: what counting says at least.

    Returns:
        The mean and its standard error, NaN where the runs are equal and nothing was counted; nats.
    """
    if not np.all(np.isfinite(log_z)):
        return Bound(float(np.mean(log_z)), math.nan)
    if _equal(log_z, floor):
        return Bound(float(np.mean(log_z)), floor.se if math.isfinite(floor.survivors) else math.nan)
    return Bound(float(np.mean(log_z)), max(float(np.std(log_z, ddof=1)) / math.sqrt(log_z.size), floor.se))


def _equal(log_z: Runs, floor: Floor) -> bool:
    """Whether runs are equal but for rounding: then they counted alike, by chance, and their spread says nothing."""
    return bool(np.ptp(log_z) <= 2 * floor.rounding)


def _log_mean(log_z: Runs) -> float:
    return float(np.logaddexp.reduce(log_z)) - math.log(log_z.size)


def _agree(first: float, first_degrees: float, second: float, second_degrees: float) -> bool:
    """Two-sided F test that two variance estimates, with their degrees of freedom, estimate one number."""
    if first == 0.0 or second == 0.0:
        return first == second
    law = (first_degrees, second_degrees, first / second)
    return min(float(special.fdtr(*law)), float(special.fdtrc(*law))) > DISAGREEMENT_LEVEL / 2
