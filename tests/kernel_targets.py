"""Targets for kernels whose tempered densities can be sampled exactly, and a loop that moves many lanes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.kernels import Kernel, KernelInfo, KernelState, TemperedDensity

GRID = np.linspace(-7.0, 7.0, 8001)


def two_wells(z: Any) -> Any:
    """A potential with two unequal wells, one coordinate, nats."""
    return -0.7 * (z**2 - 1.5) ** 2 + 0.5 * z


def root(z: Any) -> Any:
    """NaN beyond one, with a gradient that is infinite at the border."""
    return 2.0 * jnp.sqrt(1.0 - z)


def careless_root(z: Any) -> Any:
    """Finite everywhere, with a NaN gradient on half of the line."""
    return 2.0 * jnp.where(z > 0, jnp.sqrt(z), 0.0)


@dataclasses.dataclass(frozen=True)
class Target:
    """Coordinates z independent, each with density N(z; 0, 1) exp(exponent * potential(z)); seen as x = B z + c."""

    potential: Callable[[Any], Any] = two_wells
    dim: int = 2

    @property
    def scale(self) -> np.ndarray:
        """B, lower triangular: correlated coordinates of different spread."""
        return np.tril(np.full((self.dim, self.dim), 0.8)) * np.linspace(0.4, 1.5, self.dim)[:, None]

    @property
    def shift(self) -> np.ndarray:
        """c."""
        return np.linspace(0.5, -1.0, self.dim)

    def density(self, exponent: Any) -> TemperedDensity:
        """The tempered density of x, with its Gaussian base."""
        scale, shift = jnp.asarray(self.scale, float), jnp.asarray(self.shift, float)
        inverse = jnp.asarray(np.linalg.inv(self.scale), float)
        return TemperedDensity(
            log_base=lambda x: -0.5 * jnp.sum((inverse @ (x - shift)) ** 2),
            log_potential=lambda x: jnp.sum(self.potential(inverse @ (x - shift))),
            exponent=jnp.asarray(exponent, float),
            base_mean=shift,
            base_scale=scale,
        )

    def cdf(self, exponent: float) -> Callable[[np.ndarray], np.ndarray]:
        """Cumulative distribution function of one coordinate of z."""
        _, cumulative = self._table(exponent)
        return lambda z: np.interp(z, GRID, cumulative)

    def draw(self, seed: int, exponent: float, num: int) -> np.ndarray:
        """(num, dim) exact draws of x."""
        _, cumulative = self._table(exponent)
        z = np.interp(np.random.default_rng(seed).uniform(size=(num, self.dim)), cumulative, GRID)
        return self.unwhiten(z)

    def unwhiten(self, z: np.ndarray) -> np.ndarray:
        """x from z."""
        return z @ self.scale.T + self.shift

    def coordinates(self, x: Any) -> np.ndarray:
        """z from x, in float64."""
        return (np.asarray(x, np.float64) - self.shift) @ np.linalg.inv(self.scale).T

    def _table(self, exponent: float) -> tuple[np.ndarray, np.ndarray]:
        # The potential is evaluated in JAX's precision: the grid of a root must be NaN where the kernel's is.
        potential = np.asarray(self.potential(jnp.asarray(GRID)), np.float64)
        log_density = -0.5 * GRID**2 + (exponent * potential if exponent else 0.0)
        weights = np.where(np.isnan(log_density), 0.0, np.exp(log_density - np.nanmax(log_density)))
        cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (weights[1:] + weights[:-1]))])
        return weights, cumulative / cumulative[-1]


def move(
    kernel: Kernel, density: TemperedDensity, positions: Any, seed: int, num_steps: int, pilot: Any = None
) -> tuple[KernelState, KernelInfo]:
    """States of all lanes after each sweep, and what the sweep did; both (num_steps, lanes, ...).

    The kernel is tuned once, on the cloud ``pilot``, by default where the lanes start.
    """

    @jax.jit
    def run(positions: Any, pilot: Any, keys: Any) -> Any:
        params = kernel.tune(
            kernel.parameters(positions.shape[1]), pilot, jnp.zeros(pilot.shape[0]), jnp.asarray(jnp.nan)
        )

        def sweep(states: KernelState, key: Any) -> Any:
            share_key, step_key = jax.random.split(key)
            keys = jax.random.split(step_key, positions.shape[0])
            step = jax.vmap(kernel.step, in_axes=(0, 0, None, None))
            states, info = step(keys, states, density, kernel.share(share_key, params))
            return states, (states, info)

        states = jax.vmap(kernel.init, in_axes=(0, None))(positions, density)
        return jax.lax.scan(sweep, states, keys)[1]

    positions = jnp.asarray(positions, float)
    pilot = positions if pilot is None else jnp.asarray(pilot, float)
    return run(positions, pilot, jax.random.split(jax.random.key(seed), num_steps))


def last(states: KernelState) -> KernelState:
    """The states after the last sweep."""
    return jax.tree.map(lambda leaf: leaf[-1], states)
