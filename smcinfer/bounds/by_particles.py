r"""Both bounds on log Z against the number of particles, by SMC and by plain importance sampling.

Without resampling the weights of all particles are independent, so one batch of them gives the bounds for every N:

.. math::
    \log \frac1N \sum_{i=1}^N w_i \quad (w_i \text{ from the proposal}), \qquad
    \log \frac1N \Bigl(w^\star + \sum_{i=2}^N w_i\Bigr) \quad (w^\star \text{ of an exact draw}).

Source: Burda, Grosse & Salakhutdinov (2016); Grosse et al. (2015); Zhao et al. (2024), figure 3.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from smcinfer.core.compose import Composed
from smcinfer.core.conditional import condition
from smcinfer.core.status import Status
from smcinfer.ground.arrays import Float
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.results.finished import Run
from smcinfer.results.from_run import settings_of
from smcinfer.results.record import Record, arrays, revived
from smcinfer.results.words import Lines, counted
from smcinfer.run.runner import as_typed_key, run

METHODS = ("SMC", "importance sampling")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BoundsByParticles(Record):
    """Bounds for several numbers of particles.

    Attributes:
        num_particles: N of each row.
        lower, upper: by method (`METHODS`), Float["K R"]: log Z_hat of every run, nats.
    """

    num_particles: tuple[int, ...] = revived(tuple)
    lower: dict[str, np.ndarray] = arrays("size", "run")
    upper: dict[str, np.ndarray] = arrays("size", "run")

    WEIGHTED_FOR = "the target: E[Z_hat] = Z of the lower runs, E[Z / Z_hat] = 1 of the upper ones"

    def gap(self, method: str = "SMC") -> Float[np.ndarray, " K"]:
        """Upper minus lower, by number of particles, nats."""
        return self.upper[method].mean(axis=1) - self.lower[method].mean(axis=1)

    def _title(self) -> str:
        _, runs = next(iter(self.lower.values())).shape
        return f"smcinfer bounds by particles: {counted(len(self.num_particles), 'number')} of particles x {runs} runs"

    def _lines(self) -> Lines:
        lines = []
        for row, count in enumerate(self.num_particles):
            for method in self.lower:
                low, high = (f"{_mean(side[method][row]):>18}" for side in (self.lower, self.upper))
                lines.append((f"N = {count}", f"{method:<20} {low} to {high}, gap {self.gap(method)[row]:.3f}"))
        return lines


def by_particles(
    key: Any,
    target: Any,
    exact_draw: Callable[[Any], Any],
    num_particles: Sequence[int] = (1, 4, 16, 64, 256),
    *,
    num_runs: int = 32,
    resampling: str = "systematic",
    resample_below: float = 0.5,
    progress: bool = True,
) -> BoundsByParticles:
    """Bound log Z from both sides at several numbers of particles.

    Args:
        key: one random key.
        target: a model over paths (`compose`, `twisted`, `state_space`, `language.generation`).
        exact_draw: ``key -> path``, as in `smcinfer.bounds.sandwich`.
        num_particles: increasing numbers.
        num_runs: replicates of each bound.
        resampling, resample_below, progress: of SMC, as in `smcinfer.sample`.

    Raises:
        ArgumentError: for no or decreasing numbers, or fewer than two runs.
        TargetError: for a target that is not over paths.
    """
    if not isinstance(target, Composed):
        raise TargetError("bounds by particles are for models over paths", got=type(target).__name__)
    counts = tuple(num_particles)
    if not counts or list(counts) != sorted(set(counts)) or counts[0] < 1:
        raise ArgumentError("num_particles must increase", expected="1, 4, 16, ...", got=counts)
    if num_runs < 2:
        raise ArgumentError("bounds need replicates for their errors", expected="num_runs >= 2", got=num_runs)
    keys = jax.random.split(as_typed_key(key), 2 * len(counts) + 2)
    conditional = condition(target, exact_draw)
    options: dict[str, Any] = {"num_runs": num_runs, "resampling": resampling, "resample_below": resample_below}
    options |= {"progress": progress, "history": "none"}
    below = [run(keys[2 * row], target, count, **options) for row, count in enumerate(counts)]
    above = [run(keys[2 * row + 1], conditional, count, **options) for row, count in enumerate(counts)]
    alone: dict[str, Any] = {"num_runs": num_runs, "resample_below": 0.0, "history": "none"}
    many = run(keys[-2], target, counts[-1], **alone)
    weights = np.asarray(many.log_weights + many.log_z[:, None], np.float64) + np.log(counts[-1])
    single = run(keys[-1], conditional, 1, **alone)
    exact = np.asarray(single.log_z, np.float64)
    plain = [_log_mean(weights[:, :count]) for count in counts]
    through = [_log_mean(np.concatenate([exact[:, None], weights[:, 1:count]], axis=1)) for count in counts]
    runs = [*below, *above, many, single]
    return BoundsByParticles(
        num_particles=counts,
        lower={METHODS[0]: _log_z_of(below), METHODS[1]: np.stack(plain)},
        upper={METHODS[0]: _log_z_of(above), METHODS[1]: np.stack(through)},
        status=Status(int(np.bitwise_or.reduce([np.bitwise_or.reduce(np.asarray(done.status)) for done in runs])))
        & ~Status.GENEALOGY_COALESCED,
        settings=settings_of(keys[0], target, counts[-1], num_runs=num_runs, resampling=resampling)
        | {"weighted_for": BoundsByParticles.WEIGHTED_FOR},
        seconds=sum(done.seconds for done in runs),
        compile_seconds=sum(done.compile_seconds for done in runs),
    )


def _log_z_of(runs: list[Run]) -> Float[np.ndarray, "K R"]:
    return np.stack([np.asarray(done.log_z, np.float64) for done in runs])


def _log_mean(log_weights: np.ndarray) -> np.ndarray:
    return np.logaddexp.reduce(log_weights, axis=1) - np.log(log_weights.shape[1])


def _mean(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"
