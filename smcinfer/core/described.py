"""What a target can tell of itself besides draws: data, pointwise likelihoods, predictions, names of axes.

Exports ask for it (`smcinfer.results.groups`); no compiled program does, so that new data run the same program.
"""

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np

from smcinfer.ground.arrays import KeyArray

Named = dict[str, np.ndarray]
"""Arrays by the target's names."""


class Described(abc.ABC):
    """What a target tells of itself. A family says what it has; any two are equal where a program is looked up.

    Attributes:
        dims: variable -> names of its axes, sample axes left out; unnamed ones may be missing at the end.
        coords: axis -> labels along it.
    """

    dims: Mapping[str, tuple[str, ...]]
    coords: Mapping[str, Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Described)

    def __hash__(self) -> int:
        return 0

    def observed_data(self) -> Named:
        """Values of what the likelihood is of, by name."""
        return {}

    def constant_data(self) -> Named:
        """Values of what else is known, by name: covariates, sizes."""
        return {}

    def log_likelihood(self, values: Named) -> Named | None:
        """Log density of every datum at every draw, ``(n, ...)`` by observed name, nats; ``None`` without single data.

        Args:
            values: draws by name, leading axis n.
        """
        del values

    def predicted(self, key: KeyArray, values: Named) -> Named | None:
        """One replicate of the observed data a draw, ``(n, ...)`` by observed name; ``None`` where nothing simulates them.

        Args:
            key: one random key.
            values: draws by name, leading axis n.
        """
        del key, values

    def prior(self, key: KeyArray, n: int) -> Named | None:
        """Draws of the prior by name, ``(n, ...)``; ``None`` where there is none.

        Args:
            key: one random key.
            n: how many.
        """
        del key, n
