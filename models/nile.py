r"""The Nile at Aswan, 1871 to 1970: a level that wanders, seen through noise.

.. math:: x_t \sim N(x_{t-1}, \sigma_\eta^2), \quad y_t \sim N(x_t, \sigma_\epsilon^2)

Durbin & Koopman (2012), section 2.2.5: the likelihood is largest, -632.54 nats without its first term, at variances 1469.1 and
15099. The data are those of Cobb (1978), in R's `datasets` and in statsmodels: facts, free of rights.
"""

from typing import Any

import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from smcinfer.ground.arrays import Scalar, Time
from smcinfer.state_space import StateSpace, state_space

# fmt: off
FLOWS = np.array([
    1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140, 995, 935, 1110, 994, 1020, 960, 1180, 799, 958, 1140, 1100, 1210,
    1150, 1250, 1260, 1220, 1030, 1100, 774, 840, 874, 694, 940, 833, 701, 916, 692, 1020, 1050, 969, 831, 726, 456, 824, 702,
    1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796, 1040, 759, 781, 865, 845, 944, 984, 897, 822, 1010, 771,
    676, 649, 846, 812, 742, 801, 1040, 860, 874, 848, 890, 744, 749, 838, 1050, 918, 986, 797, 923, 975, 815, 1020, 906, 901,
    1170, 912, 746, 919, 718, 714, 740,
], float)
"""Yearly flow from 1871 on, 1e8 cubic metres."""
# fmt: on

LEVEL_VARIANCE, NOISE_VARIANCE = 1469.1, 15099.0
"""Of the level's steps and of the flow around it, where the likelihood is largest."""


def nile(level_sd: Any = LEVEL_VARIANCE**0.5, noise_sd: Any = NOISE_VARIANCE**0.5, **options: Any) -> StateSpace:
    """The local level model of the flows.

    Args:
        level_sd: standard deviation of one step of the level, 1e8 cubic metres; may be traced.
        noise_sd: of a flow around it; may be traced.
        options: of `smcinfer.state_space.state_space`.
    """

    def transition(t: Time, x: Scalar) -> Distribution:
        return dist.Normal(x, level_sd)

    def observation(t: Time, x: Scalar) -> Distribution:
        return dist.Normal(x, noise_sd)

    return state_space(dist.Normal(1000.0, 1000.0), transition, observation, FLOWS, **options)
