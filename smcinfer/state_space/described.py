"""What a state-space model tells of itself: its data along time."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from smcinfer.core.described import Described, Named
from smcinfer.ground.names import BARE_STATE, leaves_by_name
from smcinfer.state_space.observations import Observations


@dataclasses.dataclass(frozen=True, eq=False)
class DescribedData(Described):
    """Observations and when they were made.

    Attributes:
        observations: the data.
        times: labels of y_0 .. y_T, or ``None`` where they are counted.
    """

    observations: Observations
    times: np.ndarray | None

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Every datum has time first."""
        return dict.fromkeys(self.observed_data(), ("time",))

    @property
    def coords(self) -> Mapping[str, Any]:
        """Labels of time, where there are any."""
        return {} if self.times is None else {"time": self.times}

    def observed_data(self) -> Named:
        """y_0 .. y_T, NaN where nothing was observed; bare data are called ``y``."""
        present = None if self.observations.present is None else leaves_by_name(self.observations.present)
        found = {}
        for name, value in leaves_by_name(self.observations.values).items():
            array = np.asarray(value)
            if present is not None:
                array = np.where(np.asarray(present[name]), array, np.nan)
            found["y" if name == BARE_STATE else name] = array
        return found
