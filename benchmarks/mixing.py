"""How well chains mix: the integrated autocorrelation time of a scalar, from many chains at once."""

import numpy as np
from numpy.typing import NDArray


def iat(values: NDArray[np.float64]) -> float:
    r"""Integrated autocorrelation time :math:`1 + 2 \sum_{k \ge 1} \rho_k`, in transitions, at least one for slow chains.

    Geyer's estimate: autocovariances averaged over chains, all centred at the one mean of them all, summed in pairs as long
    as the pairs are positive, and no pair counted larger than the one before. Where it is beyond chance the larger, the
    variance of the chains' means times their length over the variance of a value, which sees what is slower than a chain
    is long. Neither can say more than the chains' length: a value near that is a lower bound.

    Args:
        values: (chains, draws).

    Source: Geyer (1992), section 3.3.
    """
    chains, draws = values.shape
    centred = np.asarray(values, np.float64) - values.mean()
    variance = np.mean(centred**2)
    if not variance > 0:
        return float(draws)
    spectrum = np.fft.rfft(centred, 2 * draws, axis=1)
    correlation = np.fft.irfft(np.mean(np.abs(spectrum) ** 2, axis=0))[:draws] / draws / variance
    pairs = correlation[: draws // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: negative[0] if negative.size else len(pairs)])
    from_means = draws * np.var(values.mean(axis=1), ddof=1) / variance if chains > 1 else 0.0
    initial = max(2.0 * pairs.sum() - 1.0, 1.0 / draws)
    # Its relative standard error is the root of 2 / (chains - 1): a fifth for 64 chains.
    return float(from_means if from_means > 2.0 * initial else initial)
