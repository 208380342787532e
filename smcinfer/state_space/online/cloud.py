"""What can be read of a weighted cloud that goes on with every observation, of whatever its particles are."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core import smc
from smcinfer.core.status import Status, explain
from smcinfer.ground import validate
from smcinfer.ground.arrays import Float, PyTree
from smcinfer.ground.errors import ArgumentError
from smcinfer.results.pooling import combine_runs
from smcinfer.results.words import as_text, counted
from smcinfer.state_space.summaries import quantiles

FORECASTS = 2**32 - 1
"""What the key of a run is folded with for forecasts: no step has this number."""


class Cloud(NamedTuple):
    """The weighted particles of all runs: every leaf ``(num_runs, num_particles, ...)``, log weights normalised in each run."""

    particles: PyTree[Any]
    log_weights: Float[Any, "num_runs num_particles"]


class Standing(abc.ABC):
    """Where weighted particles stand after the last observation."""

    _t: int = -1
    _title: str

    @property
    @abc.abstractmethod
    def _state(self) -> smc.SMCState:
        """Of the driver, of the runs that count."""

    @property
    @abc.abstractmethod
    def _increments(self) -> Any:
        """What the last step added to each run's log Z, nats."""

    @property
    @abc.abstractmethod
    def _moments(self) -> tuple[PyTree[Any], PyTree[Any]]:
        """Means and standard deviations of each run."""

    @property
    @abc.abstractmethod
    def state(self) -> Cloud:
        """The weighted particles, every leaf ``(num_runs, num_particles, ...)``."""

    def _check_begun(self) -> None:
        if self._t < 0:
            raise ArgumentError(
                "nothing was observed yet", expected="f.update(y) before", got="a filter without a step"
            )

    @property
    def t(self) -> int:
        """The last step that was filtered; -1 before the first."""
        return self._t

    @property
    def log_z_runs(self) -> np.ndarray:
        """log p(y_0:t) as each run estimates it, nats."""
        state = self._state
        return np.asarray(state.log_z + state.log_z_error, np.float64)

    @property
    def log_z(self) -> float:
        """log of the mean over runs of the estimate of p(y_0:t), nats."""
        return float(np.logaddexp.reduce(self.log_z_runs) - np.log(self.log_z_runs.size))

    @property
    def log_z_increment(self) -> float:
        """log p(y_t | y_0:t-1), nats: how well the last observation was foreseen."""
        now = self.log_z_runs
        before = now - np.asarray(self._increments, np.float64)
        return float(np.logaddexp.reduce(now) - np.logaddexp.reduce(before))

    @property
    def ess(self) -> np.ndarray:
        """Effective sample size of each run after the last step, particles."""
        return np.asarray(self._state.ess)

    @property
    def status(self) -> Status:
        """Bits of what went wrong so far in any run."""
        return Status(int(np.bitwise_or.reduce(np.asarray(self._state.status))))

    @property
    def mean(self) -> PyTree[Any]:
        """Mean of the particles given y_0:t, shaped like one of them."""
        return jax.tree.map(lambda leaf: combine_runs(np.asarray(leaf), self.log_z_runs), self._moments[0])

    @property
    def sd(self) -> PyTree[Any]:
        """Standard deviation of the particles given y_0:t, shaped like one of them."""

        def pooled(centre: Any, means: Any, sds: Any) -> Any:
            square = np.asarray(sds) ** 2 + (np.asarray(means) - centre) ** 2
            return np.sqrt(combine_runs(square, self.log_z_runs))

        return jax.tree.map(pooled, self.mean, *self._moments)

    def quantile(self, levels: tuple[float, ...] | list[float]) -> PyTree[Any]:
        """Quantiles of the particles given y_0:t, shaped like one of them with a leading axis of levels.

        Args:
            levels: of probability, in [0, 1].
        """
        checked = tuple(validate.fraction("a level of quantiles", level) for level in levels)
        pooled = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), self.state.particles)
        return jax.tree.map(np.asarray, quantiles(pooled, jnp.asarray(self._pooled_log_weights().reshape(-1)), checked))

    def _pooled_log_weights(self) -> np.ndarray:
        runs = self.log_z_runs
        return np.asarray(self._state.population.log_weights) + (runs - np.logaddexp.reduce(runs))[:, None]

    def __repr__(self) -> str:
        if self._t < 0:
            return f"{self._title}, nothing observed yet"
        ess = self.ess
        lines = [
            ("log Z", f"{self.log_z:.3f} nats"),
            ("ESS", f"{ess.min():.0f} to {ess.max():.0f}" if ess.size > 1 else f"{ess[0]:.0f}"),
            ("status", "; ".join(explain(self.status)) or "OK"),
        ]
        return as_text(f"{self._title}, after step {self._t}", lines)


def title(what: str, num_particles: int, num_runs: int) -> str:
    """The first words of what a standing cloud prints.

    Args:
        what: it is.
        num_particles: of each run.
        num_runs: independent runs.
    """
    return f"smcinfer online {what}, {num_particles} particles x {counted(num_runs, 'run')}"
