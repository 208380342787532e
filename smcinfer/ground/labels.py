"""Labels that data bring along: the index of a pandas column or table, as an axis of exports."""

from typing import Any

import jax
import numpy as np

from smcinfer.ground.arrays import PyTree


def index_of(data: PyTree[Any]) -> np.ndarray | None:
    """Labels along the leading axis of data: the index of the first column or table that has one of its own.

    Args:
        data: as in `smcinfer.ground.data.read`.

    Returns:
        Dates as ``datetime64`` (time zones in UTC, periods by their start), numbers or texts; ``None`` for plain counting.
    """
    for leaf in jax.tree.leaves(data, is_leaf=_has_index):
        index: Any = getattr(leaf, "index", None)
        if not _has_index(leaf) or type(index).__name__ == "RangeIndex":
            continue
        index = index.to_timestamp() if hasattr(index, "to_timestamp") else index
        index = index.tz_convert(None) if getattr(index, "tz", None) is not None else index
        labels = np.asarray(index)
        return labels if labels.dtype.kind in "Mbiuf" else labels.astype(str)
    return None


def as_json(labels: np.ndarray | None) -> list[Any] | None:
    """Labels as JSON can hold them: dates as ISO texts."""
    if labels is None:
        return None
    return (np.datetime_as_string(labels) if labels.dtype.kind == "M" else labels).tolist()


def from_json(labels: list[Any] | None) -> np.ndarray | None:
    """Labels as they were before `as_json`: texts that are dates become dates."""
    if labels is None:
        return None
    found = np.asarray(labels)
    if found.dtype.kind == "U":
        try:
            return found.astype("datetime64[ns]")
        except ValueError:
            return found
    return found


def _has_index(leaf: Any) -> bool:
    return hasattr(leaf, "index") and hasattr(leaf, "to_numpy")
