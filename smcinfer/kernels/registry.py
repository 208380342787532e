"""Kernels by name, for arguments and command lines."""

from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.host import NoGradientError
from smcinfer.kernels.base import Kernel, TemperedDensity, value_and_gradients
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

KERNELS: dict[str, type[Kernel]] = {
    "random_walk": RandomWalk,
    "independent": Independent,
    "mala": MALA,
    "hmc": HMC,
    "nuts": NUTS,
    "gibbsian_polar_slice": GibbsianPolarSlice,
    "polar_slice": PolarSlice,
    "hit_and_run": HitAndRun,
    "elliptical_slice": EllipticalSlice,
    "pcn": CrankNicolson,
    "pcnl": CrankNicolsonLangevin,
}


def by_name(kernel: Any) -> Kernel:
    """The kernel of that name with its default settings; a kernel is returned as it is.

    Args:
        kernel: str | Kernel.

    Raises:
        ArgumentError: no kernel has that name, or it is neither a name nor a kernel.
    """
    if isinstance(kernel, Kernel):
        return kernel
    if isinstance(kernel, str) and kernel in KERNELS:
        return KERNELS[kernel]()
    if isinstance(kernel, type):
        got, hint = kernel.__name__, f"make an instance: {kernel.__name__}()"
    else:
        got, hint = repr(kernel), "give a name, or an instance with its settings"
    expected = "one of " + ", ".join(KERNELS) + ", or a smcinfer.kernels.Kernel"
    raise ArgumentError("unknown kernel", expected=expected, got=got, hint=hint)


def default_for(density: TemperedDensity, dim: int) -> Kernel:
    """HMC; a random walk where the density calls a function on the host that has no gradient.

    Args:
        density: what is to be moved on; it is traced, not evaluated.
        dim: length of its vectors.
    """
    try:
        jax.eval_shape(lambda x: value_and_gradients(density, x), jnp.zeros((dim,)))
    except NoGradientError:
        return RandomWalk()
    return HMC()


def name_of(kernel: Kernel) -> str:
    """The name of a kernel's kind: that of the registry, or of its class where it is not in it."""
    return next((name for name, kind in KERNELS.items() if type(kernel) is kind), type(kernel).__name__)
