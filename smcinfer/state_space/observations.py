"""Data of a state-space model, row by row, and what is missing of them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Bool, Count, Flag, PyTree, Time
from smcinfer.ground.data import read, refuse_missing
from smcinfer.ground.errors import ArgumentError

MISSING = ("refuse", "skip")


class Observations(eqx.Module):
    """Observations of consecutive steps with what is missing marked: all of them, y_0 .. y_T, or those that a filter sees now.

    In a panel every array has one more axis in front, of series.

    Attributes:
        values: pytree of arrays with a leading axis of rows; what was missing is filled with a number that never counts.
        present: Bool arrays of the same shapes, or ``None`` where nothing can be missing.
        complete: Bool["rows"], whether all of a row is there; ``None`` where nothing can be missing.
        anything: Bool["rows"], whether any of a row is there; ``None`` where no row is missing altogether.
        first: the step of row 0; ``None`` for step 0.
        awaited: whether there are no data yet, and the one row stands for those to come (`smcinfer.online`).
    """

    values: PyTree[Any]
    present: PyTree[Any] | None
    complete: Bool[Array, "*series rows"] | None
    anything: Bool[Array, "*series rows"] | None
    first: Count | None = None
    awaited: bool = eqx.field(static=True, default=False)

    def _row(self, rows: PyTree[Any], t: Time) -> PyTree[Any]:
        index = t if self.first is None else t - self.first
        return jax.tree.map(lambda leaf: leaf[index], rows)

    def at(self, t: Time) -> PyTree[Any]:
        """The observation y_t, a tree like the data without their leading axis; what is missing of it is filled in."""
        return self._row(self.values, t)

    def present_at(self, t: Time) -> PyTree[Any] | None:
        """Which entries of y_t are there; ``None`` where nothing can be missing."""
        return self._row(self.present, t)

    def complete_at(self, t: Time) -> Flag | None:
        """Whether all of y_t is there; ``None`` where nothing can be missing."""
        return self._row(self.complete, t)

    def anything_at(self, t: Time) -> Flag | None:
        """Whether any of y_t is there; ``None`` where no row is missing altogether."""
        return self._row(self.anything, t)

    @property
    def num_steps(self) -> int:
        """T: observations are y_0 .. y_T."""
        return jax.tree.leaves(self.values)[0].shape[0] - 1


def observations(data: PyTree[Any], missing: str) -> Observations:
    """Take a user's data: one length, what is missing refused or marked.

    Args:
        data: as `smcinfer.ground.data.read` takes them, each array with a leading axis of T + 1.
        missing: ``"refuse"`` or ``"skip"``.

    Raises:
        ArgumentError: for what is no number, arrays of different lengths, or a missing number where that is refused
            (naming the first).
    """
    validate.one_of("missing", missing, MISSING)
    values, present = read("data", data)
    lengths = jax.tree.map(lambda leaf: leaf.shape[0] if leaf.ndim else 0, values)
    each = jax.tree.leaves(lengths)
    if len(set(each)) != 1 or 0 in each:
        raise ArgumentError(
            "data have no common leading axis of observations",
            expected="y_0 .. y_T along axis 0 of every array",
            got=lengths if len(each) > 1 else [leaf.shape for leaf in jax.tree.leaves(values)],
        )
    if all(mask.all() for mask in jax.tree.leaves(present)):
        return Observations(arrays(values), None, None, None)
    if missing == "refuse":
        refuse_missing("data", present, 'missing="skip" takes NaN for an observation that was not made', "t")
    complete, anything = marks(present)
    return Observations(
        arrays(jax.tree.map(fill, values, present)),
        arrays(present),
        jnp.asarray(complete),
        None if anything.all() else jnp.asarray(anything),
    )


def marks(present: PyTree[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are all there, and of which anything is: two Bool vectors.

    Args:
        present: numpy Bool arrays with a leading axis of rows.
    """
    rows = [mask.reshape(len(mask), -1) for mask in jax.tree.leaves(present)]
    return np.all([row.all(axis=1) for row in rows], axis=0), np.any([row.any(axis=1) for row in rows], axis=0)


def arrays(tree: PyTree[Any]) -> PyTree[Any]:
    """The tree as JAX arrays, known ones staying known inside a trace: they are still to be checked."""
    with jax.ensure_compile_time_eval():
        return jax.tree.map(jnp.asarray, tree)


def awaited(templates: PyTree[Any], missing: str) -> Observations:
    """One row in place of data that are still to come.

    Args:
        templates: shapes and dtypes of one observation.
        missing: ``"refuse"``, or ``"skip"`` where any of its entries may be missing.
    """
    validate.one_of("missing", missing, MISSING)

    def rows(kind: Any) -> PyTree[Any]:
        return jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape), kind or leaf.dtype), templates)

    if missing == "refuse":
        return Observations(rows(None), None, None, None, awaited=True)
    nothing = jnp.zeros((1,), bool)
    return Observations(rows(None), rows(bool), nothing, nothing, awaited=True)


def fill(leaf: Any, mask: np.ndarray) -> Any:
    """Missing entries replaced by one that was observed: within the support, so that no gradient is NaN."""
    if mask.all():
        return leaf
    return np.where(mask, leaf, leaf[mask][0] if mask.any() else np.asarray(0.5).astype(leaf.dtype))
