"""What can be read of an online filter between two observations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core import smc
from smcinfer.core.settings import Settings
from smcinfer.core.status import Status
from smcinfer.ground.arrays import Array, PyTree
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.names import leaves_by_name
from smcinfer.results.forecast import Forecast
from smcinfer.results.from_run import record, settings_of
from smcinfer.results.result import Result
from smcinfer.results.smoothed import Smoothed
from smcinfer.run.runner import as_typed_key, collect
from smcinfer.state_space.forecast import forecast, onwards
from smcinfer.state_space.known import Clock
from smcinfer.state_space.model import StateSpace
from smcinfer.state_space.online.cloud import FORECASTS, Cloud, Standing, title
from smcinfer.state_space.online.rows import Reader, through
from smcinfer.state_space.online.step import Filter, Stepper


class StandingFilter(Standing):
    """Where a filter stands after the last observation.

    Args:
        key: one random key.
        model: made by `state_space`.
        settings: of the driver.
        num_runs: independent runs.
        lag: steps that the fixed-lag smoother looks back.
    """

    def __init__(self, key: Any, model: StateSpace, settings: Settings, num_runs: int, lag: int) -> None:
        self._key = as_typed_key(key)
        self._keys = jax.random.split(self._key, num_runs)
        self._settings, self._lag = settings, lag
        self._read = Reader(model)
        self._model = through(model, jnp.zeros((), jnp.int32), self._read.blank())
        self._leaves: list[Array] = []
        self._structure: Any = None
        self._stepper: Stepper | None = None
        self._title = title("filter", settings.num_particles, num_runs)
        self._clock: Clock | None = None

    @property
    def _now(self) -> Filter:
        self._check_begun()
        return jax.tree.unflatten(self._structure, self._leaves)

    @property
    def _state(self) -> smc.SMCState:
        return self._now.state

    @property
    def _increments(self) -> Any:
        return self._now.record["log_z_increment"]

    @property
    def _moments(self) -> tuple[PyTree[Any], PyTree[Any]]:
        kept = self._now.record
        return kept["filtered_mean"], kept["filtered_sd"]

    @property
    def state(self) -> Cloud:
        """The weighted particles of the filter p(x_t | y_0:t), every leaf ``(num_runs, num_particles, ...)``."""
        state = self._now.state
        return Cloud(jax.vmap(self._model.exported)(state.population.particles), state.population.log_weights)

    def predict(
        self,
        horizon: int,
        *,
        future_times: Any = None,
        future_inputs: PyTree[Any] = None,
        num_draws: int = 1000,
        key: Any = None,
    ) -> Forecast:
        """Draws of the states and observations of the next steps; the filter stays as it is.

        Args:
            horizon: how many steps.
            future_times, future_inputs: of these steps, with a leading axis of ``horizon``, where the model has any.
            num_draws: how many paths.
            key: a random key; where ``None``, one that depends on the filter's own and on t.

        Returns:
            A `Forecast`: ``quantile``, ``mean``, ``draws`` of ``observations`` and ``states``, scores of what came.
        """
        mine = jax.random.fold_in(jax.random.fold_in(self._key, FORECASTS), self._t)
        used = mine if key is None else as_typed_key(key)
        states, log_weights = self.state.particles, self._pooled_log_weights()
        model = onwards(self._model, self._t + 1, horizon, future_times, future_inputs, self._clock)
        return forecast(used, model, states, log_weights, self._t, horizon, num_draws, self._described())

    @property
    def smoothed(self) -> Smoothed:
        """The last states given all that was observed since: x_{t-L} .. x_t given y_0:t, by the particles' ancestors.

        Raises:
            ArgumentError: the filter keeps no lag.
        """
        recent = self._now.recent
        if recent is None:
            raise ArgumentError("the filter keeps no lag", expected="online(..., lag=10) say", got="lag=0")
        rows = min(self._lag, self._t) + 1
        back = lambda leaf: np.asarray(leaf)[:, :rows][:, ::-1]  # noqa: E731
        weights = np.asarray(self._now.state.population.log_weights)
        return Smoothed(
            method="fixed_lag",
            values={name: back(leaf) for name, leaf in leaves_by_name(recent.states).items()},
            log_weights=np.broadcast_to(weights[:, None], (weights.shape[0], rows, weights.shape[1])),
            chosen=back(recent.chosen),
            log_z_runs=self.log_z_runs,
            status=self.status & ~Status.GENEALOGY_COALESCED,
            settings=self._described() | {"weighted_for": Smoothed.WEIGHTED_FOR, "first": self._t + 1 - rows},
            seconds=0.0,
            compile_seconds=0.0,
        )

    def result(self) -> Result:
        """Where the filter stands as `smcinfer.sample` would return it, with the error bar of log Z, without a history."""
        done = collect(self._t, self._now.state, [{}], self._model, self._settings)
        return record(self._key, done, self._model, self._settings.num_particles, **self._common())

    def _common(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "num_runs": self._keys.shape[0],
            "resampling": settings.resampling,
            "resample_below": settings.resample_below,
            "lag": self._lag,
        }

    def _described(self) -> dict[str, Any]:
        return settings_of(self._key, self._model, self._settings.num_particles, **self._common())
