"""What `smcinfer.sample` returns: the estimates, with ways to print, tabulate and export them."""

import dataclasses
from typing import TYPE_CHECKING

from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.lazy import Later
from smcinfer.results import export, report
from smcinfer.results.estimates import Estimates
from smcinfer.results.evidence import Bound
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

    def to_arviz(self, key: KeyArray | int = 0, num_draws: int | None = None) -> "xr.DataTree":
        """An ArviZ DataTree: runs as chains of equally weighted draws (see `smcinfer.results.export.to_arviz`)."""
        return export.to_arviz(self, key, num_draws)

    def with_upper_bound(self, bound: Bound | None) -> "Result":
        """The same result with a stochastic upper bound on log Z, which came from runs through exact draws.

        Args:
            bound: the ``upper`` end of a `smcinfer.bounds.sandwich` of the same target, say; nats.
        """
        return dataclasses.replace(self, upper_bound=bound)

    def _title(self) -> str:
        return report.title(self)

    def _lines(self) -> Lines:
        return report.lines(self)
