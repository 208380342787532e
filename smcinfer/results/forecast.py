r"""What a filter says of what is to come: draws of paths and of their observations, and how good they were.

.. math:: p(x_{t+1:t+H}, y_{t+1:t+H} \mid y_{0:t})
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from smcinfer.ground.data import read
from smcinfer.ground.dates import dated
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.names import leaves_by_name
from smcinfer.results import scores
from smcinfer.results.record import Record, arrays, not_kept
from smcinfer.results.words import Lines

BARE_OBSERVATION = "y"
"""The name of an observation that is one bare array."""


def observations_by_name(tree: Any) -> dict[str, Any]:
    """Leaves of an observation by name; a bare array is called ``y``."""
    named = leaves_by_name(tree)
    return {BARE_OBSERVATION: next(iter(named.values()))} if not isinstance(tree, dict | list | tuple) else named


@dataclasses.dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Forecast(Record):
    """Equally weighted draws of what follows the last observation, M draws of H steps.

    Attributes:
        states: draws of x_{t+1} .. x_{t+H} by name, each ``(M, H, ...)``; draw m is one path.
        observations: draws of y_{t+1} .. y_{t+H} that go with them.
        first: t + 1, the step that the first row is of.
        log_density: ``observations -> Float["H"]``, what `log_score` asks; a loaded forecast has none.
    """

    states: dict[str, np.ndarray] = arrays("draw", "ahead")
    observations: dict[str, np.ndarray] = arrays("draw", "ahead")
    first: int
    log_density: Callable[[Any], np.ndarray] | None = not_kept(None)

    WEIGHTED_FOR = "what follows given the observations so far, p(x, y of later steps | y_0:t)"

    @property
    def horizon(self) -> int:
        """How many steps ahead the forecast goes, H."""
        return next(iter(self.observations.values())).shape[1]

    @property
    def dates(self) -> np.ndarray | None:
        """Dates of the H steps, ``datetime64``, where the data came with dates of a common step."""
        return dated(self.settings)

    @property
    def num_draws(self) -> int:
        """M, how many paths were drawn."""
        return next(iter(self.observations.values())).shape[0]

    def of(self, name: str) -> np.ndarray:
        """Draws ``(M, H, ...)`` of an observation, or else of a state, by name."""
        known = {**self.states, **self.observations}
        if name not in known:
            raise ArgumentError("unknown variable of a forecast", expected=" | ".join(known), got=name)
        return known[name]

    def mean(self, name: str = BARE_OBSERVATION) -> np.ndarray:
        """Mean of every step, ``(H, ...)``."""
        return self.of(name).astype(np.float64).mean(axis=0)

    def sd(self, name: str = BARE_OBSERVATION) -> np.ndarray:
        """Standard deviation of every step, ``(H, ...)``."""
        return self.of(name).astype(np.float64).std(axis=0, ddof=1)

    def quantile(self, levels: float | list[float] | tuple[float, ...], name: str = BARE_OBSERVATION) -> np.ndarray:
        """Quantiles of every step: ``(len(levels), H, ...)``, or ``(H, ...)`` for one number."""
        points = np.asarray(levels, np.float64)
        if ((points < 0) | (points > 1)).any():
            raise ArgumentError("quantiles are levels of probability", expected="numbers in [0, 1]", got=levels)
        return np.quantile(self.of(name).astype(np.float64), points, axis=0)

    def crps(self, outcome: Any) -> Any:
        """Continuous ranked probability score of every step, in the outcome's unit: 0 is perfect.

        Args:
            outcome: what was observed at the H steps, like the data of the model; NaN where nothing was.

        Returns:
            ``(H, ...)``, or a dict of them by name where an observation is a tree.

        Raises:
            ArgumentError: for an outcome of another length or shape.
        """
        named = {name: scores.crps(self.observations[name], value) for name, value in self._outcome(outcome).items()}
        return named[BARE_OBSERVATION] if set(named) == {BARE_OBSERVATION} else named

    def log_score(self, outcome: Any) -> np.ndarray:
        r"""Log density of what came at every step, nats: larger is better.

        .. math:: \log \frac1M \sum_m g(y_{t+h} \mid x_{t+h}^m)

        Args:
            outcome: as in `crps`; what is missing of it counts for nothing.

        Returns:
            Float["H"].

        Raises:
            ArgumentError: for an outcome of another length or shape, or a forecast read from a file, which has no model.
        """
        if self.log_density is None:
            raise ArgumentError(
                "a forecast from a file has no model to score with",
                expected="a forecast in the process that made it",
                hint="crps needs the draws alone",
            )
        self._outcome(outcome)
        return self.log_density(outcome)

    def _outcome(self, outcome: Any) -> dict[str, np.ndarray]:
        values, present = read("outcome", outcome)
        named, there = observations_by_name(values), observations_by_name(present)
        want = {name: value.shape[1:] for name, value in self.observations.items()}
        got = {name: value.shape for name, value in named.items()}
        if want != got:
            raise ArgumentError("the outcome does not look like the forecast", expected=want, got=got)
        return {name: np.where(there[name], np.asarray(value, np.float64), np.nan) for name, value in named.items()}

    def _title(self) -> str:
        rows = range(self.first, self.first + self.horizon) if self.dates is None else self.dates
        ends = [str(rows[place])[:19].removesuffix("T00:00:00") for place in (0, -1)]
        return f"smcinfer forecast: {self.num_draws} paths, t = {ends[0]} .. {ends[1]}"

    def _lines(self) -> Lines:
        found = []
        for name in self.observations:
            low, high = self.quantile([0.05, 0.95], name)
            width = (high - low).reshape(self.horizon, -1).mean(axis=1)
            found.append((name, f"90% band of width {width[0]:#.3g} one step ahead, {width[-1]:#.3g} at the last"))
        return found
