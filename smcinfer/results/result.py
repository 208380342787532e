"""What `smcinfer.sample` returns: the estimates, with ways to print, tabulate and export them."""

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.lazy import Later
from smcinfer.results import export, report, transition
from smcinfer.results.estimates import Estimates
from smcinfer.results.evidence import Bound, Check
from smcinfer.results.forecast import Forecast
from smcinfer.results.summary import summary_table
from smcinfer.results.words import Lines

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
else:
    pd = Later("pandas")
    xr = Later("xarray")


class Result(Estimates):
    """Weighted particles of several independent runs, log Z with its error, and how they came about.

    `Estimates` lists the arrays it holds. Print it for the report, `summary` for a table of the variables,
    `to_arviz` for everything ArviZ can draw, `save` and `smcinfer.load` for keeping it.
    """

    def summary(self) -> "pd.DataFrame":
        """Weighted mean, sd, quantiles, Monte Carlo error and effective sample size of every scalar."""
        return summary_table(self)

    def to_arviz(
        self,
        key: KeyArray | int = 0,
        num_draws: int | None = None,
        *,
        groups: str | Collection[str] | None = None,
        target: Any = None,
    ) -> "xr.DataTree":
        """An ArviZ DataTree: runs as chains of equally weighted draws (see `smcinfer.results.export.to_arviz`).

        Args:
            key: for the resampling, a random key or a seed.
            num_draws: draws of each run; by default the smallest effective sample size of a run.
            groups: what else the tree has: ``"all"`` that the target can tell, or names of groups.
            target: what was sampled, where the result came from a file.
        """
        return export.to_arviz(self, key, num_draws, groups=groups, target=target)

    def forecast(
        self,
        horizon: int,
        *,
        future_times: Any = None,
        future_inputs: Any = None,
        num_draws: int = 1000,
        key: KeyArray | int = 0,
    ) -> Forecast:
        """Draws of what follows the data of a filter.

        Args:
            horizon: steps ahead.
            future_times, future_inputs: of the steps to come, with a leading axis of ``horizon``, where the model has times or
                inputs.
            num_draws: paths.
            key: a random key, or an integer seed.

        Returns:
            A `Forecast`: quantiles, draws, scores of what came; `smcinfer.plots.plot_forecast` draws it.

        Raises:
            ArgumentError: the result is not of a `state_space` model that was sampled in this process.
        """
        if not hasattr(self.model, "forecast"):
            raise ArgumentError(
                "nothing is known of what follows this result",
                expected="a result of smcinfer.sample of a state_space model, in the process that sampled it",
                got=self.settings.get("model") if self.model is None else type(self.model).__name__,
                hint="a file holds no model: sample again, or keep an online filter",
            )
        used = jax.random.key(key) if isinstance(key, int) else key
        cloud = (self.particles, self.pooled_log_weights)
        return self.model.forecast(used, *cloud, horizon, num_draws, self.settings, future_times, future_inputs)

    def with_upper_bound(self, bound: Bound | None) -> "Result":
        """The same result with a stochastic upper bound on log Z, which came from runs through exact draws.

        Args:
            bound: the ``upper`` end of a `smcinfer.bounds.sandwich` of the same target, say; nats.
        """
        return dataclasses.replace(self, upper_bound=bound)

    def with_check(self, other: "Result") -> "Result":
        """The same result, compared with one that went another way to the same target.

        Args:
            other: of the same target, by another method.
        """
        history, runs = other.history, range(other.num_runs)
        levels, mass = history.get("level"), history.get("log_mass")
        seen = [0.0] if levels is None or mass is None else [transition.depth(levels[r], mass[r]) for r in runs]
        said = (other.log_z, other.log_z_se, *other.log_z_interval(), float(np.median(seen)))
        return dataclasses.replace(self, check=Check(str(other.settings.get("method", "")), *said))

    def _title(self) -> str:
        return report.title(self)

    def _lines(self) -> Lines:
        return report.lines(self)
