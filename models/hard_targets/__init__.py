"""Targets that break samplers, each with its exact facts: normaliser, draws, a tail, and where its modes are.

`EXAMPLES` has one instance of each, at the size at which samplers are usually compared.
"""

from collections.abc import Callable

from smcinfer.models.hard_targets.axial import axial_modes
from smcinfer.models.hard_targets.cauchy import cauchy
from smcinfer.models.hard_targets.disk import hyperplane_disk
from smcinfer.models.hard_targets.double_well import double_well
from smcinfer.models.hard_targets.facts import HardTarget
from smcinfer.models.hard_targets.funnel import funnel
from smcinfer.models.hard_targets.mixture import gaussian_mixture, ring_mixture, scattered_mixture

EXAMPLES: dict[str, Callable[[], HardTarget]] = {
    "cauchy": cauchy,
    "hyperplane_disk": hyperplane_disk,
    "axial_modes": axial_modes,
    "funnel": funnel,
    "ring_mixture": ring_mixture,
    "scattered_mixture": scattered_mixture,
    "double_well": double_well,
}

__all__ = [
    "EXAMPLES",
    "HardTarget",
    "axial_modes",
    "cauchy",
    "double_well",
    "funnel",
    "gaussian_mixture",
    "hyperplane_disk",
    "ring_mixture",
    "scattered_mixture",
]
