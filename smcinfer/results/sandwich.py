"""Both bounds on log Z, with their errors, and how far the proposal is from the target."""

import dataclasses
import math

import numpy as np
from scipy import special

from smcinfer.ground.arrays import Float
from smcinfer.results.evidence import Bound, Evidence, HasEvidence, combine, mean_bound
from smcinfer.results.record import Record, arrays
from smcinfer.results.survivors import Floor, Runs, floor_under, unit_of_rounding
from smcinfer.results.words import Lines, counted


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Sandwich(Record, HasEvidence):
    """Both bounds on log Z, run by run, in nats.

    Attributes:
        num_particles: of each run.
        lower_runs: Float["R"], log Z_hat of runs from the base; their mean is the lower bound.
        upper_runs: Float["R"], log Z_hat of runs through exact draws; their mean is the upper bound.
        lower_fewest, upper_fewest: Float["R"], the smallest effective sample size that each run went through, particles.
        one_draw: whether all the upper runs went through one and the same exact draw, so that their spread does not tell
            what another draw would have given.
        proposal_log_weights: Float["K"], log weights p0 phi / q of paths drawn from the proposal q alone, no resampling;
            ``None`` where the proposal has no density to speak of.
        target_log_weights: Float["K"], the same of exact draws.
    """

    num_particles: int
    lower_runs: np.ndarray = arrays("run")
    upper_runs: np.ndarray = arrays("run")
    lower_fewest: np.ndarray = arrays("run")
    upper_fewest: np.ndarray = arrays("run")
    one_draw: bool = False
    proposal_log_weights: np.ndarray | None = arrays("proposed", default=None)
    target_log_weights: np.ndarray | None = arrays("exact", default=None)

    WEIGHTED_FOR = "the target: E[Z_hat] = Z of the lower runs, E[Z / Z_hat] = 1 of the upper ones"

    @property
    def lower(self) -> Bound:
        """The lower bound and its standard error."""
        return mean_bound(*self._from_below)

    @property
    def upper(self) -> Bound:
        """The upper bound and its standard error."""
        return mean_bound(*self._from_above)

    @property
    def gap(self) -> float:
        """Upper minus lower: a bound on how far the sampler is from the target, nats."""
        return self.upper.value - self.lower.value

    @property
    def evidence(self) -> Evidence:
        """log Z by the runs from the base, with its standard error from their spread."""
        log_z, floor = self._from_below
        return combine(log_z, np.full(log_z.size, math.nan), floor=floor)

    @property
    def log_z_runs(self) -> Float[np.ndarray, " R"]:
        """log Z_hat of each run from the base, nats: the lower runs."""
        return self.lower_runs

    @property
    def kl_proposal_target(self) -> tuple[float, float] | None:
        """KL(q || target) = log Z - E_q[log p0 phi / q] and its standard error; infinite where q leaves the target."""
        return self._divergence(self.proposal_log_weights, 1.0)

    @property
    def kl_target_proposal(self) -> tuple[float, float] | None:
        """KL(target || q) = E_target[log p0 phi / q] - log Z and its standard error."""
        return self._divergence(self.target_log_weights, -1.0)

    def interval(self, level: float = 0.99) -> tuple[float, float]:
        r"""An interval that holds log Z with at least this confidence.

        One-sided Student t intervals at both ends, and no less than counting allows. Where all upper runs share one exact draw,
        Markov's inequality at the upper end: the mean M of :math:`Z / \hat Z` over those runs has expectation one, so
        :math:`P(M \ge 1/\delta) \le \delta`.
        """
        tail = (1 - level) / 2
        low = self.lower.value - _reach(*self._from_below, tail)[0]
        if not self.one_draw:
            return low, self.upper.value + _reach(*self._from_above, tail)[1]
        runs, _ = self._from_above
        harmonic = -(np.logaddexp.reduce(-runs) - np.log(runs.size))
        return low, float(harmonic - np.log(tail))

    @property
    def crossed(self) -> bool:
        """Whether the ends are in the wrong order beyond error (four standard errors): a fault, not chance.

        Runs that share one exact draw do not know their own error, and are never said to have crossed.
        """
        return not self.one_draw and -self.gap > 4 * float(np.hypot(self.lower.se, self.upper.se))

    @property
    def _from_below(self) -> tuple[Runs, Floor]:
        return _counted(self.lower_runs, self.lower_fewest, self.num_particles)

    @property
    def _from_above(self) -> tuple[Runs, Floor]:
        return _counted(self.upper_runs, self.upper_fewest, self.num_particles)

    def _divergence(self, log_weights: np.ndarray | None, sign: float) -> tuple[float, float] | None:
        if log_weights is None:
            return None
        if not np.isfinite(log_weights).all():
            return float("inf"), 0.0
        wide = log_weights.astype(np.float64)
        se = float(wide.std(ddof=1)) / math.sqrt(wide.size)
        return sign * (self.log_z - float(wide.mean())), math.hypot(se, self.log_z_se)

    def _title(self) -> str:
        size = f"{self.num_particles} particles x {counted(self.lower_runs.size, 'run')} from each side"
        return f"smcinfer bounds: {size}"

    def _lines(self) -> Lines:
        low, high = self.interval()
        lines = [
            (
                "upper bound",
                f"{self.upper.value:.4f} ± {self.upper.se:.4f} nats{', given one exact draw' * self.one_draw}",
            ),
            ("lower bound", f"{self.lower.value:.4f} ± {self.lower.se:.4f} nats"),
            ("gap", f"{self.gap:.4f} nats; log Z in [{low:.4f}, {high:.4f}] with 99% confidence"),
        ]
        divergences = {"KL(q||target)": self.kl_proposal_target, "KL(target||q)": self.kl_target_proposal}
        lines += [(name, f"{kl[0]:.3f} ± {kl[1]:.3f} nats") for name, kl in divergences.items() if kl is not None]
        if self.crossed:
            lines.append(("CROSSED", "the lower end is above the upper one by more than chance: is the draw exact?"))
        return lines


def _counted(log_z: np.ndarray, fewest: Runs, num_particles: int) -> tuple[Runs, Floor]:
    """The runs of one end, and what counting says at least of their mean."""
    wide = log_z.astype(np.float64)
    return wide, floor_under(wide, fewest, num_particles, unit_of_rounding(log_z))


def _reach(log_z: Runs, floor: Floor, tail: float) -> tuple[float, float]:
    """How far below and above their mean the bound of some runs may be, nats."""
    if not np.isfinite(log_z).all():
        return math.inf, math.inf
    half = float(special.stdtrit(log_z.size - 1, 1 - tail)) * float(log_z.std(ddof=1)) / math.sqrt(log_z.size)
    below, above = floor.reach(tail)
    return max(half, below), max(half, above)
