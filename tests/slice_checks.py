"""Parts of the slice kernels' tests: exact laws on a circle and on a ray, and the two sub-kernels run alone."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from smcinfer.kernels import GibbsianPolarSlice, TemperedDensity
from tests.statistics import FAILURE_RATE

# Two plateaus with steep walls (centre, half-width): every slice is close to two arcs. On the broad ones, longer than half
# a circle, a bracket cut open elsewhere than at its first point goes there and back unequally; on the narrow ones, across
# wide voids, a bracket that shrinks toward another point than the start does.
ARCS = {"broad": ((0.0, 1.7), (2.468, 0.6)), "narrow": ((0.0, 0.6), (2.0, 0.05))}
STEEPNESS = 100.0

# In the log radius: the wells are several steps wide and apart.
RADIUS_MODES = ((0.5, -0.9, 0.12), (0.3, 0.1, 0.05), (0.2, 0.8, 0.25))


def log_angle_density(angle: Any, arcs: str) -> Any:
    """Log density of the angle, up to a constant; works on numpy and jax arrays."""
    xp = jnp if isinstance(angle, jax.Array) else np
    beyond = [xp.abs((angle - a + np.pi) % (2 * np.pi) - np.pi) - half for a, half in ARCS[arcs]]
    return -STEEPNESS * xp.maximum(functools.reduce(xp.minimum, beyond), 0.0)


def log_radius_density(log_radius: Any) -> Any:
    """Log density of the log radius, up to a constant."""
    xp = jnp if isinstance(log_radius, jax.Array) else np
    parts = [np.log(w / s) - 0.5 * ((log_radius - m) / s) ** 2 for w, m, s in RADIUS_MODES]
    return functools.reduce(xp.logaddexp, parts)


def polar_target(arcs: str) -> TemperedDensity:
    """In two dimensions: angle and log radius independent, of the two laws above."""

    def log_density(x: Any) -> Any:
        log_radius = 0.5 * jnp.log(jnp.sum(x**2))
        return log_angle_density(jnp.arctan2(x[1], x[0]), arcs) + log_radius_density(log_radius) - 2.0 * log_radius

    return TemperedDensity(log_density, lambda x: jnp.zeros((), x.dtype), jnp.ones(()))


def exact_draws(log_density: Any, lower: float, upper: float, num: int, seed: int) -> np.ndarray:
    """Draws of a one-dimensional law by inversion on a fine grid."""
    grid = np.linspace(lower, upper, 400_001)
    cumulative = np.cumsum(np.exp(log_density(grid)))
    return np.interp(np.random.default_rng(seed).uniform(size=num) * cumulative[-1], cumulative, grid)


def polar_draws(num: int, seed: int, arcs: str) -> np.ndarray:
    """(num, 2) exact draws of `polar_target`."""
    angle = exact_draws(functools.partial(log_angle_density, arcs=arcs), -np.pi, np.pi, num, seed)
    radius = np.exp(exact_draws(log_radius_density, -2.0, 3.0, num, seed + 1))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def coordinates(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Angle and log radius of points in the plane, in float64."""
    x = np.asarray(x, np.float64)
    return np.arctan2(x[:, 1], x[:, 0]), 0.5 * np.log(np.sum(x**2, axis=1))


def run_part(kernel: GibbsianPolarSlice, part: str, starts: np.ndarray, seed: int, arcs: str) -> np.ndarray:
    """Where each lane's direction sub-kernel or radius sub-kernel, run alone, brings it."""
    density, params = polar_target(arcs), kernel.parameters(2)

    def over(machine: Any) -> Any:
        return ~machine.turning if part == "direction" else machine.finished

    def move(key: Any, start: Any) -> Any:
        begin_key, uniform_key = jax.random.split(key)
        machine = kernel.begin(begin_key, kernel.init(start, density), density, params)
        if part == "radius":
            search = kernel.along_ray(jax.random.uniform(uniform_key, (3,)), machine.coordinate, params)
            machine = eqx.tree_at(lambda m: (m.turning, m.search), machine, (jnp.zeros((), bool), search))
        tick = functools.partial(kernel.tick, density=density, params=params)
        return jax.lax.while_loop(lambda machine: ~over(machine), tick, machine).current.position

    keys = jax.random.split(jax.random.key(seed), len(starts))
    return np.asarray(jax.jit(jax.vmap(move))(keys, jnp.asarray(starts, float)))


def check_flux(kernel: GibbsianPolarSlice, part: str, num: int, arcs: str = "broad") -> None:
    """From exact draws, a sub-kernel alone moves as many lanes from here to there as back, and moves them."""
    starts = polar_draws(num, 0, arcs)
    which, num_bins = (0, 4 if arcs == "broad" else 16) if part == "direction" else (1, 16)
    after = coordinates(run_part(kernel, part, starts, 5, arcs))
    before = coordinates(starts)
    np.testing.assert_allclose(after[1 - which], before[1 - which], atol=1e-4)
    assert_symmetric(before[which], after[which], num_bins)


def assert_symmetric(before: np.ndarray, after: np.ndarray, num_bins: int, *, num_comparisons: int = 1) -> None:
    """Assert that pairs (before, after) of a stationary chain are exchangeable: as much goes from a to b as back.

    Coordinates are cut into bins of equal mass; given how many lanes went between two bins, either way is as likely.
    """
    edges = np.quantile(before, np.linspace(0, 1, num_bins + 1)[1:-1])
    pairs = np.searchsorted(edges, before) * num_bins + np.searchsorted(edges, after)
    flows = np.bincount(pairs, minlength=num_bins**2).reshape(num_bins, num_bins)
    upper = np.triu_indices(num_bins, 1)
    total, net = (flows + flows.T)[upper], (flows - flows.T)[upper]
    usable = total >= 20
    assert np.count_nonzero(usable) >= num_bins, "expected lanes to move between bins"
    statistic = float(np.sum(net[usable] ** 2 / total[usable]))
    p_value = float(scipy.stats.chi2.sf(statistic, np.count_nonzero(usable)))
    assert p_value > FAILURE_RATE / num_comparisons, (
        f"a net flux: chi2 = {statistic:.1f} on {np.count_nonzero(usable)} pairs of bins, p = {p_value:.2g}"
    )
