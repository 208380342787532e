"""Move kernels: each leaves a tempered density invariant and is tuned by the particle cloud.

`RandomWalk`, `Independent`, `MALA`, `HMC` and `NUTS` are here; `from_blackjax` makes one of any blackjax
sampler, and `as_blackjax` a blackjax sampler of any kernel. `by_name` gives them by name.
"""

from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, TemperedDensity
from smcinfer.kernels.blackjax_bridge import from_blackjax
from smcinfer.kernels.blackjax_export import as_blackjax
from smcinfer.kernels.blackjax_kernel import BlackjaxKernel
from smcinfer.kernels.hmc import HMC
from smcinfer.kernels.independent import Independent
from smcinfer.kernels.mala import MALA
from smcinfer.kernels.nuts import NUTS
from smcinfer.kernels.random_walk import RandomWalk
from smcinfer.kernels.registry import KERNELS, by_name

__all__ = [
    "HMC",
    "KERNELS",
    "MALA",
    "NUTS",
    "BlackjaxKernel",
    "Independent",
    "Kernel",
    "KernelInfo",
    "KernelState",
    "RandomWalk",
    "TemperedDensity",
    "as_blackjax",
    "by_name",
    "from_blackjax",
]
