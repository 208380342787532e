"""What parallel tempering returns: chains at the target, and log Z from the chains at all exponents."""

import dataclasses
import functools

import numpy as np

from smcinfer.results.chains import Chains
from smcinfer.results.evidence import Evidence, HasEvidence, combine
from smcinfer.results.mixture import fixed_point
from smcinfer.results.record import arrays
from smcinfer.results.words import Lines, counted


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TemperedChains(Chains, HasEvidence):
    """Draws of the top rungs of several ladders, and what the other rungs say of log Z.

    Attributes:
        exponents: Float["rungs"], from 0 to 1.
        potentials: Float["num_chains num_draws rungs"], log target minus log base of the states on all rungs, nats.
        swap_rejection: Float["num_chains pairs"], mean probability that a pair of neighbours did not swap.
        round_trips: Int["num_chains"], states that came from the foot to the top and back while draws were made.
    """

    exponents: np.ndarray = arrays("rung")
    potentials: np.ndarray = arrays("chain", "draw", "rung")
    swap_rejection: np.ndarray = arrays("chain", "pair")
    round_trips: np.ndarray = arrays("chain")

    WEIGHTED_FOR = "the target once a chain has forgotten its start; log Z from all rungs is consistent, not unbiased"

    @functools.cached_property
    def log_z_runs(self) -> np.ndarray:
        """log Z of each ladder, nats: all its draws are one mixture of its exponents' laws (Shirts & Chodera 2008)."""
        exponents = self.exponents.astype(np.float64)
        shares = np.full((exponents.size, self.num_draws), -np.log(self.num_draws))
        runs = np.moveaxis(self.potentials.astype(np.float64), 2, 1)
        return np.asarray([fixed_point(exponents, run, shares, stepping_stones(exponents, run))[0] for run in runs])

    @functools.cached_property
    def evidence(self) -> Evidence:
        """log Z with its standard error from the spread between ladders."""
        return combine(self.log_z_runs, np.full(self.num_chains, np.nan))

    @property
    def barrier(self) -> float:
        """The sum of the refusals along the ladder: about twice as many rungs serve best."""
        return float(self.swap_rejection.mean(axis=0).sum())

    def _title(self) -> str:
        size = f"{self.num_draws} draws x {counted(self.num_chains, 'ladder')}"
        return f"smcinfer parallel tempering: {self.settings['kernel']}, {self.exponents.size} rungs, {size}"

    def _lines(self) -> Lines:
        low, high = self.log_z_interval()
        refused, evals = self.swap_rejection.mean(axis=0), self.num_evals.sum(dtype=np.float64)
        wanted = int(np.ceil(2 * self.barrier)) + 1
        more = f"; {wanted} rungs would serve better" if wanted > 1.5 * self.exponents.size else ""
        return [
            ("log Z", f"{self.log_z:.3f} +- {self.log_z_se:.3f}, 99% interval [{low:.3f}, {high:.3f}]"),
            *self._agreement(),
            (
                "swaps",
                f"refused {refused.min():.2f} to {refused.max():.2f} of the time, barrier {self.barrier:.1f}{more}",
            ),
            ("round trips", f"{self.round_trips.min()} to {self.round_trips.max()} a ladder"),
            (
                "evaluations",
                f"{self.evals_per_step:.3g} a step of a ladder, {evals:.2g} for the draws",
            ),
            ("acceptance", f"mean {self.acceptance.mean():.2f}"),
            ("warm-up", f"{self.settings['num_warmup']} steps a ladder"),
        ]


def stepping_stones(exponents: np.ndarray, potentials: np.ndarray) -> np.ndarray:
    r"""log Z of every exponent by importance sampling from the one below; a start for better estimates.

    .. math:: \log Z_{l+1} - \log Z_l = \log \frac1n \sum_i e^{(\lambda_{l+1} - \lambda_l) \Phi(x_i^l)}

    Args:
        exponents: Float["rungs"].
        potentials: Float["rungs draws"], nats; minus infinity outside the support.
    """
    powers = np.diff(exponents)[:, None] * potentials[:-1]
    rises = np.logaddexp.reduce(powers, axis=1) - np.log(potentials.shape[1])
    # Where no draw below was inside the support nothing is known yet.
    return np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(rises), rises, 0.0))])
