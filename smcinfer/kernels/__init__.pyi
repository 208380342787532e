"""The public names of the kernels and where each lives: see the package's own stub."""

from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, TemperedDensity
from smcinfer.kernels.blackjax_bridge import from_blackjax
from smcinfer.kernels.blackjax_export import as_blackjax
from smcinfer.kernels.blackjax_kernel import BlackjaxKernel
from smcinfer.kernels.crank_nicolson import CrankNicolson
from smcinfer.kernels.elliptical_slice import EllipticalSlice
from smcinfer.kernels.gibbsian_polar_slice import GibbsianPolarSlice
from smcinfer.kernels.hit_and_run import HitAndRun
from smcinfer.kernels.hmc import HMC
from smcinfer.kernels.independent import Independent
from smcinfer.kernels.mala import MALA
from smcinfer.kernels.nuts import NUTS
from smcinfer.kernels.pcnl import CrankNicolsonLangevin
from smcinfer.kernels.polar_slice import PolarSlice
from smcinfer.kernels.random_walk import RandomWalk
from smcinfer.kernels.registry import KERNELS, by_name
from smcinfer.kernels.ticks import Machine, TickKernel

__all__ = [
    "HMC",
    "KERNELS",
    "MALA",
    "NUTS",
    "BlackjaxKernel",
    "CrankNicolson",
    "CrankNicolsonLangevin",
    "EllipticalSlice",
    "GibbsianPolarSlice",
    "HitAndRun",
    "Independent",
    "Kernel",
    "KernelInfo",
    "KernelState",
    "Machine",
    "PolarSlice",
    "RandomWalk",
    "TemperedDensity",
    "TickKernel",
    "as_blackjax",
    "by_name",
    "from_blackjax",
]
