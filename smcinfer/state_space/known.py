"""What is known of a step beside its observation: when it is, how long after the step before, and inputs from outside."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Count, Float, PyTree, Scalar, Time
from smcinfer.ground.data import complete
from smcinfer.ground.errors import ArgumentError

HINT = "one row a step, y_0 .. y_T; for a model without data, arrays of no rows"


class Now(NamedTuple):
    """What a model's functions are told of step t, as their last argument.

    Attributes:
        time: Float[""], since step 0, in the unit of the times; ``None`` where no times were given.
        dt: Float[""], since step t - 1, zero at step 0; ``None`` where no times were given.
        inputs: what was given for the step; ``None`` where none were.
    """

    time: Scalar | None
    dt: Scalar | None
    inputs: PyTree[Any]


class Clock:
    """First and last time of a model's data, in full precision. All are equal to a compiler: no program depends on them."""

    def __init__(self, first: float, last: float) -> None:
        self.first = first
        self.last = last

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Clock)

    def __hash__(self) -> int:
        return hash(Clock)


class Known(eqx.Module):
    """Times and inputs of consecutive steps.

    Attributes:
        time: Float["rows"], since step 0, or ``None``.
        dt: Float["rows"], since the step before, or ``None``.
        inputs: tree of arrays with a leading axis of rows, or ``None``.
        clock: where the data begin and end, or ``None``.
        first: the step of row 0; ``None`` for step 0.
    """

    time: Float[Array, "*series rows"] | None
    dt: Float[Array, "*series rows"] | None
    inputs: PyTree[Any]
    clock: Clock | None = eqx.field(static=True, default=None)
    first: Count | None = None

    @classmethod
    def of(cls, rows: "Rows", first: Count | None = None) -> "Known":
        """Rows as arrays on the device.

        Args:
            rows: numpy or JAX arrays.
            first: the step of row 0; ``None`` for step 0.
        """
        return cls(*jax.tree.map(jnp.asarray, (rows.time, rows.dt, rows.inputs)), rows.clock, first)

    def at(self, t: Time) -> Now:
        """What is known of step t."""
        index = t if self.first is None else t - self.first
        return Now(*jax.tree.map(lambda leaf: leaf[index], (self.time, self.dt, self.inputs)))

    def onwards(self, num_rows: int, times: Any, inputs: PyTree[Any], clock: Clock | None) -> "Rows":
        """The same of later steps, as numpy arrays.

        Args:
            num_rows: how many there are.
            times: of theirs, in the unit and from the zero of the times before; where this has none, ``None``.
            inputs: theirs; where this has none, ``None``.
            clock: where the steps before begin and end; ``None`` where there were none.

        Raises:
            ArgumentError: for what is missing or too much, of another shape, or not later.
        """
        for what, value, wanted in (("times", times, self.time), ("inputs", inputs, self.inputs)):
            if (value is None) is not (wanted is None):
                raise ArgumentError(
                    f"the model {'has no' if wanted is None else 'needs'} {what} of the steps to come",
                    expected=f"{what}=None" if wanted is None else f"{what} of {num_rows} step(s)",
                    got=value,
                )
        later = read_known(times, inputs, num_rows, clock)
        shapes = [jax.tree.map(lambda leaf: leaf.shape[1:], tree) for tree in (self.inputs, later.inputs)]
        if shapes[0] != shapes[1]:
            raise ArgumentError("inputs have another shape than before", expected=shapes[0], got=shapes[1])
        typed = jax.tree.map(lambda new, old: new.astype(old.dtype), later.inputs, self.inputs)
        return later._replace(inputs=typed)

    def blank(self) -> "Rows":
        """One row that stands for any: its shapes."""
        row = lambda leaf: np.zeros((1, *leaf.shape[1:]), leaf.dtype)  # noqa: E731
        return Rows(*jax.tree.map(row, (self.time, self.dt, self.inputs)), self.clock)


class Rows(NamedTuple):
    """Times and inputs of consecutive steps as numpy arrays, each with a leading axis of rows, and where they begin and end."""

    time: Any
    dt: Any
    inputs: PyTree[Any]
    clock: Clock | None


def put(model: Any, *nodes: Any) -> Any:
    """The model with nodes in place of all of the same kind: its data, or its times and inputs.

    Args:
        model: any tree.
        nodes: each of another kind.
    """
    by_kind = {type(node): node for node in nodes}
    return jax.tree.map(lambda node: by_kind.get(type(node), node), model, is_leaf=lambda node: type(node) in by_kind)


class Informed(eqx.Module):
    """A model's function that is told what is known of the step, as its last argument."""

    function: Callable[..., Any]
    known: Known

    def __call__(self, t: Time, *arguments: Any) -> Any:
        """The function at step t."""
        return self.function(t, *arguments, self.known.at(t))


def read_known(times: Any, inputs: PyTree[Any], num_rows: int, clock: Clock | None = None) -> Rows:
    """Times and inputs, checked.

    Args:
        times: ``(num_rows,)``, increasing, or ``None``.
        inputs: arrays with a leading axis of ``num_rows``, or ``None``.
        num_rows: how many steps there are.
        clock: of the steps before, where there are any.

    Raises:
        ArgumentError: for what is no number, of another length, or times that do not increase.
    """
    kept = None if inputs is None else complete("inputs", inputs)
    lengths = [leaf.shape[0] if leaf.ndim else -1 for leaf in jax.tree.leaves(kept)]
    if any(length != num_rows for length in lengths):
        raise ArgumentError(
            "inputs have another length than the data", expected=f"{num_rows} rows", got=lengths, hint=HINT
        )
    if times is None:
        return Rows(None, None, kept, None)
    nothing = isinstance(times, list | tuple) and not times
    given = np.asarray(() if nothing else complete("times", times), np.float64)
    if given.shape != (num_rows,):
        raise ArgumentError("times have another length than the data", expected=(num_rows,), got=given.shape, hint=HINT)
    steps = np.diff(given, prepend=given[:1] if clock is None else clock.last)
    late = np.flatnonzero(steps[0 if clock else 1 :] <= 0)
    if late.size:
        row = int(late[0]) + (0 if clock else 1)
        raise ArgumentError(
            "times do not increase", expected="each later than the one before", got=f"{given[row]}, row {row}"
        )
    if not given.size:
        return Rows(given, steps, kept, None)
    zero = clock.first if clock else float(given[0])
    real = jnp.result_type(float)
    return Rows((given - zero).astype(real), steps.astype(real), kept, Clock(zero, float(given[-1])))
