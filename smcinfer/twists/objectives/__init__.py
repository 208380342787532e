"""The objectives that twists are learned by, under the names that papers give them."""

from smcinfer.ground.errors import ArgumentError
from smcinfer.twists.objectives.base import Objective, Sample
from smcinfer.twists.objectives.classification import DensityRatio, FutureDiscriminator
from smcinfer.twists.objectives.consistency import PathConsistency, SoftBellman, SubTrajectoryBalance
from smcinfer.twists.objectives.likelihood import AdaptiveProposal, ContrastiveTwist, PolicyGradient
from smcinfer.twists.objectives.regression import LinearExponential

OBJECTIVES: dict[str, type[Objective]] = {
    "ctl": ContrastiveTwist,
    "dpg": PolicyGradient,
    "nasmc": AdaptiveProposal,
    "sixo": DensityRatio,
    "fudge": FutureDiscriminator,
    "rl": SoftBellman,
    "pcl": PathConsistency,
    "subtb": SubTrajectoryBalance,
    "linex": LinearExponential,
}


def by_name(objective: str | Objective) -> Objective:
    """The objective of a name with its default settings, or the one given."""
    if isinstance(objective, Objective):
        return objective
    if objective not in OBJECTIVES:
        raise ArgumentError("unknown objective", expected=" | ".join([*OBJECTIVES, "controlled"]), got=objective)
    return OBJECTIVES[objective]()


__all__ = [
    "OBJECTIVES",
    "AdaptiveProposal",
    "ContrastiveTwist",
    "DensityRatio",
    "FutureDiscriminator",
    "LinearExponential",
    "Objective",
    "PathConsistency",
    "PolicyGradient",
    "Sample",
    "SoftBellman",
    "SubTrajectoryBalance",
    "by_name",
]
