r"""Phase transitions: exponents at which a path of powers must cross from one kind of point to another at once.

With P(h) the share of the base whose potential is above h, the cloud at exponent :math:`\lambda` sits where
:math:`\lambda h + \log P(h)` is largest. Where that has two peaks for some :math:`\lambda`, the cloud has two phases, and a
share of about :math:`e^{-\text{depth}}` of it is between them: no cloud of fewer particles crosses. Levels pass all heights
one after another and know P.

Source: Skilling (2006), section 18.
"""

import numpy as np
from jaxtyping import Float

EXPONENTS = np.linspace(0.005, 1.0, 200)

DEPTH = 3.0
"""Depth of a valley between two phases from which on it counts, nats: a twentieth of the cloud is on the way."""

SPARSE = 5.0
"""How many times sparser the potentials between two humps must be than within either."""


def depth(levels: Float[np.ndarray, " steps"], log_mass: Float[np.ndarray, " steps"]) -> float:
    """Depth of the deepest valley between two phases, over all exponents, nats.

    Args:
        levels: heights of a path of levels, nats; what is not finite does not count.
        log_mass: log P above each.
    """
    known = np.isfinite(levels) & np.isfinite(log_mass)
    if np.count_nonzero(known) < 3:
        return 0.0
    profile = EXPONENTS[:, None] * levels[known].astype(np.float64) + log_mass[known]
    before = np.maximum.accumulate(profile, axis=1)
    after = np.maximum.accumulate(profile[:, ::-1], axis=1)[:, ::-1]
    return float(np.max(np.minimum(before, after) - profile))
