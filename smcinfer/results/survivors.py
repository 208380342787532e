r"""What counting says of an estimate, whatever its runs say of themselves: a floor under its error bar.

Where k of n independent draws fall into a region, its probability is k / n, and k cannot tell it better than the binomial law
does. Two runs that both kept one particle agree exactly, and know next to nothing. So the estimate of log Z claims no more than

.. math:: \mathrm{se}^2 \ge \frac{1 - k/n + 1/n}{k}, \qquad
    \frac{B_{\alpha/2}(k, n - k + 1)}{k/n} \le \frac{Z}{\hat Z} \le \frac{B_{1 - \alpha/2}(k + 1, n - k)}{k/n}

with B the quantiles of beta laws: the interval of Clopper and Pearson, whose lower end is the rule of three where all n
survive. For weights that are not zero or one k is the effective sample size, at the step of each run that left the fewest;
other steps can only add to the error. Nor does it claim more than the rounding of the numbers that were summed.

Where the heaviest particle at the end has more than :math:`\sqrt N` times its share, what was not drawn may weigh as much
again, and no count tells it: the interval, though not the standard error, then takes for k how many of the heaviest make up
the whole.

Source: Clopper & Pearson (1934); Hanley & Lippman-Hand (1983) for the rule of three; Chatterjee & Diaconis (2018) for the
heaviest weight as what to look at.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from smcinfer.results.pooling import effective_sizes

Runs = Float[np.ndarray, " num_runs"]


class Floor(NamedTuple):
    """The least that is unknown of log Z.

    Attributes:
        survivors: k, the effective number of particles that the estimate rests on, over all runs.
        trials: n, the particles of all runs.
        rounding: one unit in the last place of the largest number that was summed, nats.
        heaviest: k of the interval: ``survivors``, or how many of the heaviest particles make up the whole.
    """

    survivors: float = math.inf
    trials: float = math.inf
    rounding: float = 0.0
    heaviest: float = math.inf

    @property
    def counting_se(self) -> float:
        """Standard error of log Z that the count alone gives, nats."""
        if math.isinf(self.survivors):
            return 0.0
        share = min(self.survivors / self.trials, 1.0)
        return math.sqrt((1.0 - share + 1.0 / self.trials) / self.survivors)

    @property
    def se(self) -> float:
        """The least standard error of log Z, nats."""
        return max(self.counting_se, self.rounding / 2)

    def reach(self, tail: float) -> tuple[float, float]:
        """How far below and above its estimate log Z may lie, each with probability ``tail`` at most to be farther; nats."""
        if math.isinf(self.survivors):
            return self.rounding, self.rounding
        k, n = min(self.survivors, self.heaviest, self.trials), self.trials
        lowest = float(special.betaincinv(k, n - k + 1.0, tail))
        highest = float(special.betaincinv(k + 1.0, n - k, 1.0 - tail)) if k < n else 1.0
        # Counts by the million leave a beta law narrower than its own rounding; an end is never on the wrong side.
        low, high = math.log(k / n) - math.log(lowest), math.log(highest) - math.log(k / n)
        return max(low, self.rounding), max(high, self.rounding)


NO_FLOOR = Floor()
"""Nothing was counted."""


def fewest(
    log_weights: Float[np.ndarray, "num_runs num_particles"],
    history: Mapping[str, np.ndarray],
    num_steps: Int[np.ndarray, " num_runs"],
) -> Runs:
    """The smallest effective sample size that each run's estimate went through, in particles.

    Weights count where they were used up: at the end, and around a resampling. The size that is recorded of a step is the
    smaller of what a look-ahead saw before its resampling and what the move left for the next. A run whose history was not
    kept is judged by its final weights alone.

    Args:
        log_weights: final ones, normalised within each run.
        history: what was recorded; ``ess`` and ``resampled`` are looked at, each (num_runs, at least num_steps + 1).
        num_steps: steps that each run took.
    """
    sizes = effective_sizes(log_weights)
    if not {"ess", "resampled"} <= set(history):
        return sizes
    resampled, recorded = history["resampled"].astype(bool), history["ess"].astype(np.float64)
    used = resampled.copy()
    used[:, :-1] |= resampled[:, 1:]
    used &= np.arange(used.shape[1]) <= num_steps[:, None]
    return np.minimum(sizes, np.where(used, recorded, np.inf).min(axis=1, initial=np.inf))


def collapsed(log_weights: Float[np.ndarray, "num_runs num_particles"]) -> Bool[np.ndarray, " num_runs"]:
    """Runs whose normalised weights are worth fewer than sqrt(N) of their N particles; not those without any weight."""
    sizes = effective_sizes(log_weights)
    return np.isfinite(sizes) & (sizes < math.sqrt(log_weights.shape[1]))


def heaviest(log_weights: Float[np.ndarray, "num_runs num_particles"], fewest: Runs) -> Runs:
    """How many of a run's heaviest particles make up the whole, where these have more than sqrt(N) times their share.

    Args:
        log_weights: final ones, normalised within each run.
        fewest: what stands elsewhere.
    """
    whole = np.exp(-log_weights.astype(np.float64).max(axis=1))
    return np.where(whole < math.sqrt(log_weights.shape[1]), np.minimum(whole, fewest), fewest)


def floor_under(log_z: Runs, fewest: Runs, num_particles: int, rounding: float, heaviest: Runs | None = None) -> Floor:
    r"""The floor under the mean of :math:`\hat Z_r`: runs count by their share :math:`\omega_r` of it.

    .. math:: k = \Bigl( \sum_r \omega_r^2 / k_r \Bigr)^{-1}, \qquad n = R N

    which adds up the counts of runs where weights are zero or one.

    Args:
        log_z: log of each Z_hat, nats.
        fewest: k_r, of each run.
        num_particles: N.
        rounding: of the largest number that was summed, nats.
        heaviest: as `heaviest` gives them; ``fewest`` where ``None``.
    """
    total = np.logaddexp.reduce(log_z)
    if not math.isfinite(total):
        return Floor(rounding=rounding)
    alive = np.isfinite(log_z)
    shares = np.exp(log_z[alive] - total)
    counts = (1.0 / float(np.sum(shares**2 / of[alive])) for of in (fewest, fewest if heaviest is None else heaviest))
    survivors, heavy = counts
    return Floor(survivors, float(log_z.size * num_particles), rounding, heavy)


def unit_of_rounding(*summed: np.ndarray) -> float:
    """One unit in the last place of the largest finite number among some arrays, in the coarsest of their precisions."""
    largest = max(float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0)) for values in summed)
    coarsest = max((np.finfo(values.dtype) for values in summed), key=lambda found: float(found.eps))
    return float(np.spacing(coarsest.dtype.type(largest)))
