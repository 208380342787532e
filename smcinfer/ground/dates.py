"""The dates that data came with: kept beside results as text, and gone on with where a forecast needs those to come."""

from typing import Any

import numpy as np
import pandas as pd


class Dates:
    """Dates of the rows of a series. All are equal to a compiler: no program depends on them.

    Args:
        index: of a pandas object, in order.
    """

    def __init__(self, index: pd.DatetimeIndex) -> None:
        self._index = index

    @classmethod
    def of(cls, data: Any) -> "Dates | None":
        """Those of a pandas series or table, or of the first one in a dict; ``None`` where there are none."""
        parts = list(data.values()) if isinstance(data, dict) else [data]
        for part in parts:
            index = getattr(part, "index", None)
            if isinstance(index, pd.PeriodIndex):
                index = index.to_timestamp()
            if isinstance(index, pd.DatetimeIndex):
                return cls(index)
        return None

    def words(self) -> list[str]:
        """As JSON holds them, ISO 8601."""
        return [stamp.isoformat() for stamp in self._index]

    def onwards(self, horizon: int) -> list[str]:
        """The next dates, in step with the last ones.

        Args:
            horizon: how many.

        Returns:
            ISO 8601; none where the dates have no common step.
        """
        step = self._index.freq or (pd.infer_freq(self._index) if len(self._index) > 2 else None)
        if step is None:
            return []
        return [stamp.isoformat() for stamp in pd.date_range(self._index[-1], periods=horizon + 1, freq=step)[1:]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dates)

    def __hash__(self) -> int:
        return hash(Dates)


def dated(settings: dict[str, Any]) -> np.ndarray | None:
    """The dates among a record's settings, ``datetime64``; ``None`` where its data came without."""
    words = settings.get("dates")
    return pd.DatetimeIndex(words).tz_localize(None).to_numpy() if words else None
