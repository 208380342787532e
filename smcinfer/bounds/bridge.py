r"""Bridge sampling: the ratio of two evidences from draws of both, with no path between them.

.. math:: r = \frac{Z_1}{Z_2} = \frac{E_2[\gamma_1 h]}{E_1[\gamma_2 h]}, \qquad h = \frac{1}{\gamma_1 + r \gamma_2}

iterated to its fixed point, which has the least variance of all h for equally many draws. It is consistent, not unbiased,
and good where the two laws overlap: two priors for one likelihood, say, or two likelihoods that agree on the parameters.

Source: Meng & Wong (1996), equations 3.3 and 4.1.
"""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.results import Result
from smcinfer.results.evidence import Bound
from smcinfer.static.target import StaticTarget

TOLERANCE = 1e-8
MOST_ROUNDS = 1000

Draws = Float[np.ndarray, "num_runs num_particles"]


def bridge(first: StaticTarget, first_result: Result, second: StaticTarget, second_result: Result) -> Bound:
    """log of the ratio of the first target's evidence to the second's.

    Args:
        first, second: targets with the same parameters, on the same space.
        first_result, second_result: draws of each, as many runs of both.

    Returns:
        log Z_1 - log Z_2 with its standard error from the spread between pairs of runs (NaN for one), nats.

    Raises:
        ArgumentError: for results of different numbers of runs.
        TargetError: where the parameters cannot be taken to the unconstrained space.
    """
    results = [first_result, second_result]
    for one in results:
        validate.instance("result", one, Result, "what smcinfer.sample returned")
    if results[0].num_runs != results[1].num_runs:
        raise ArgumentError(
            "the two results have different numbers of runs", expected=results[0].num_runs, got=results[1].num_runs
        )
    if any(set(one.particles) != set(results[0].particles) for one in results):
        raise ArgumentError(
            "the two results are not of the same parameters",
            expected=list(results[0].particles),
            got=list(results[1].particles),
        )
    rises = [_log_density(first, one) - _log_density(second, one) for one in results]
    shares = [one.log_weights.astype(np.float64) for one in results]
    ratios = [log_ratio(*pair) for pair in zip(rises[0], shares[0], rises[1], shares[1], strict=True)]
    spread = float(np.std(ratios, ddof=1)) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
    return Bound(float(np.mean(ratios)), spread)


def log_ratio(
    first_rises: Float[np.ndarray, " n"],
    first_shares: Float[np.ndarray, " n"],
    second_rises: Float[np.ndarray, " m"],
    second_shares: Float[np.ndarray, " m"],
) -> float:
    r"""log r of the module, by iteration from the middle of the rises.

    Args:
        first_rises, second_rises: :math:`\log \gamma_1 - \log \gamma_2` at the draws of each law, nats.
        first_shares, second_shares: their normalised log weights.
    """
    finite = np.concatenate([first_rises, second_rises])
    log_r = float(np.median(finite[np.isfinite(finite)], axis=0)) if np.isfinite(finite).any() else 0.0
    for _ in range(MOST_ROUNDS):
        above = np.logaddexp.reduce(second_shares + second_rises - np.logaddexp(second_rises, log_r))
        below = np.logaddexp.reduce(first_shares - np.logaddexp(first_rises, log_r))
        new = float(above - below)
        if abs(new - log_r) < TOLERANCE:
            return new
        log_r = new
    return log_r


def _log_density(target: StaticTarget, result: Result) -> Draws:
    """Unnormalised log density at every particle, on the vectors of the target."""
    unconstrain = target.unconstrain
    if unconstrain is None:
        raise TargetError(
            "the target cannot take its parameters to the unconstrained space", expected="unconstrain", got=None
        )
    density = eqx.filter_jit(jax.vmap(jax.vmap(lambda values: target.log_prob(unconstrain(values)))))
    return np.asarray(density({name: jax.numpy.asarray(value) for name, value in result.particles.items()}), np.float64)
