"""Both bounds on log Z, with their errors, and how far the proposal is from the target."""

import dataclasses

import numpy as np
from scipy import stats

from smcinfer.core.status import explain
from smcinfer.ground.arrays import Float


@dataclasses.dataclass(frozen=True)
class Sandwich:
    """Both bounds on log Z, run by run, in nats.

    Attributes:
        lower_runs: Float["R"], log Z_hat of runs from the base; their mean is the lower bound.
        upper_runs: Float["R"], log Z_hat of runs through exact draws; their mean is the upper bound.
        status: bits of all runs.
        one_draw: whether all the upper runs went through one and the same exact draw, so that their spread does not tell
            what another draw would have given.
        proposal_log_weights: Float["K"], log weights p0 phi / q of paths drawn from the proposal q alone, no resampling;
            ``None`` where the proposal has no density to speak of.
        target_log_weights: Float["K"], the same of exact draws.
    """

    lower_runs: Float[np.ndarray, " R"]
    upper_runs: Float[np.ndarray, " R"]
    status: int
    one_draw: bool = False
    proposal_log_weights: Float[np.ndarray, " K"] | None = None
    target_log_weights: Float[np.ndarray, " K"] | None = None

    @property
    def lower(self) -> tuple[float, float]:
        """The lower bound and its standard error."""
        return _mean(self.lower_runs)

    @property
    def upper(self) -> tuple[float, float]:
        """The upper bound and its standard error."""
        return _mean(self.upper_runs)

    @property
    def gap(self) -> float:
        """Upper minus lower: a bound on how far the sampler is from the target, nats."""
        return self.upper[0] - self.lower[0]

    @property
    def log_z(self) -> tuple[float, float]:
        """log of the mean of Z_hat over the runs from the base, and its standard error (delta method)."""
        top = self.lower_runs.max()
        ratios = np.exp(self.lower_runs - top)
        mean, se = _mean(ratios)
        return float(top + np.log(mean)), se / mean

    @property
    def kl_proposal_target(self) -> tuple[float, float] | None:
        """KL(q || target) = log Z - E_q[log p0 phi / q] and its standard error; infinite where q leaves the target."""
        return self._divergence(self.proposal_log_weights, 1.0)

    @property
    def kl_target_proposal(self) -> tuple[float, float] | None:
        """KL(target || q) = E_target[log p0 phi / q] - log Z and its standard error."""
        return self._divergence(self.target_log_weights, -1.0)

    def _divergence(self, log_weights: np.ndarray | None, sign: float) -> tuple[float, float] | None:
        if log_weights is None:
            return None
        if not np.isfinite(log_weights).all():
            return float("inf"), 0.0
        mean, se = _mean(log_weights)
        log_z, log_z_se = self.log_z
        return sign * (log_z - mean), float(np.hypot(se, log_z_se))

    def interval(self, level: float = 0.99) -> tuple[float, float]:
        r"""An interval that holds log Z with at least this confidence.

        One-sided Student t intervals at both ends. Where all upper runs share one exact draw, Markov's inequality at the
        upper end: the mean M of :math:`Z / \hat Z` over those runs has expectation one, so
        :math:`P(M \ge 1/\delta) \le \delta`.
        """
        delta = (1 - level) / 2
        quantile = float(stats.t.ppf(1 - delta, len(self.lower_runs) - 1))
        low = self.lower[0] - quantile * self.lower[1]
        if not self.one_draw:
            return low, self.upper[0] + quantile * self.upper[1]
        harmonic = -(np.logaddexp.reduce(-self.upper_runs) - np.log(len(self.upper_runs)))
        return low, float(harmonic - np.log(delta))

    @property
    def crossed(self) -> bool:
        """Whether the ends are in the wrong order beyond error (four standard errors): a fault, not chance.

        Runs that share one exact draw do not know their own error, and are never said to have crossed.
        """
        return not self.one_draw and -self.gap > 4 * float(np.hypot(self.lower[1], self.upper[1]))

    def __str__(self) -> str:
        low, high = self.interval()
        lines = [
            f"upper bound  {self.upper[0]:.4f} ± {self.upper[1]:.4f} nats{', given one exact draw' * self.one_draw}",
            f"lower bound  {self.lower[0]:.4f} ± {self.lower[1]:.4f} nats",
            f"gap          {self.gap:.4f} nats; log Z in [{low:.4f}, {high:.4f}] with 99% confidence",
        ]
        divergences = {"KL(q||target)": self.kl_proposal_target, "KL(target||q)": self.kl_target_proposal}
        lines += [f"{name} {kl[0]:.3f} ± {kl[1]:.3f} nats" for name, kl in divergences.items() if kl is not None]
        if self.crossed:
            lines.append("CROSSED: the lower end is above the upper one by more than chance: is the draw exact?")
        return "\n".join(lines + explain(self.status))


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
