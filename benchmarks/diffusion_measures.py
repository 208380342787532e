"""How far a weighted population is from exact draws: masses of modes, Wasserstein distance and log Z, with their floors."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.results.finished import Run
from smcinfer.run.runner import run

OPTIMAL_TRANSPORT_DRAWS = 500


@dataclasses.dataclass(frozen=True)
class Exact:
    """What is known of a target in the plane.

    Attributes:
        log_z: nats.
        masses: (K,), of its modes.
        draw: ``(rng, n) -> (n, 2)``, exact draws.
        nearest: ``(n, 2) -> (n,)``, the mode of a point.
        reward: ``(n, 2) -> (n,)``, whose mean is reported, or ``None``; and ``mean_reward``, the exact one.
    """

    log_z: float
    masses: np.ndarray
    draw: Callable[[np.random.Generator, int], np.ndarray]
    nearest: Callable[[np.ndarray], np.ndarray]
    reward: Callable[[np.ndarray], np.ndarray] | None = None
    mean_reward: float = float("nan")

    def mode_tv(self, x: np.ndarray, weights: np.ndarray) -> float:
        """Total variation between the masses of the modes."""
        found = np.bincount(self.nearest(x), weights, minlength=len(self.masses))
        return 0.5 * float(np.abs(found - self.masses).sum())

    def floors(self, n: int) -> dict[str, float]:
        """What n exact draws would show: total variation, and the Wasserstein distance of two sets of exact draws."""
        rng = np.random.default_rng(1)
        tv = [
            0.5 * np.abs(rng.multinomial(n, self.masses / self.masses.sum()) / n - self.masses).sum() for _ in range(50)
        ]
        size = OPTIMAL_TRANSPORT_DRAWS
        w2 = [wasserstein(self.draw(rng, size), self.draw(rng, size)) for _ in range(10)]
        return {"mode_tv_floor": float(np.mean(tv)), "w2_floor": float(np.mean(w2))}


def wasserstein(x: np.ndarray, y: np.ndarray) -> float:
    """The 2-Wasserstein distance of two equally large sets of points."""
    cost = cdist(x, y, "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def points_of(done: Run) -> np.ndarray:
    """The final points of every run, ``(R, N, 2)``."""
    particles: Any = done.particles
    return np.asarray(getattr(particles, "state", particles).x, np.float64)


def row(
    target: FeynmanKac,
    exact: Exact,
    num_particles: int,
    *,
    num_runs: int = 4,
    resample_below: float = 0.5,
    weighted: bool = True,
    best_of: int = 1,
) -> dict[str, float]:
    """One line of a table: a target run, and how far its samples and its log Z are from the exact ones.

    Args:
        target: what to run.
        exact: what is known of it.
        num_particles, num_runs, resample_below: of the run.
        weighted: whether the samples are weighted; plain guidance has no weights to give.
        best_of: of so many samples each time only the one with the highest reward is kept.
    """
    done = run(jax.random.key(0), target, num_particles, num_runs=num_runs, resample_below=resample_below)
    x = points_of(done)
    weights = np.exp(np.asarray(done.log_weights, np.float64)) if weighted else np.full(x.shape[:2], 1 / num_particles)
    if best_of > 1:
        assert exact.reward is not None
        groups = x[:, : num_particles // best_of * best_of].reshape(num_runs, -1, best_of, 2)
        best = np.argmax(exact.reward(groups.reshape(-1, 2)).reshape(groups.shape[:3]), axis=2)
        x = np.take_along_axis(groups, best[:, :, None, None], axis=2)[:, :, 0]
        weights = np.full(x.shape[:2], 1.0 / x.shape[1])
    rng = np.random.default_rng(0)
    size = OPTIMAL_TRANSPORT_DRAWS
    w2 = []
    for points, shares in zip(x, weights, strict=True):
        drawn = points[rng.choice(len(points), size, p=shares / shares.sum())]
        w2.append(wasserstein(drawn, exact.draw(rng, size)))
    log_z = np.asarray(done.log_z, np.float64)
    ratios = np.exp(log_z - log_z.max())
    honest = weighted and best_of == 1
    return {
        "log_z_error": abs(float(log_z.max() + np.log(ratios.mean())) - exact.log_z) if honest else float("nan"),
        "log_z_se": float(ratios.std(ddof=1) / ratios.mean() / num_runs**0.5) if honest else float("nan"),
        "mode_tv": float(np.mean([exact.mode_tv(points, shares) for points, shares in zip(x, weights, strict=True)])),
        "w2": float(np.mean(w2)),
        "reward": float(np.mean([shares @ exact.reward(points) for points, shares in zip(x, weights, strict=True)]))
        if exact.reward
        else float("nan"),
        "unique_ancestors": float(np.mean(np.asarray(done.num_roots))),
        "num_particles": float(num_particles),
        "seconds_a_run": (done.seconds - done.compile_seconds) / num_runs,
    }
