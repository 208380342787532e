"""Filtering data as they come: one observation, one compiled step, bounded memory, and a file to go on from."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, PyTree
from smcinfer.ground.errors import ArgumentError, surfacing
from smcinfer.run.checkpoint import program_digest
from smcinfer.state_space.known import Clock
from smcinfer.state_space.model import StateSpace
from smcinfer.state_space.online.cloud import Cloud
from smcinfer.state_space.online.paused import Paused
from smcinfer.state_space.online.rows import ENDLESS, Row, rows_of
from smcinfer.state_space.online.standing import StandingFilter
from smcinfer.state_space.online.step import Filter, Stepper, advance, begin, begin_from


class Filtering(StandingFilter):
    """A filter that takes observations as they come.

    Every `update` is one step of the driver, the same as that of `smcinfer.sample`: fed with the data one by one it gives, bit
    for bit, what `sample` gives on all of them. Nothing grows with the number of steps.
    """

    def update(self, y: Any, *, t: int | None = None, time: float | None = None, inputs: PyTree[Any] = None) -> None:
        """Take in the next observation.

        Args:
            y: y_t, shaped like one row of the data; ``None``, or NaN in it, for what was not observed, where the model was
                made with ``missing="skip"``.
            t: the step it belongs to, where it may not be the next one: steps that it leaves out were not observed.
            time: when it was made, where the model has times; in their unit, and later than the last.
            inputs: of the step, where the model has inputs.

        Raises:
            ArgumentError: it comes late (its step was filtered already), leaves out steps or misses entries where the model
                takes no gaps, has the wrong shape or structure, or lies outside the support of its law. The filter is then as
                it was.
        """
        at = self._t + 1 if t is None else validate.count("t", t, at_least=0, at_most=ENDLESS)
        if at <= self._t:
            raise ArgumentError(
                f"the observation of step {at} comes late",
                expected=f"a step after {self._t}, the last that was filtered",
                got=at,
                hint="keep observations back until those before them are there, or leave this one out",
            )
        row = self._read(y, at)
        skipped = [self._read(None, step) for step in range(self._t + 1, at)]
        if skipped and self._model.known is not None:
            raise ArgumentError(
                "steps cannot be left out of a model with times or inputs", expected=f"t={self._t + 1}", got=at
            )
        row, clock = self._read.told(row, time, inputs, self._clock)
        self._take([*skipped, row])
        self._clock = clock

    def _take(self, rows: list[Row]) -> None:
        """The next steps, checked."""
        with surfacing():
            for row in rows:
                self._leaves = self._stepped(self._t + 1, row)
                self._t += 1

    def _stepped(self, t: int, row: Row) -> list[Array]:
        if self._stepper is not None:
            return self._stepper(t, self._leaves, row)
        first = begin(self._keys, self._model, row, self._settings, self._lag)
        return self._at(first)

    def _at(self, first: Filter) -> list[Array]:
        """The arrays of a filter, and the step that goes on from such."""
        leaves, self._structure = jax.tree.flatten(first)
        self._stepper = Stepper(self._model, self._settings, self._structure)
        return leaves

    def _paused(self) -> dict[str, Any]:
        return {"leaves": self._leaves, "clock": self._clock, "settings": self._described()}

    def restore(self, paused: Paused) -> Any:
        """This filter where a saved one of the same model stood.

        Args:
            paused: what a file holds.

        Raises:
            CheckpointError: the file holds the filter of another model.
        """
        paused.refuse_another(self._identity())
        self._leaves, self._t = self._at(paused.wound(self._shape())), paused.step
        self._clock = Clock(*paused.clock) if paused.clock else None
        return self

    def take_given(self, model: StateSpace) -> Any:
        """The data that the model was made with, one step each.

        Args:
            model: with its data.
        """
        if not model.observations.awaited:
            self._take(rows_of(model, self._read))
            self._clock = model.known.clock if model.known else None
        return self

    def start_from(self, cloud: Cloud, t: int, time: float | None) -> Any:
        """Go on from weighted states.

        Args:
            cloud: of every run.
            t: the step that it is of.
            time: when that was, where the model has times.

        Raises:
            ArgumentError: the cloud does not fit the model or the number of runs.
        """
        t = validate.count("t", t, at_least=0, at_most=ENDLESS)
        states, given = _fitting(cloud, self._model.one_state, self._keys.shape[0])
        timed = self._model.known is not None and self._model.known.time is not None
        if timed is (time is None):
            raise ArgumentError(
                "the model has times" if timed else "the model has no times",
                expected="time=, when the cloud is of" if timed else "time=None",
                got=time,
            )
        moment = None if time is None else validate.number("time", time)
        first = begin_from(self._keys, self._model, states, given, self._settings, self._lag)
        self._leaves, self._t = self._at(first), t
        self._clock = None if moment is None else Clock(moment, moment)
        return self

    def _shape(self) -> Filter:
        row = self._read.blank()
        return eqx.filter_eval_shape(begin, self._keys, self._model, row, self._settings, self._lag)

    def _identity(self) -> str:
        """Digest of the step, the model's arrays and the key."""
        row, t = self._read.blank(), jnp.ones((), jnp.int32)
        mine = [*jax.tree.leaves(eqx.filter(self._model, eqx.is_array)), self._keys]
        step = lambda before, model, row: advance(t, before, model, row, self._settings)  # noqa: E731
        return program_digest((self._settings, self._lag), step, (self._shape(), self._model, row), mine)


def _fitting(cloud: Any, one: PyTree[Any], num_runs: int) -> tuple[PyTree[Any], Array]:
    """A cloud's arrays, checked against one state and the number of runs."""
    cloud = validate.instance("cloud", cloud, Cloud, "the state of an online filter, or Cloud(particles, log_weights)")
    given = jnp.asarray(cloud.log_weights, jnp.result_type(float))
    sizes = given.shape if given.ndim == 2 else ("num_runs", "M")
    wanted = jax.tree.map(lambda leaf: (*sizes, *leaf.shape), one)
    found = jax.tree.map(jnp.shape, cloud.particles)
    if given.ndim != 2 or given.shape[0] != num_runs or found != wanted:
        raise ArgumentError(
            "the cloud does not fit the filter",
            expected=f"{num_runs} run(s): log_weights ({num_runs}, M), particles {wanted}",
            got=f"log_weights {given.shape}, particles {found}",
            hint="every array begins with the runs and the particles of each",
        )
    if not np.isfinite(np.asarray(jax.nn.logsumexp(given, axis=1))).all():
        raise ArgumentError("the cloud has a run without weight", expected="finite log weights", got=given)
    return jax.tree.map(lambda leaf, like: jnp.asarray(leaf, like.dtype), cloud.particles, one), given
