r"""Objectives that classify: whether a prefix comes from the target, or whether its future will earn the potential.

.. math::
    \text{sixo:}\quad -\sum_t E_\sigma[\log s(\log \chi_t)] + E_{\mathrm{past}}[\log s(-\log \chi_t)], \qquad
    \text{fudge:}\quad -\sum_t E_{p_0}\big[Y_t \log \chi_t + (1 - Y_t) \log(1 - \chi_t)\big],\; Y_t = \prod_{s \ge t} \phi_s

with s the logistic function and "past" the base law weighted by the potentials before t. The classifier of SIXO is at
best the ratio of the two laws, :math:`\chi^\star_t` up to a constant; that of FUDGE the probability
:math:`\chi^\star_t` itself, where potentials are probabilities.

Sources: Lawson, Raventos, Warrington & Linderman (2022); Yang & Klein (2021).
"""

from typing import override

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Scalar
from smcinfer.twists.learned import LearnedTwist
from smcinfer.twists.objectives.base import Objective, Sample, weighted


class DensityRatio(Objective):
    """``"sixo"``: logistic classification of the target's prefixes against the base law's."""

    @override
    def __call__(self, twist: LearnedTwist, sample: Sample) -> Scalar:
        """The module equation's first, as softplus: log(1 - s) would underflow."""
        target, base = sample.target, sample.base.paths
        positives = weighted(target.log_weights, jax.nn.softplus(-target.values(twist)))
        return positives + weighted(base.log_weights_before, jax.nn.softplus(base.values(twist)))


class FutureDiscriminator(Objective):
    """``"fudge"``: the probability that a prefix of the base law earns its potential, by cross-entropy on all prefixes."""

    @property
    @override
    def needs_bounded(self) -> bool:
        return True

    @override
    def __call__(self, twist: LearnedTwist, sample: Sample) -> Scalar:
        """The module equation's second."""
        paths = sample.base.paths
        to_come = jnp.cumsum(paths.log_potential[::-1], axis=0)[::-1]
        label = jnp.exp(jnp.minimum(to_come, 0.0))
        value = jnp.minimum(paths.values(twist), -jnp.finfo(label.dtype).tiny)
        return jnp.mean(-label * value - (1.0 - label) * jnp.log(-jnp.expm1(value)))
