"""Parameters learned while data come one by one: SMC squared and data annealing, between two observations."""

import dataclasses
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core import smc
from smcinfer.core.settings import Settings
from smcinfer.core.status import Status
from smcinfer.ground.arrays import Array, Int, Key, PyTree
from smcinfer.ground.errors import surfacing
from smcinfer.results.forecast import Forecast
from smcinfer.results.from_run import record, settings_of
from smcinfer.results.result import Result
from smcinfer.run.checkpoint import program_digest
from smcinfer.run.runner import as_typed_key, collect
from smcinfer.state_space.forecast import forecast
from smcinfer.state_space.known import Clock
from smcinfer.state_space.online.cloud import FORECASTS, Cloud, Standing, title
from smcinfer.state_space.online.families import Family
from smcinfer.state_space.online.paused import Paused
from smcinfer.state_space.summaries import moments

ROOM = 16
"""Rows that there is room for at first; the room doubles where it is full."""


class Learning(Standing):
    """A sampler of parameters that takes observations as they come.

    Args:
        key: one random key.
        family: the target, and how it is sampled.
        num_particles: parameters of each run.
        num_runs: independent runs.
        resampling, resample_below: as in `online`.
    """

    def __init__(
        self, key: Any, family: Family, num_particles: int, num_runs: int, resampling: str, resample_below: float | None
    ) -> None:
        self._key, self._family = as_typed_key(key), family
        self._rows: Any = None
        self._clock: Clock | None = None
        self._num_runs = num_runs
        self._after: tuple[smc.SMCState, smc.Record] | None = None
        self._made = partial(Settings, num_particles, resampling)
        self._resample_below = resample_below
        self._title = title(family.what, num_particles, num_runs)

    def update(self, y: Any, *, time: float | None = None, inputs: PyTree[Any] = None) -> None:
        """Take in the next observation: one step, in which parameters move where the effective sample size asks for it.

        Args:
            y: y_t, shaped like one row of the data.
            time, inputs: of the step, where the models have any.

        Raises:
            ArgumentError: for an observation that the target cannot take; the sampler is then as it was.
        """
        row, clock = self._family.read(y, self._t + 1, time, inputs, self._clock)
        self._take(row)
        self._clock = clock

    def take_given(self, model: Any) -> Any:
        """The data that the target was made with, one step each.

        Args:
            model: the target itself, which its family holds already.
        """
        del model
        rows, clock = self._family.given()
        for row in rows:
            self._take(row)
        self._clock = clock
        return self

    def _take(self, row: Any) -> None:
        at = self._t + 1
        rows = _with_row(self._rows, row, at)
        model = self._family.model(rows)
        with surfacing():
            if self._after is None:
                self._after = _begin(self._keys(model), model, self._settings(model))
            if at or not self._family.starts_with_data:
                step = jnp.asarray(at + (not self._family.starts_with_data), jnp.int32)
                self._after = _step(step, self._after[0], model, self._family.reading, self._settings(model))
        self._rows, self._t = rows, at

    def _keys(self, model: Any) -> Key[Array, " runs"]:
        return jax.random.split(self._key, self._num_runs + model.led)

    def _settings(self, model: Any) -> Settings:
        return self._made(model.plan.threshold(self._resample_below), "scalars", model.plan.lag)

    @property
    def _now(self) -> tuple[smc.SMCState, smc.Record, Any]:
        """Of the runs that count: the leader's is left out."""
        self._check_begun()
        model = self._family.model(self._rows)
        after = jax.tree.map(lambda leaf: leaf[int(model.led) :], self._after)
        return (*after, model)

    @property
    def _state(self) -> smc.SMCState:
        return self._now[0]

    @property
    def _increments(self) -> Any:
        return self._now[1]["log_z_increment"]

    @property
    def _moments(self) -> tuple[PyTree[Any], PyTree[Any]]:
        return _moments_of(*self.state)

    @property
    def state(self) -> Cloud:
        """The weighted parameters given y_0:t under their own names, every leaf ``(num_runs, num_particles, ...)``."""
        state, _, model = self._now
        return Cloud(jax.vmap(model.exported)(state.population.particles), state.population.log_weights)

    def predict(self, horizon: int, *, num_draws: int = 1000, key: Any = None) -> Forecast:
        """Draws of parameters, states and observations of the next steps; the sampler stays as it is.

        Args:
            horizon: how many steps.
            num_draws: how many paths.
            key: a random key; where ``None``, one that depends on the sampler's own and on t.

        Returns:
            A `Forecast`, whose states hold the parameters too.

        Raises:
            TargetError: for data without an order, or models with times or inputs.
        """
        state, _, model = self._now
        ahead, states, log_weights = self._family.ahead(state.population.particles, self._pooled_log_weights())
        used = (
            jax.random.fold_in(jax.random.fold_in(self._key, FORECASTS), self._t) if key is None else as_typed_key(key)
        )
        told = settings_of(self._key, model, self._made().num_particles, **self._common(model))
        return forecast(used, ahead, states, np.asarray(log_weights), self._t, horizon, num_draws, told)

    def result(self) -> Result:
        """Where the sampler stands as `smcinfer.sample` would return it, without a history."""
        self._check_begun()
        model: Any = self._family.model(self._rows)
        done = collect(self._t, self._after[0], [{}], model, self._settings(model))  # pyright: ignore[reportOptionalSubscript]
        # A path along data to come is never at its end.
        found = dataclasses.replace(done, status=done.status & ~int(Status.SCHEDULE_UNFINISHED))
        return record(self._key, found, model, self._made().num_particles, **self._common(model))

    def _common(self, model: Any) -> dict[str, Any]:
        settings = self._settings(model)
        below = settings.resample_below
        return {"num_runs": self._num_runs, "resampling": settings.resampling, "resample_below": below}

    def _paused(self) -> dict[str, Any]:
        model = self._family.model(self._rows)
        settings = settings_of(self._key, model, self._made().num_particles, **self._common(model)) | {"lag": 0}
        return {"leaves": jax.tree.leaves((self._after, self._rows)), "clock": self._clock, "settings": settings}

    def restore(self, paused: Paused) -> Any:
        """This sampler where a saved one of the same target stood.

        Args:
            paused: what a file holds.

        Raises:
            CheckpointError: the file holds the sampler of another target.
        """
        paused.refuse_another(self._identity())
        self._after, rows = paused.wound((self._shape()[0], self._family.blank()))
        self._rows, self._t = jax.tree.map(np.asarray, rows), paused.step
        self._clock = Clock(*paused.clock) if paused.clock else None
        return self

    def _shape(self) -> tuple[Any, Any]:
        model = self._family.model(self._family.blank())
        return eqx.filter_eval_shape(smc.init, self._keys(model), model, self._settings(model)), model

    def _identity(self) -> str:
        """Digest of the step, the target's arrays and the key."""
        (state, _), model = self._shape()
        settings, reading = self._settings(model), self._family.reading
        step = lambda state, model: _stepped(jnp.ones((), jnp.int32), state, model, reading, settings)  # noqa: E731
        mine = [*jax.tree.leaves(eqx.filter(model, eqx.is_array)), self._key]
        return program_digest((settings,), step, (state, model), mine)


def _with_row(rows: Any, row: Any, at: int) -> Any:
    """Rows with one more, in arrays of their own: what a step under way reads must not change."""
    if rows is None:
        return jax.tree.map(lambda leaf: np.repeat(leaf, ROOM, axis=0), row)

    def put(leaf: np.ndarray, new: np.ndarray) -> np.ndarray:
        longer = np.concatenate([leaf, leaf]) if at == len(leaf) else leaf.copy()
        longer[at] = new[0]
        return longer

    return jax.tree.map(put, rows, row)


@eqx.filter_jit
def _begin(keys: Key[Array, " runs"], model: Any, settings: Settings) -> tuple[smc.SMCState, smc.Record]:
    return smc.init(keys, model, settings)


@eqx.filter_jit
def _step(
    t: Int[Array, ""], state: smc.SMCState, model: Any, reading: Any, settings: Settings
) -> tuple[smc.SMCState, smc.Record]:
    return _stepped(t, state, model, reading, settings)


def _stepped(
    t: Int[Array, ""], state: smc.SMCState, model: Any, reading: Any, settings: Settings
) -> tuple[smc.SMCState, smc.Record]:
    """The driver's step, by particles that know of the row that has just come."""
    seen = reading(t, model, state.population.particles)
    return smc.step(t, eqx.tree_at(lambda tree: tree.population.particles, state, seen), model, settings)


_moments_of = jax.jit(jax.vmap(moments))
