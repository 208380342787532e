"""What people bring as data, read as plain arrays with what is missing marked: the one place that knows.

A number may be missing in as many ways as there are containers: NaN, an entry that `numpy.ma` masks, ``None`` in a list or an
object array, ``NA`` of a nullable pandas column, null of polars or arrow. All of them come out of here as one mask, so that
no door can take the number that happens to lie under a mask (``-999``) for an observation.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import ArgumentError

NUMBERS = "biuf"
"""Kinds of numpy dtypes that are data: booleans, integers and reals."""

DROP = "drop these rows, or fill them in and give the mask as an array of its own"


def read(what: str, data: PyTree[Any]) -> tuple[PyTree[Any], PyTree[Any]]:
    """Data as arrays, and where there is a number.

    Args:
        what: name of the argument, for messages.
        data: an array-like, or a tree of them: numpy and JAX arrays, masked ones, lists of numbers and ``None``, object
            arrays, columns and tables of pandas, polars or arrow. A list or tuple of scalars is one array, not a tree.

    Returns:
        Two trees of one structure: numpy arrays (traced ones as they are), and Bool arrays of their shapes. What an entry
        that is not there holds is of no meaning.

    Raises:
        ArgumentError: something in it is no number (text, a timestamp), or too large for the integers that are on.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(data, is_leaf=_is_sequence_of_scalars)
    if not paths:
        raise ArgumentError(f"{what} are empty", expected="an array, or a tree of arrays", got=repr(data))
    read_leaves = [_read_leaf(_called(what, path), leaf) for path, leaf in paths]
    values, present = ([leaf[part] for leaf in read_leaves] for part in (0, 1))
    return jax.tree.unflatten(structure, values), jax.tree.unflatten(structure, present)


def complete(what: str, data: PyTree[Any], *, where: PyTree[Any] = None, hint: str = DROP) -> PyTree[Any]:
    """Data as arrays, of which nothing may be missing.

    Args:
        what: name of the argument, for messages.
        data: as in `read`.
        where: Bool arrays shaped like the data: only there must be a number; everywhere where ``None``.
        hint: what to do about a missing number.

    Returns:
        The tree of arrays.

    Raises:
        ArgumentError: as of `read`; or a number is missing, naming the first.
    """
    values, present = read(what, data)
    if where is not None:
        present = jax.tree.map(lambda mask, wanted: mask | ~np.asarray(wanted, bool), present, where)
    refuse_missing(what, present, hint)
    return values


def refuse_missing(what: str, present: PyTree[Any], hint: str, axis: str = "") -> None:
    """Raise `ArgumentError` for the first number that is missing.

    Args:
        what: name of the argument, for the message.
        present: Bool arrays, where there is a number.
        hint: what to do about it.
        axis: what the leading axis counts, ``"t"`` say, for the message.
    """
    for path, mask in jax.tree_util.tree_flatten_with_path(present)[0]:
        if not mask.all():
            index = tuple(map(int, np.argwhere(~mask)[0]))
            at = f"{axis} = {index[0]}, index {index}" if axis and index else f"index {index}"
            count = int((~mask).sum())
            raise ArgumentError(
                f"numbers are missing in {_called(what, path)}",
                expected="a number everywhere",
                got=f"{count} NaN, masked or null, first at {at}",
                hint=hint,
            )


def is_column(value: Any) -> bool:
    """Whether this is one column, masked, of objects or a list of reals, that JAX itself would not read.

    A table is left to its user, and so is a list of whole numbers, which may say how something is built.
    """
    if type(value) in (list, tuple):
        return _is_sequence_of_scalars(value) and any(part is None or isinstance(part, float) for part in value)
    if isinstance(value, np.ndarray):
        return isinstance(value, np.ma.MaskedArray) or value.dtype.kind == "O"
    return hasattr(value, "to_numpy") and not hasattr(value, "columns")


def _called(what: str, path: tuple[Any, ...]) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return f"{what}, {name!r}" if name else what


def _is_sequence_of_scalars(node: Any) -> bool:
    """A list (of lists) of scalars: what `numpy.asarray` reads as one array, and JAX as a tree of many."""
    if type(node) not in (list, tuple) or not node:
        return False
    return all(_is_sequence_of_scalars(part) if isinstance(part, list | tuple) else _is_scalar(part) for part in node)


def _is_scalar(part: Any) -> bool:
    return not isinstance(part, Tracer | dict) and np.ndim(part) == 0


def _read_leaf(name: str, leaf: Any) -> tuple[Any, np.ndarray]:
    if isinstance(leaf, Tracer):  # its values are not known, and are taken for numbers
        return leaf, np.ones(leaf.shape, bool)
    masked = np.ma.getmaskarray(leaf) if isinstance(leaf, np.ma.MaskedArray) else False
    try:
        values = np.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise _not_numbers(name, f"a {type(leaf).__name__} that numpy cannot read: {error}") from error
    values, present = _of_objects(name, values) if values.dtype.kind == "O" else (values, np.ones(values.shape, bool))
    present &= ~np.asarray(masked)
    if values.dtype.kind not in NUMBERS:
        raise _not_numbers(name, f"dtype {values.dtype}")
    if values.dtype.kind == "f":
        present &= ~np.isnan(values)
    if values.dtype.kind in "iu":
        _check_range(name, values[present])
    return values, present


def _of_objects(name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An array of Python objects as one of numbers; ``None``, ``NA`` and NaN are missing."""
    entries = values.ravel().tolist()
    present = np.array([not _is_null(entry) for entry in entries], bool).reshape(values.shape)
    for entry in values[present].tolist():
        if not isinstance(entry, bool | int | float | np.number | np.bool_):
            raise _not_numbers(name, f"{type(entry).__name__} {entry!r}")
    there = np.asarray(values[present].tolist() or [np.nan])
    filled = np.full(values.shape, there.ravel()[0], there.dtype)
    filled[present] = there[: present.sum()]
    return filled, present


def _is_null(entry: Any) -> bool:
    """``None``, NaN, or a value that will not say whether it is itself (``pandas.NA``, ``NaT``)."""
    return (
        entry is None or type(entry).__name__ in ("NAType", "NaTType") or (isinstance(entry, float) and entry != entry)
    )


def _check_range(name: str, values: np.ndarray) -> None:
    limits = np.iinfo(np.dtype(jnp.result_type(int)))
    if values.size and not (limits.min <= int(values.min()) and int(values.max()) <= limits.max):
        raise ArgumentError(
            f"{name} holds integers that are too large",
            expected=f"integers from {limits.min} to {limits.max}",
            got=f"{values.min()} to {values.max()}",
            hint="give them as floats, in units of your own, or switch on double precision",
        )


def _not_numbers(name: str, got: str) -> ArgumentError:
    return ArgumentError(
        f"{name} cannot be read as arrays of numbers",
        expected="booleans, integers or reals",
        got=got,
        hint="text stays outside data; a time is a number in a unit of your own, (t - t[0]) / np.timedelta64(1, 's') say",
    )
