"""Dates among the labels that data came with, and those that follow them."""

import warnings
from typing import Any

import numpy as np

from smcinfer.ground.labels import from_json


def dated(settings: dict[str, Any]) -> np.ndarray | None:
    """The dates among a record's settings, ``datetime64``; ``None`` where its data came without."""
    labels = from_json(settings.get("times"))
    return labels if labels is not None and labels.dtype.kind == "M" else None


def onwards(labels: np.ndarray | None, horizon: int) -> np.ndarray | None:
    """The next dates, in step with those before.

    Args:
        labels: of the data.
        horizon: how many.

    Returns:
        ``datetime64``; ``None`` where the labels are no dates, or have no common step.
    """
    if labels is None or labels.dtype.kind != "M" or len(labels) < 3:
        return None
    import pandas as pd  # takes a while, and only dated data need it

    with warnings.catch_warnings():
        # Text or offset, what it returns serves either way.
        warnings.filterwarnings("ignore", message="A future version of pandas will return a BaseOffset")
        step = pd.infer_freq(pd.DatetimeIndex(labels))
    return None if step is None else pd.date_range(labels[-1], periods=horizon + 1, freq=step).to_numpy()[1:]
