r"""Nested sampling of a static target: the path of levels whose particles are the states of a move kernel on vectors.

.. math:: \eta_t(x) \propto \mu(x)\, \Pr(\Phi(x) \text{ stands above level } t)

The kernels are those of tempering. To them a level is a density like any other, flat in the potential where it is above.
"""

from typing import ClassVar

import jax.numpy as jnp

from smcinfer.ground.arrays import Array, KeyArray, PyTree, Scalar
from smcinfer.kernels.base import KernelState, TemperedDensity
from smcinfer.paths.levels import Level
from smcinfer.paths.nested import LevelPath
from smcinfer.static.guard import Guarded
from smcinfer.static.target import StaticTarget
from smcinfer.static.tempering import StatesPath


class LevelDensity(TemperedDensity):
    """The base above a level; its exponent is zero, because no gradient of the potential pulls.

    Attributes:
        level: where particles must stand.
    """

    level: Level | None = None

    def combine(self, log_base: Array, log_potential: Array) -> Array:
        """Log density from its two parts."""
        assert self.level is not None
        return log_base + self.level.log_indicator(log_potential)


class NestedPath(LevelPath, StatesPath):
    """The Feynman-Kac model of a path of levels (made by the method `Nested`)."""

    method: ClassVar[str] = "nested"

    def move(
        self, key: KeyArray, particles: KernelState, at: Level, params: PyTree
    ) -> tuple[KernelState, dict[str, Scalar]]:
        """One kernel step on the base above the level."""
        return self.sweep(key, particles, level_density(self.target, at), params)


def level_density(target: StaticTarget, level: Level) -> LevelDensity:
    """The base of a target above a level, its potential guarded."""
    zero = jnp.zeros((), jnp.result_type(float))
    return LevelDensity(
        target.log_base, Guarded(target.log_potential), zero, target.base_mean, target.base_scale, level
    )
