"""Problems whose evidence is known exactly, each of a kind that fools a sampler.

`EXAMPLES` has them at the sizes at which estimates of log Z are usually compared.
"""

from collections.abc import Callable
from functools import partial

from smcinfer.models.evidence_problems.phases import eggbox, gaussian_shells, spike, two_gaussians
from smcinfer.models.evidence_problems.problem import EvidenceProblem
from smcinfer.models.evidence_problems.shapes import funnel_in_a_box, ill_conditioned, log_gamma, rosenbrock
from smcinfer.models.evidence_problems.supports import label_switching, small_region, truncated_gaussian

EXAMPLES: dict[str, Callable[[], EvidenceProblem]] = {
    "spike_5": partial(spike, 5),
    "spike_10": partial(spike, 10),
    "spike_20": partial(spike, 20),
    "two_gaussians": two_gaussians,
    "shells_2": partial(gaussian_shells, 2),
    "shells_5": partial(gaussian_shells, 5),
    "shells_10": partial(gaussian_shells, 10),
    "eggbox": eggbox,
    "log_gamma_2": partial(log_gamma, 2),
    "log_gamma_10": partial(log_gamma, 10),
    "log_gamma_30": partial(log_gamma, 30),
    "rosenbrock_2": partial(rosenbrock, 2),
    "rosenbrock_10": partial(rosenbrock, 10),
    "ill_conditioned_50": partial(ill_conditioned, 50),
    "ill_conditioned_200": partial(ill_conditioned, 200),
    "funnel": funnel_in_a_box,
    "labels_free": label_switching,
    "labels_ordered": partial(label_switching, ordered=True),
    "truncated": truncated_gaussian,
    "small_region": small_region,
}

__all__ = [
    "EXAMPLES",
    "EvidenceProblem",
    "eggbox",
    "funnel_in_a_box",
    "gaussian_shells",
    "ill_conditioned",
    "label_switching",
    "log_gamma",
    "rosenbrock",
    "small_region",
    "spike",
    "truncated_gaussian",
    "two_gaussians",
]
