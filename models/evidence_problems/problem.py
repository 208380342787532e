"""What is known of an evidence problem: a target that starts from its prior, and the exact log of its evidence."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
import numpyro.distributions as dist
import scipy.special

from smcinfer.ground.errors import ArgumentError
from smcinfer.static import StaticTarget, posterior


class EvidenceProblem(eqx.Module):
    """A posterior whose evidence is known.

    Attributes:
        target: what to sample; its draws are called ``theta``.
        log_z: log of the integral of the likelihood over the (normalised) prior, nats.
    """

    target: StaticTarget
    log_z: float = eqx.field(static=True)


def in_a_box(
    log_likelihood: Callable[[Any], Any], dim: int, lower: float, upper: float, log_integral: float
) -> EvidenceProblem:
    """A likelihood under the uniform prior of a cube.

    Args:
        log_likelihood: ``Float["dim"] -> Float[""]``, nats.
        dim: d, at least 1.
        lower, upper: ends of every side.
        log_integral: log of the likelihood's integral over the cube, nats.
    """
    if dim < 1:
        raise ArgumentError("dim is out of range", expected="at least 1", got=dim)
    prior = dist.Uniform(lower, upper).expand([dim]).to_event(1)
    return EvidenceProblem(posterior(prior, log_likelihood), float(log_integral - dim * np.log(upper - lower)))


Numbers = float | int | np.ndarray


def normal_mass(mean: Numbers, std: Numbers, lower: Numbers, upper: Numbers) -> np.ndarray | np.floating:
    """Probability of an interval under a normal law.

    Args:
        mean, std: of the law.
        lower, upper: ends of the interval.
    """
    centre, width = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    above, below = ((np.asarray(end, np.float64) - centre) / width for end in (upper, lower))
    # Both ends in the lower tail, where differences of small numbers keep their digits.
    flip = below > 0
    return scipy.special.ndtr(np.where(flip, -below, above)) - scipy.special.ndtr(np.where(flip, -above, below))
