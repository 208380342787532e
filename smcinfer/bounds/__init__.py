r"""Bounds on log Z from both sides.

.. math:: E[\log \hat Z] \;\le\; \log Z \;\le\; E_\sigma[\log \hat Z]

On the left :math:`\hat Z` is any unbiased estimate (Jensen). On the right it comes from a sampler that was forced through
an *exact* draw of the target, so that :math:`E_\sigma[Z / \hat Z] = 1`. The gap between the two measures the sampler: it
bounds the sum of its two Kullback-Leibler divergences from the target.

Exact draws are had by conjugacy, by enumeration, by rejection, or by simulating data: draw parameters from the prior and
data from the parameters, and the parameters are an exact draw of the posterior given those data.

Sources: Grosse, Ghahramani & Adams (2015); Zhao, Brekelmans, Makhzani & Grosse (2024), section 5.
"""

from smcinfer.bounds.bridge import bridge_sampling, evidence_ratio
from smcinfer.bounds.by_particles import BoundsByParticles, by_particles
from smcinfer.bounds.front import sandwich
from smcinfer.bounds.importance import finished
from smcinfer.bounds.simulated import bidirectional
from smcinfer.results.sandwich import Sandwich

__all__ = [
    "BoundsByParticles",
    "Sandwich",
    "bidirectional",
    "bridge_sampling",
    "by_particles",
    "evidence_ratio",
    "finished",
    "sandwich",
]
