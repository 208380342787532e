"""One observation as it comes: read and checked on the host, then put in place of a model's data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground import validate
from smcinfer.ground.arrays import PyTree, Time
from smcinfer.ground.data import read, refuse_missing
from smcinfer.ground.errors import ArgumentError
from smcinfer.state_space.known import Clock, Known, put
from smcinfer.state_space.model import StateSpace
from smcinfer.state_space.observations import Observations, fill, marks
from smcinfer.state_space.slots import slots_of

ENDLESS = 2**31 - 2
"""Steps of a filter that has no last one: what the counter of steps holds."""


class Row(NamedTuple):
    """One step, every array with a leading axis of one row.

    Attributes:
        values, present, complete, anything: of the observation, as in `Observations`.
        told: time, time since the step before, and inputs, where the model has any.
    """

    values: PyTree[Any]
    present: PyTree[Any] | None
    complete: Any
    anything: Any
    told: tuple[Any, Any, PyTree[Any]] | None = None


def through(model: StateSpace, t: Time, row: Row) -> StateSpace:
    """The model as it is at step t: the row in place of its data, and no last step.

    Args:
        model: made by `state_space`.
        t: Int[""], the step that the row was observed at.
        row: of arrays.
    """
    made = jax.tree.map(jnp.asarray, row)
    nodes: list[Any] = [Observations(*made[:4], first=t)]
    if made.told is not None:
        nodes.append(Known(*made.told, None, t))
    return put(model, *nodes).replace(num_steps=ENDLESS)


class Reader:
    """Reads one observation after another for a model.

    Args:
        model: made by `state_space`.
    """

    def __init__(self, model: StateSpace) -> None:
        observed: Any = model.potential
        self._slots = slots_of(observed.observation, model.one_state)
        self._gaps = model.observations.present is not None
        self._known = model.known

    def __call__(self, y: Any, t: int) -> Row:
        """One observation as a row, checked.

        Args:
            y: as `smcinfer.ground.data.read` takes it, without an axis of time; ``None`` for nothing observed.
            t: the step, for messages.

        Raises:
            ArgumentError: it is no number, of another structure or shape, outside the support of its law, or missing where
                the model takes no gaps.
        """
        if y is None:
            return self._marked(*self._nothing(), t)
        try:
            parts = self._slots.structure.flatten_up_to(y)
        except (ValueError, TypeError):
            parts = None
        if parts is None or any(isinstance(part, dict) for part in parts):
            raise ArgumentError(
                f"the observation of step {t} has another structure than its law",
                expected=self._slots.structure,
                got=jax.tree.structure(y),
            )
        rows, there = [], []
        for slot, part in zip(self._slots.each, parts, strict=True):
            leaf, mask = read("the observation", np.full(slot.shape, np.nan) if part is None else part)
            if leaf.shape != slot.shape:
                raise ArgumentError(
                    f"the observation of step {t} has the wrong shape",
                    expected=slot.shape,
                    got=leaf.shape,
                    hint="one call of update takes one observation, without an axis of time",
                )
            slot.check_missing(mask[None])
            slot.check_support(leaf[None], mask[None])
            rows.append(fill(leaf, mask).astype(slot.dtype)[None])
            there.append(mask[None])
        return self._marked(self._slots.tree(rows), self._slots.tree(there), t)

    def told(self, row: Row, time: float | None, inputs: PyTree[Any], clock: Clock | None) -> tuple[Row, Clock | None]:
        """The row with its time and inputs, and where the times then stand.

        Args:
            row: of an observation.
            time, inputs: of the same step, where the model has any.
            clock: where the steps before begin and end.

        Raises:
            ArgumentError: as `Known.onwards`; for any where the model has none.
        """
        if self._known is None:
            validate.not_given("a model without times and inputs", time=time, inputs=inputs)
            return row, clock
        moment = None if time is None else [validate.number("time", time)]
        given = None if inputs is None else jax.tree.map(lambda leaf: np.asarray(leaf)[None], inputs)
        known: Any = self._known
        told = known.onwards(1, moment, given, clock)
        return row._replace(told=told[:3]), told.clock

    def blank(self) -> Row:
        """A row that stands for any: its shapes, and nothing observed."""
        values, present = self._nothing()
        told = None if self._known is None else self._known.blank()[:3]
        return Row(values, present, *marks(present), told) if self._gaps else Row(values, None, None, None, told)

    def typed(self, row: Row) -> Row:
        """A row of data in the dtypes of those that come one by one."""
        leaves = self._slots.structure.flatten_up_to(row.values)
        typed = [leaf.astype(slot.dtype) for leaf, slot in zip(leaves, self._slots.each, strict=True)]
        return row._replace(values=self._slots.tree(typed))

    def _nothing(self) -> tuple[PyTree[Any], PyTree[Any]]:
        rows = lambda kind: [np.zeros((1, *slot.shape), kind or slot.dtype) for slot in self._slots.each]  # noqa: E731
        return self._slots.tree(rows(None)), self._slots.tree(rows(bool))

    def _marked(self, values: PyTree[Any], present: PyTree[Any], t: int) -> Row:
        if not self._gaps:
            hint = 'make the model with missing="skip", and without data or with data that have a gap'
            refuse_missing(f"the observation of step {t}", present, hint)
            return Row(values, None, None, None)
        return Row(values, present, *marks(present))


def rows_of(model: StateSpace, read: Reader) -> list[Row]:
    """The data that a model was made with, one row a step.

    Args:
        model: made by `state_space`.
        read: of the same model.
    """
    seen, known = jax.tree.map(np.asarray, (model.observations, model.known))
    told = None if known is None else (known.time, known.dt, known.inputs)
    whole = Row(seen.values, seen.present, seen.complete, seen.anything, told)
    if seen.present is not None:
        whole = whole._replace(anything=marks(seen.present)[1])
    rows = [jax.tree.map(lambda leaf, t=t: leaf[t : t + 1], whole) for t in range(seen.num_steps + 1)]
    return [read.typed(row) for row in rows]
