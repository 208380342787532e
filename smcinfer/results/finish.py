r"""Independent draws that finish a run: another unbiased estimate of Z, joined to it by variance.

.. math:: \hat Z = w \hat Z_1 + (1 - w) \hat Z_2, \qquad w = \frac{v_2}{v_1 + v_2}

with v the relative variances of the run's estimate and of the draws'. For any w that nothing chose by these estimates the
sum is unbiased.
"""

import math
from typing import NamedTuple

from smcinfer.results.evidence import Evidence

HEAVY = 0.7
"""Shape of a generalised Pareto tail from which on weights have no variance that draws could tell."""

APART = 4.0
"""Standard errors by which two estimates of log Z differ that are not of one number."""


class Finish(NamedTuple):
    """What independent draws from a mixture fitted to a run's particles say of log Z.

    Attributes:
        log_z, log_z_se: the estimate and its standard error, nats.
        num_draws: as many evaluations of the target.
        effective: how many draws of the target they are worth.
        tail: shape of the generalised Pareto law of the largest weights.
    """

    log_z: float
    log_z_se: float
    num_draws: int
    effective: float
    tail: float

    @property
    def sound(self) -> bool:
        """Whether the weights have a variance that the draws could tell."""
        return math.isfinite(self.log_z_se) and self.tail < HEAVY

    def contradicts(self, run: Evidence) -> bool:
        """Whether the run's estimate differs by more than chance, which only a region that one of them missed can do."""
        apart = abs(self.log_z - run.log_z)
        return self.sound and math.isfinite(run.se) and apart > APART * math.hypot(self.log_z_se, run.se)

    def joined(self, run: Evidence) -> Evidence:
        """The run's estimate with these draws; as it is where they are not sound, or contradict it.

        Args:
            run: log Z of the run.
        """
        if not self.sound or self.contradicts(run):
            return run
        if not (math.isfinite(run.se) and run.se > 0):
            return run
        own, drawn = run.se**2, self.log_z_se**2
        share = drawn / (own + drawn)
        log_z = math.log(share * math.exp(run.log_z - self.log_z) + 1.0 - share) + self.log_z
        parts = ((share**2 * own, max(run.degrees, 1.0)), ((1.0 - share) ** 2 * drawn, self.effective))
        variance = sum(part for part, _ in parts)
        degrees = variance**2 / sum(part**2 / count for part, count in parts)
        return Evidence(log_z, math.sqrt(variance), degrees, "the run and independent draws, by variance")
