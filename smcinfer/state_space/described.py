"""What a state-space model tells of itself: its data along time, and along smoothed paths what it says of them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.described import Described, Named
from smcinfer.ground.arrays import KeyArray, PyTree
from smcinfer.ground.names import BARE_STATE, leaves_by_name
from smcinfer.state_space.joint import as_law
from smcinfer.state_space.observations import Observations
from smcinfer.state_space.observed import Observed

SEEN = "y_seen"
"""What the likelihood is of where some steps observe nothing."""

PATHS_AT_ONCE = 64
"""Paths of which densities and replicates are computed side by side."""


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
            found[_called(name)] = array
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class DescribedPaths(DescribedData):
    """Observations and paths of the states that they are of.

    Attributes:
        potential: log density of y_t given x_t, and its law.
        state: shapes and dtypes of one state.
    """

    potential: Observed
    state: PyTree[Any]

    def _along(self, function: Callable[..., Any], values: Named, *others: Any) -> Any:
        """``function(t, x_t, ...)`` of every step of every path."""
        leaves = [jnp.asarray(values[name]) for name in leaves_by_name(self.state)]
        paths = jax.tree.unflatten(jax.tree.structure(self.state), leaves)
        steps = jnp.arange(leaves[0].shape[1])
        once = lambda path: jax.vmap(function)(steps, *path)  # noqa: E731
        return jax.jit(lambda paths: jax.lax.map(once, paths, batch_size=PATHS_AT_ONCE))((paths, *others))

    @property
    def _seen(self) -> np.ndarray | None:
        """Which steps observe anything; ``None`` where all do."""
        if self.observations.present is None:
            return None
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(self.observations.present)]
        return np.any([leaf.reshape(len(leaf), -1).any(axis=1) for leaf in leaves], axis=0)

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Every datum has time first; what is observed of them, where that is not all, has a time of its own."""
        return {**super().dims, SEEN: ("seen_time",)}

    @property
    def coords(self) -> Mapping[str, Any]:
        """Labels of time, where there are any, and the steps that observe something, where not all do."""
        if self._seen is None:
            return super().coords
        labels = np.arange(len(self._seen)) if self.times is None else self.times
        return {**super().coords, "seen_time": labels[self._seen]}

    def log_likelihood(self, values: Named) -> Named | None:
        """Of every y_t given x_t; steps without an observation are left out."""
        found = np.asarray(self._along(self.potential, values))
        return {"y": found} if self._seen is None else {SEEN: found[:, self._seen]}

    def predicted(self, key: KeyArray, values: Named) -> Named | None:
        """A replicate of every y_t given x_t."""

        def one(t: Any, x: PyTree[Any], key: KeyArray) -> Any:
            return as_law(self.potential.observation(t, x), "observation").sample(key)

        keys = jax.random.split(key, next(iter(values.values())).shape[:2])
        found = self._along(one, values, keys)
        return {_called(name): np.asarray(value) for name, value in leaves_by_name(found).items()}


def _called(name: str) -> str:
    """Bare data are called ``y``."""
    return "y" if name == BARE_STATE else name
