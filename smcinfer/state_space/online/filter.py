"""Filtering data as they come: one observation, one compiled step, bounded memory, and a file to go on from."""

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.settings import Settings
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, PyTree
from smcinfer.ground.errors import ArgumentError, CheckpointError, TargetError, surfacing
from smcinfer.ground.keys import key_of_kind
from smcinfer.results.record import Record, arrays
from smcinfer.results.words import Lines, counted
from smcinfer.run.checkpoint import program_digest
from smcinfer.state_space.known import Clock, Rows
from smcinfer.state_space.model import StateSpace
from smcinfer.state_space.observations import marks
from smcinfer.state_space.online.rows import ENDLESS, Row
from smcinfer.state_space.online.standing import Standing
from smcinfer.state_space.online.step import Filter, Stepper, advance, begin


class Online(Standing):
    """A filter that takes observations as they come (made by `online`).

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
        if self._model.known is None:
            validate.not_given("a model without times and inputs", time=time, inputs=inputs)
            told = None
        else:
            if skipped:
                raise ArgumentError(
                    "steps cannot be left out of a model with times or inputs", expected=f"t={self._t + 1}", got=at
                )
            told = self._told(time, inputs)
            row = row._replace(told=told[:3])
        self._take([*skipped, row])
        self._clock = self._clock if told is None else told.clock

    def _told(self, time: float | None, inputs: PyTree[Any]) -> Rows:
        """The time and the inputs of one step, as a row."""
        known: Any = self._model.known
        moment = None if time is None else [validate.number("time", time)]
        row = None if inputs is None else jax.tree.map(lambda leaf: np.asarray(leaf)[None], inputs)
        return known.onwards(1, moment, row, self._clock)

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

    def _filter_data(self, model: StateSpace) -> None:
        """The data that a model was made with, one step each."""
        seen, known = jax.tree.map(np.asarray, (model.observations, model.known))
        told = None if known is None else (known.time, known.dt, known.inputs)
        whole = Row(seen.values, seen.present, seen.complete, seen.anything, told)
        if seen.present is not None:
            whole = whole._replace(anything=marks(seen.present)[1])
        rows = [jax.tree.map(lambda leaf, t=t: leaf[t : t + 1], whole) for t in range(seen.num_steps + 1)]
        self._take([self._read.typed(row) for row in rows])
        self._clock = model.known.clock if model.known else None

    def save(self, path: str | Path) -> Path:
        """Write where the filter stands to a file; ``smcinfer.load(path).resume(model)`` goes on bit for bit.

        Args:
            path: of the file, replaced where it exists.

        Raises:
            ArgumentError, FileError: as of any record.
        """
        self._check_begun()
        return PausedFilter(
            leaves={f"leaf{number}": _words(leaf) for number, leaf in enumerate(self._leaves)},
            step=self._t,
            identity=self._identity(),
            generator=str(jax.random.key_impl(self._key)),
            clock=[self._clock.first, self._clock.last] if self._clock else [],
            settings=self._described(),
            status=self.status,
            seconds=0.0,
            compile_seconds=0.0,
        ).save(path)

    def _restore(self, paused: "PausedFilter") -> "Online":
        """This filter where a saved one of the same model stood."""
        wanted, structure = jax.tree.flatten(self._shape())
        if paused.identity != self._identity():
            raise CheckpointError(
                "the file holds the filter of another model",
                expected=f"identity {self._identity()[:12]} (same model, precision and version of JAX)",
                got=paused.identity[:12],
                hint="resume with the model that it was made with",
            )
        leaves = [paused.leaves[f"leaf{number}"] for number in range(len(wanted))]
        keyed = lambda leaf: key_of_kind(jnp.asarray(leaf), paused.generator)  # noqa: E731
        found = [keyed(leaf) if _is_key(want) else jnp.asarray(leaf) for leaf, want in zip(leaves, wanted, strict=True)]
        self._leaves, self._t = self._at(jax.tree.unflatten(structure, found)), paused.step
        self._clock = Clock(*paused.clock) if paused.clock else None
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


@dataclasses.dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class PausedFilter(Record):
    """What `Online.save` wrote and `smcinfer.load` reads: all that an online filter goes on from, but for its model.

    Attributes:
        leaves: arrays of the filter by number; random keys are their words.
        step: the last step that was filtered.
        identity: digest of the model, the settings and the key.
        generator: name of the kind of random keys.
        clock: first and last time, where the model has times.
    """

    leaves: dict[str, np.ndarray] = arrays()
    step: int
    identity: str
    generator: str
    clock: list[float]

    WEIGHTED_FOR = "the filter at the step where it was saved"

    def resume(self, model: StateSpace) -> Online:
        """The filter where it stood, to go on bit for bit.

        Args:
            model: the one that it was made with; functions are in no file.

        Raises:
            CheckpointError: for another model, precision or version of JAX.
        """
        names = ("num_particles", "num_runs", "lag", "resampling", "resample_below")
        words = jnp.asarray(np.asarray(self.settings["key"], np.uint32))
        made = _made(key_of_kind(words, self.generator), model, **{name: self.settings[name] for name in names})
        return made._restore(self)

    def _title(self) -> str:
        return f"smcinfer online filter, saved after step {self.step}"

    def _lines(self) -> Lines:
        runs = counted(self.settings["num_runs"], "run")
        return [("size", f"{self.settings['num_particles']} particles x {runs}"), ("goes on by", ".resume(model)")]


def online(
    key: Any,
    model: StateSpace,
    *,
    num_particles: int = 4096,
    num_runs: int = 1,
    lag: int = 0,
    resampling: str = "systematic",
    resample_below: float | None = None,
) -> Online:
    """A filter that takes observations as they come, with the step and the numbers of `smcinfer.sample`.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same filter bit for bit, resumed or not.
        model: made by `state_space`, best without data. Data that it has are filtered first.
        num_particles: particles of each run.
        num_runs: independent runs, side by side in one program.
        lag: steps that the fixed-lag smoother looks back (`Online.smoothed`); memory is that of ``lag + 1`` populations.
        resampling: name of a scheme.
        resample_below: resample where the ESS falls below this fraction of N; what the model's plan says where ``None``.

    Returns:
        An `Online`: ``update``, ``predict``, ``mean``, ``log_z``, ``smoothed``, ``save``.

    Raises:
        ArgumentError: for settings out of range.
        TargetError: for a model with a twist, which looks at data to come.

    Properly weighted for: p(x_{0:t}, y_{0:t}) after every update, as the filter of `sample` is.
    """
    made = _made(
        key,
        model,
        num_particles=num_particles,
        num_runs=num_runs,
        lag=lag,
        resampling=resampling,
        resample_below=resample_below,
    )
    if not model.observations.awaited:
        made._filter_data(model)
    return made


def _made(
    key: Any,
    model: StateSpace,
    *,
    num_particles: int,
    num_runs: int,
    lag: int,
    resampling: str,
    resample_below: float | None,
) -> Online:
    """A filter before its first observation."""
    model = validate.instance("model", model, StateSpace, "smcinfer.state_space(initial, transition, observation)")
    if model.twist is not None:
        raise TargetError(
            "a twist looks at data to come, and here none are known",
            expected="a model without twist",
            got=type(model.twist).__name__,
            hint="a guide or a look-ahead sees the observation that has just come",
        )
    num_runs, lag = validate.count("num_runs", num_runs), validate.count("lag", lag, at_least=0)
    below, history = model.plan.threshold(resample_below), "ancestors" if lag else "scalars"
    settings = Settings(num_particles, resampling, below, history, model.plan.lag)
    return Online(key, model, settings, num_runs, lag)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _words(leaf: jax.Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
