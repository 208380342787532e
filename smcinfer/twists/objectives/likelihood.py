r"""Objectives that lower the divergence KL(target || q): the twist as a law to be fitted.

.. math::
    \text{ctl:}\quad \sum_t E_\sigma[-\log \chi_t] + E_{\pi_{t-1}}[\log C_t], \qquad
    \text{dpg, nasmc:}\quad \sum_t E_\sigma[-\log \chi_t + \log C_t] = \sum_t E_\sigma[-\log q_t / p_0]

All three have the gradient of :math:`-\log \chi_t` at positive paths and, as
:math:`\nabla \log C_t = E_{q_t}[\nabla \log \chi_t]`, that of :math:`\log \chi_t` at negative ones, with the last draw
summed out. Contrastive twist learning (CTL) takes negatives of the twisted intermediate targets :math:`\pi_{t-1} q_t`,
and learns :math:`\chi_t` up to one constant a step. Distributional policy gradient (DPG) continues the positive
prefixes themselves: the likelihood of q, which leaves :math:`\chi_t` open up to a function of the past: a proposal, but
no value for resampling to look at. Neural adaptive SMC (NASMC) is the same on the sampler's own lines, whether or not
exact draws can be had. Weights carry no gradient.

Sources: Zhao, Brekelmans, Makhzani & Grosse (2024), section 4; Parshakova, Andreoli & Dymetman (2019);
Gu, Ghahramani & Turner (2015).
"""

from smcinfer.ground.arrays import Scalar
from smcinfer.twists.learned import LearnedTwist
from smcinfer.twists.objectives.base import Objective, Sample, weighted
from smcinfer.twists.paths import Paths


class ContrastiveTwist(Objective):
    """``"ctl"``: KL of the target's marginals from the twisted intermediate targets, summed over steps."""

    def __call__(self, twist: LearnedTwist, sample: Sample) -> Scalar:
        """The module equation's first."""
        target, cloud = sample.target, sample.twisted.paths
        negatives = weighted(cloud.log_weights_before, cloud.means(twist))
        return weighted(target.log_weights, -target.values(twist)) + negatives


class PolicyGradient(Objective):
    """``"dpg"``: the likelihood of the proposal on paths of the target, exact draws where there are any."""

    @property
    def learns_values(self) -> bool:
        """Never: only q is seen."""
        return False

    def __call__(self, twist: LearnedTwist, sample: Sample) -> Scalar:
        """The module equation's second."""
        return self._unlikelihood(twist, sample.target)

    def _unlikelihood(self, twist: LearnedTwist, paths: Paths) -> Scalar:
        return weighted(paths.log_weights, paths.means(twist) - paths.values(twist))


class AdaptiveProposal(PolicyGradient):
    """``"nasmc"``: the likelihood of the proposal on the lines that the sampler itself ends with."""

    def __call__(self, twist: LearnedTwist, sample: Sample) -> Scalar:
        """The module equation's second, on the weighted lines of the run."""
        return self._unlikelihood(twist, sample.twisted.lines())
