r"""Every draw of a tempering run counts: one mixture of all its exponents.

With :math:`n_s` draws at exponent :math:`\lambda_s` all of them together are draws of a mixture, in which the base cancels:

.. math:: Z_s = \sum_i \frac{e^{\lambda_s \Phi_i}}{D_i}, \qquad
    D_i = \sum_r n_r \frac{e^{\lambda_r \Phi_i}}{Z_r}, \qquad Z_0 = 1,

iterated to its fixed point. For the target draw i weighs :math:`e^{\Phi_i} / D_i`. No likelihood is evaluated again. It is
consistent, not unbiased, and draws of one exponent depend on those of the one before: its error is told between runs.

Source: Shirts & Chodera (2008), equation 11.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from smcinfer.ground.errors import ArgumentError
from smcinfer.results import evidence
from smcinfer.results.evidence import Evidence, HasEvidence
from smcinfer.results.pooling import combine_runs, jackknife_se, weighted_mean

TOLERANCE = 1e-5
MOST_ROUNDS = 500
POTENTIAL = "particles.log_potential"


@dataclasses.dataclass(frozen=True, eq=False)
class Pooled(HasEvidence):
    """What all exponents of a run say together; consistent, not unbiased.

    Attributes:
        log_z_runs: Float["num_runs"], of each run, nats.
        log_weights: Float["num_runs steps num_particles"], of the draws of every step for the target, normalised within runs.
        evidence: log Z with its error from the spread between runs.
    """

    log_z_runs: np.ndarray
    log_weights: np.ndarray
    evidence: Evidence

    def expectation(self, values: np.ndarray) -> tuple[np.ndarray | np.floating, np.ndarray | np.floating]:
        """Mean of a quantity under the target and its standard error, from the draws of all steps.

        Args:
            values: (num_runs, steps, num_particles, ...), such as ``result.history["particles.position"]``.
        """
        runs = self.log_weights.shape[0]
        if values.shape[:3] != self.log_weights.shape:
            raise ArgumentError("values are not those of all draws", expected=self.log_weights.shape, got=values.shape)
        flat = values.reshape(runs, -1, *values.shape[3:])
        means = weighted_mean(flat, np.exp(self.log_weights.reshape(runs, -1)))
        return combine_runs(means, self.log_z_runs), jackknife_se(means, self.log_z_runs)


def pool(
    history: Mapping[str, np.ndarray],
    num_steps: Int[np.ndarray, " num_runs"],
    log_z_runs: Float[np.ndarray, " num_runs"],
) -> Pooled:
    """The pooled estimates of a tempering run that recorded its particles.

    Args:
        history: of a result with ``history="full"``.
        num_steps: steps of each run.
        log_z_runs: the plain estimates, where the iteration starts.
    """
    if not {POTENTIAL, "exponent", "log_weights", "log_z_increment"} <= set(history):
        raise ArgumentError(
            "nothing to pool: the particles of the way were not kept",
            expected='a tempering run with history="full"',
            got=sorted(history),
        )
    potential = history[POTENTIAL].astype(np.float64)
    weights = np.full_like(potential, -np.inf)
    log_z = np.full(log_z_runs.shape, -np.inf)
    for run in np.flatnonzero(np.isfinite(log_z_runs)):
        taken = slice(0, int(num_steps[run]) + 1)
        exponents = history["exponent"][run, taken].astype(np.float64)
        first = np.cumsum(history["log_z_increment"][run, taken].astype(np.float64))
        shares = history["log_weights"][run, taken].astype(np.float64)
        log_z[run], weights[run, taken] = fixed_point(exponents, potential[run, taken], shares, first)
    return Pooled(log_z, weights, evidence.combine(log_z, np.full(log_z.shape, np.nan)))


def fixed_point(
    exponents: Float[np.ndarray, " s"],
    potential: Float[np.ndarray, "s n"],
    log_shares: Float[np.ndarray, "s n"],
    log_z: Float[np.ndarray, " s"],
) -> tuple[float, Float[np.ndarray, "s n"]]:
    """log Z of one run, and normalised log weights of its draws.

    Args:
        exponents: of every step, from 0 to 1.
        potential: of every draw.
        log_shares: weights of every draw within its step; a step counts n draws in all.
        log_z: where to start, a step each.
    """
    size = potential.shape[1]
    flat, counts = potential.reshape(-1), (log_shares + np.log(size)).reshape(-1)
    alive = (counts > -np.inf) & (flat > -np.inf)
    flat, counts = flat[alive], counts[alive]
    powers = exponents[:, None] * flat
    log_z = log_z - log_z[0]
    # Draws of zero likelihood are draws of the base all the same: there they are its whole part outside.
    outside = 1.0 - np.exp(np.logaddexp.reduce(counts[: np.count_nonzero(alive[:size])]) - np.log(size))
    for _ in range(MOST_ROUNDS):
        log_terms = counts - np.logaddexp.reduce(powers - log_z[:, None], axis=0) - np.log(size)
        new = np.logaddexp.reduce(powers + log_terms, axis=1)
        new = new - new[0] + np.log1p(-outside)
        new[0] = 0.0
        change = float(np.max(np.abs(new - log_z)))
        log_z = new
        if change < TOLERANCE:
            break
    log_weights = np.full(potential.size, -np.inf)
    log_weights[alive] = flat + log_terms
    log_weights -= np.logaddexp.reduce(log_weights)
    return float(log_z[-1]), log_weights.reshape(potential.shape)
