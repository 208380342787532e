"""The table of a result: weighted moments and quantiles of every scalar, with their Monte Carlo error."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from smcinfer.ground.lazy import Later
from smcinfer.results.estimates import Estimates
from smcinfer.results.pooling import combine_runs, jackknife_se, weighted_mean

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Later("pandas")

QUANTILES = (0.05, 0.5, 0.95)


def scalars(particles: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Every scalar of every variable, as ``name`` or ``name[i, j]``, with its values (num_runs, num_particles)."""
    for name, values in particles.items():
        for index in np.ndindex(values.shape[2:]):
            label = f"{name}[{', '.join(map(str, index))}]" if index else name
            yield label, values[(slice(None), slice(None), *index)]


def weighted_quantiles(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], levels: Sequence[float]
) -> Float[np.ndarray, " k"]:
    """Quantiles of a weighted sample, each value standing at the middle of its own weight.

    Args:
        values: Float["n"].
        weights: Float["n"], need not be normalised; values of weight zero do not count.
        levels: in [0, 1].

    Returns:
        One value a level; NaN where every weight is zero.
    """
    kept = weights > 0
    if not kept.any():
        return np.full(len(levels), np.nan)
    order = np.argsort(values[kept], kind="stable")
    values, weights = values[kept][order], weights[kept][order]
    middles = (np.cumsum(weights) - weights / 2) / weights.sum()
    return np.interp(levels, middles, values)


def summary_table(result: Estimates) -> "pd.DataFrame":
    r"""Mean, sd, quantiles, Monte Carlo standard error and effective sample size of every scalar.

    ``mcse`` is the jackknife over runs (NaN for one run). ``ess`` is :math:`\mathrm{sd}^2 / \mathrm{mcse}^2`, how many
    independent draws would give that error, never more than the effective sample size of the weights; with few
    runs it is a rough figure, its relative standard deviation being :math:`\sqrt{2 / (R - 1)}`.

    Args:
        result: the weighted particles.

    Returns:
        One row a scalar, with columns mean, sd, 5%, 50%, 95%, mcse, ess.
    """
    weights = np.exp(result.log_weights.astype(np.float64))
    pooled = np.exp(result.pooled_log_weights).reshape(-1)
    log_z = result.log_z_runs.astype(np.float64)
    cap = result.ess_total
    labels, rows = [], []
    for label, raw in scalars(result.particles):
        values = raw.astype(np.float64)
        means = weighted_mean(values, weights)
        mean, mcse = float(combine_runs(means, log_z)), float(jackknife_se(means, log_z))
        sd = float(np.sqrt(combine_runs(weighted_mean((values - mean) ** 2, weights), log_z)))
        quantiles = weighted_quantiles(values.reshape(-1), pooled, QUANTILES)
        ess = min(cap, (sd / mcse) ** 2) if mcse > 0 else (cap if mcse == 0 else np.nan)
        labels.append(label)
        rows.append([mean, sd, *quantiles, mcse, ess])
    columns = ["mean", "sd", *(f"{level:.0%}" for level in QUANTILES), "mcse", "ess"]
    # By position: an array `x` and a scalar called `x[0]` are two rows with one label.
    return pd.DataFrame(rows, index=labels, columns=columns, dtype=np.float64)
