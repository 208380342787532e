"""Targets for kernels whose tempered densities can be sampled exactly, and a loop that moves many lanes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.kernels import Kernel, KernelInfo, KernelState, TemperedDensity

GRID = np.linspace(-7.0, 7.0, 14_001)
NUM_SWEEPS = 6

# Tests compile much and run little.
QUICK_COMPILE = {"xla_backend_optimization_level": 0}

POTENTIALS: dict[str, Callable[[Any], Any]] = {
    "none": lambda z: 0.0 * z,
    "two wells": lambda z: -0.7 * (z**2 - 1.5) ** 2 + 0.5 * z,
    "NaN beyond one": lambda z: 2.0 * jnp.sqrt(1.0 - z),
    "NaN and minus infinity": lambda z: jnp.where(z < -1.0, -jnp.inf, jnp.sqrt(1.0 - z)),
    # Finite everywhere, with a gradient that is NaN on half of the line.
    "NaN gradient": lambda z: 2.0 * jnp.where(z > 0, jnp.sqrt(z), 0.0),
}
"""Potentials of one coordinate, nats."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Coordinates z independent, each with density N(z; 0, 1) exp(exponent * potential(z)); seen as x = B z + c."""

    potential: str = "two wells"
    dim: int = 2

    @property
    def scale(self) -> np.ndarray:
        """B, lower triangular: correlated coordinates of different spread."""
        return np.tril(np.full((self.dim, self.dim), 0.8)) * np.linspace(0.4, 1.5, self.dim)[:, None]

    @property
    def shift(self) -> np.ndarray:
        """c."""
        return np.linspace(0.5, -1.0, self.dim)

    def density(self, exponent: Any, which: Any = None) -> TemperedDensity:
        """The tempered density of x, with its Gaussian base; ``which`` is a traced choice of the potential."""
        scale, shift = jnp.asarray(self.scale, float), jnp.asarray(self.shift, float)
        inverse = jnp.asarray(np.linalg.inv(self.scale), float)
        potential = POTENTIALS[self.potential] if which is None else functools.partial(chosen, which)
        return TemperedDensity(
            log_base=lambda x: -0.5 * jnp.sum((inverse @ (x - shift)) ** 2),
            log_potential=lambda x: jnp.sum(potential(inverse @ (x - shift))),
            exponent=jnp.asarray(exponent, float),
            base_mean=shift,
            base_scale=scale,
        )

    def cdf(self, exponent: float) -> Callable[[np.ndarray], np.ndarray]:
        """Cumulative distribution function of one coordinate of z."""
        cumulative = self._table(exponent)
        return lambda z: np.interp(z, GRID, cumulative)

    def draw(self, seed: int, exponent: float, num: int) -> np.ndarray:
        """(num, dim) exact draws of x."""
        cumulative = self._table(exponent)
        z = np.interp(np.random.default_rng(seed).uniform(size=(num, self.dim)), cumulative, GRID)
        return self.unwhiten(z)

    def unwhiten(self, z: np.ndarray) -> np.ndarray:
        """x from z."""
        return z @ self.scale.T + self.shift

    def coordinates(self, x: Any) -> np.ndarray:
        """z from x, in float64."""
        return (np.asarray(x, np.float64) - self.shift) @ np.linalg.inv(self.scale).T

    def _table(self, exponent: float) -> np.ndarray:
        # The potential is evaluated in JAX's precision: the grid of a root must be NaN where the kernel's is.
        potential = np.asarray(POTENTIALS[self.potential](jnp.asarray(GRID)), np.float64)
        log_density = -0.5 * GRID**2 + (exponent * potential if exponent else 0.0)
        weights = np.where(np.isnan(log_density), 0.0, np.exp(log_density - np.nanmax(log_density)))
        # A cell that reaches out of the support has no mass, lest a draw start there.
        cells = np.where((weights[1:] > 0) & (weights[:-1] > 0), weights[1:] + weights[:-1], 0.0)
        cumulative = np.concatenate([[0.0], np.cumsum(cells)])
        return cumulative / cumulative[-1]


def chosen(which: Any, z: Any) -> Any:
    """One of `POTENTIALS` by number, traced: one compiled program then serves them all."""
    return jax.lax.switch(which, list(POTENTIALS.values()), z)


_PROGRAMS: dict[tuple[int, int, Any], tuple[Kernel, Any]] = {}


def _program(kernel: Kernel, dim: int, variant: Any) -> Any:
    """The loop of `move`, kept for the very kernel: kernels with array settings have no hash."""

    def run(which: Any, exponent: Any, positions: Any, log_weights: Any, keys: Any) -> Any:
        density = Target(dim=dim).density(exponent, which)
        # Told of a low acceptance, every kernel takes smaller steps than its first ones.
        params = kernel.tune(kernel.parameters(dim), positions, log_weights, jnp.asarray(0.2, float))

        def sweep(states: KernelState, key: Any) -> Any:
            share_key, step_key = jax.random.split(key)
            keys = jax.random.split(step_key, positions.shape[0])
            step = jax.vmap(kernel.step, in_axes=(0, 0, None, None))
            states, info = step(keys, states, density, kernel.share(share_key, params))
            return states, (states, info)

        states = jax.vmap(kernel.init, in_axes=(0, None))(positions, density)
        return jax.lax.scan(sweep, states, keys)[1]

    return _PROGRAMS.setdefault((id(kernel), dim, variant), (kernel, jax.jit(run, compiler_options=QUICK_COMPILE)))[1]


def move(
    kernel: Kernel,
    target: Target,
    exponent: float,
    positions: Any,
    seed: int,
    log_weights: Any = None,
    variant: Any = None,
) -> tuple[KernelState, KernelInfo]:
    """States of all lanes after each sweep, and what the sweep did; both (NUM_SWEEPS, lanes, ...).

    The kernel is tuned once, where the lanes start, with their ``log_weights``. Programs are kept: name a
    ``variant`` where the same kernel must be traced anew.
    """
    which = list(POTENTIALS).index(target.potential)
    log_weights = np.zeros(len(positions)) if log_weights is None else log_weights
    keys = jax.random.split(jax.random.key(seed), NUM_SWEEPS)
    arguments = (jnp.asarray(value, float) for value in (exponent, positions, log_weights))
    return _program(kernel, target.dim, variant)(which, *arguments, keys)


def last(states: KernelState) -> KernelState:
    """The states after the last sweep."""
    return jax.tree.map(lambda leaf: leaf[-1], states)
