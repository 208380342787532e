r"""Bridge sampling: the ratio of two normalisers from draws of both laws.

.. math:: r = \frac{Z_1}{Z_2} = \frac{\frac1{n_2} \sum_j \frac{l_j}{s_1 l_j + s_2 r}}
                                     {\frac1{n_1} \sum_i \frac{1}{s_1 l_i + s_2 r}},
    \qquad l = \gamma_1 / \gamma_2, \quad s_k = n_k / (n_1 + n_2)

with i over draws of the first law and j over draws of the second, solved for r by iteration. Its relative squared error is

.. math:: \frac{1}{n_2} \frac{\mathrm{Var}_2 f_1}{(E_2 f_1)^2} + \frac{\tau}{n_1} \frac{\mathrm{Var}_1 f_2}{(E_1 f_2)^2},
    \qquad f_k = \frac{\gamma_k / Z_k}{s_1 \gamma_1 / Z_1 + s_2 \gamma_2 / Z_2}

where :math:`\tau` is what the draws of a Markov chain lose by being correlated.

Sources: Meng & Wong (1996), section 4; Fruehwirth-Schnatter (2004), equation 16; Gronau et al. (2017).
"""

import warnings
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError, TargetError, surfacing
from smcinfer.ground.programs import compiled
from smcinfer.results import Result
from smcinfer.results.evidence import Bound, Evidence
from smcinfer.results.pooling import resample
from smcinfer.run.runner import as_typed_key
from smcinfer.static.draws import vectors_of
from smcinfer.static.student_mixture import StudentMixture
from smcinfer.static.target import StaticTarget

MOST_ITERATIONS = 1000
TOLERANCE = 1e-10


class Bridge(NamedTuple):
    """The log of a ratio of normalisers, its standard error, and how many independent draws the first law's are worth."""

    log_ratio: float
    se: float
    effective: float


def bridge(first: Float[np.ndarray, "chains n"], second: Float[np.ndarray, " m"]) -> Bridge:
    r"""The log ratio of the normalisers of two laws (module equation).

    Args:
        first: :math:`\log \gamma_1 - \log \gamma_2` at draws of the first law, by chain, nats.
        second: the same at independent draws of the second law.

    Raises:
        TargetError: the laws do not overlap: no draw of either has weight under both.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    if np.isnan(first).any() or np.isnan(second).any() or not np.isfinite(first).all():
        raise TargetError(
            "a log density is not a number at some draws",
            expected="finite at draws of the first law",
            got="NaN or infinity",
        )
    if not np.isfinite(second).any():
        raise TargetError("the two laws do not overlap", expected="draws of either with weight under both", got="none")
    counts = np.asarray([_worth(first), second.size])
    log_s1, log_s2 = np.log(counts / counts.sum())

    def terms(log_r: float) -> tuple[np.ndarray, np.ndarray]:
        """log of f_2 at draws of the first law and of f_1 at draws of the second, for Z_2 = 1."""
        low = -np.logaddexp(log_s1 + first - log_r, log_s2)
        high = second - log_r - np.logaddexp(log_s1 + second - log_r, log_s2)
        return low, high

    log_r = float(np.median(first))
    for _ in range(MOST_ITERATIONS):
        low, high = terms(log_r)
        step = _log_mean(high) - _log_mean(low)
        log_r += step
        if abs(step) < TOLERANCE:
            break
    low, high = (np.exp(part) for part in terms(log_r))
    effective = _worth(low)
    squared = high.var() / high.mean() ** 2 / high.size + low.var() / low.mean() ** 2 / effective
    return Bridge(log_r, float(np.sqrt(squared)), effective)


def bridge_sampling(key: Any, target: StaticTarget, draws: Any, *, num_reference: int | None = None) -> Evidence:
    """log Z of a target from draws of it that exist, of any sampler, and its error.

    Half of the draws of each chain tell a Student mixture; the other half and draws of the mixture tell log Z. It asks more of
    the draws than a run from them does (`smcinfer.reference_from`): they must be draws of the whole target, and no
    bound comes with it.

    Args:
        key: one random key, for the draws of the mixture.
        target: a static target.
        draws: as of `smcinfer.reference_from`.
        num_reference: draws of the mixture; as many as there are of the target where ``None``.

    Returns:
        `Evidence`: ``log_z``, ``se`` and ``interval``, nats.

    Raises:
        ArgumentError: the draws do not fit the target.
        TargetError: the target is not finite at some draw, or the mixture does not overlap it.
    """
    validate.instance("target", target, StaticTarget, "smcinfer.posterior(...)")
    vectors = vectors_of(draws, target)
    half = vectors.shape[1] // 2
    if half < 2:
        raise ArgumentError(
            "chains are too short to be halved", expected="at least 4 draws a chain", got=vectors.shape[1]
        )
    law = StudentMixture.fit(vectors[:, :half].reshape(-1, target.dim))
    rest = vectors[:, half:]
    count = rest.shape[0] * rest.shape[1] if num_reference is None else validate.count("num_reference", num_reference)
    with surfacing():
        made = law.sample(as_typed_key(key), count)
        dtype = made.dtype
        first = _log_ratio(target, law, rest.reshape(-1, target.dim).astype(dtype)).reshape(rest.shape[:2])
        second = _log_ratio(target, law, made)
    found = bridge(np.asarray(first), np.where(np.isnan(second), -np.inf, second))
    source = "bridge sampling between the draws and a mixture fitted to the others"
    return Evidence(found.log_ratio, found.se, max(1.0, found.effective - 1.0), source)


def evidence_ratio(first: StaticTarget, first_result: Result, second: StaticTarget, second_result: Result) -> Bound:
    """log of the ratio of two evidences, from draws of both and no path between them.

    It is good where the two laws overlap: two priors for one likelihood, say.

    Args:
        first, second: targets with the same parameters, on the same unconstrained space.
        first_result, second_result: what `smcinfer.sample` returned for each, as many runs of both.

    Returns:
        log Z_1 - log Z_2 with its standard error from the spread between pairs of runs (NaN for one), nats.

    Raises:
        ArgumentError: the results have different numbers of runs, or other parameters.
        TargetError: the laws do not overlap, or the parameters cannot be taken to the unconstrained space.
    """
    results = [first_result, second_result]
    for one in results:
        validate.instance("result", one, Result, "what smcinfer.sample returned")
    runs, names = ([one.num_runs for one in results], [sorted(one.particles) for one in results])
    if runs[0] != runs[1]:
        raise ArgumentError("the two results have different numbers of runs", expected=runs[0], got=runs[1])
    if names[0] != names[1]:
        raise ArgumentError("the two results are not of the same parameters", expected=names[0], got=names[1])
    rises = [_log_density(first, one) - _log_density(second, one) for one in results]
    # Equally weighted draws of each run.
    chosen = [[resample(run, one.log_weights[run], one.num_particles) for run in range(runs[0])] for one in results]
    pairs = [[rise[run][draws[run]] for rise, draws in zip(rises, chosen, strict=True)] for run in range(runs[0])]
    ratios = [bridge(each[None], other).log_ratio for each, other in pairs]
    spread = float(np.std(ratios, ddof=1)) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
    return Bound(float(np.mean(ratios)), spread)


def _log_density(target: StaticTarget, result: Result) -> Float[np.ndarray, "num_runs num_particles"]:
    """Unnormalised log density at every particle, on the vectors of the target."""
    unconstrain = target.unconstrain
    if unconstrain is None:
        raise TargetError(
            "the target cannot take its parameters to the unconstrained space", expected="unconstrain", got=None
        )
    density = compiled(jax.vmap(jax.vmap(lambda values: target.log_prob(unconstrain(values)))))
    return np.asarray(density({name: jax.numpy.asarray(value) for name, value in result.particles.items()}), np.float64)


@compiled
def _log_ratio(target: StaticTarget, law: StudentMixture, x: Any) -> Any:
    return jax.vmap(lambda x: target.log_prob(x) - law.log_density(x))(x)


def _log_mean(log_values: np.ndarray) -> float:
    return float(np.logaddexp.reduce(log_values, axis=None) - np.log(log_values.size))


def _worth(values: Float[np.ndarray, "chains n"]) -> float:
    """How many independent draws the mean over chains is worth."""
    from arviz_stats.base.array import array_stats

    if values.shape[1] < 4 or values.std() == 0:
        return float(values.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        worth = float(array_stats.ess(values, chain_axis=0, draw_axis=1, method="mean"))
    return min(worth, float(values.size)) if np.isfinite(worth) else float(values.size)
