r"""How good a forecast was, once it is known what came: proper scores, smaller loss for the truth than for any other law.

.. math:: \mathrm{CRPS} = E|X - y| - \tfrac12 E|X - X'|
"""

from typing import Any

import numpy as np


def crps(draws: Any, outcome: Any) -> np.ndarray:
    """Continuous ranked probability score of equally weighted draws, in the unit of the outcome; smaller is better.

    Unbiased for the score of the law that was drawn from: pairs are counted without the draws' own.

    Args:
        draws: (M, ...), M at least 2.
        outcome: (...), what came; NaN where it is not known.

    Returns:
        (...), NaN where the outcome is.

    Source: Gneiting & Raftery (2007), section 4.2; Ferro (2014) for the unbiased form.
    """
    ranked = np.sort(np.asarray(draws, np.float64), axis=0)
    count = ranked.shape[0]
    places = (2.0 * np.arange(count) - count + 1.0).reshape(-1, *(1,) * (ranked.ndim - 1))
    spread = np.sum(places * ranked, axis=0) / (count * (count - 1.0))
    return np.asarray(np.mean(np.abs(ranked - np.asarray(outcome, np.float64)), axis=0) - spread)
