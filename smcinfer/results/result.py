"""What `smcinfer.sample` returns: the estimates, with ways to print, tabulate, save and export them."""

from pathlib import Path

import pandas as pd
import xarray as xr

from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import CheckpointError
from smcinfer.ground.io import Groups, dimensions, read_netcdf, write_netcdf
from smcinfer.results import export, report
from smcinfer.results.estimates import Estimates
from smcinfer.results.summary import summary_table

LAYOUT = "smcinfer-result-1"
"""Name and version of the layout of a saved result."""


class Result(Estimates):
    """Weighted particles of several independent runs, log Z with its error, and how they came about.

    `Estimates` lists the arrays it holds. Print it for the report, `summary` for a table of the variables,
    `to_arviz` for everything ArviZ can draw, `save` and `load` for keeping it.
    """

    def __str__(self) -> str:
        return report.as_text(report.title(self), report.lines(self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return report.as_html(report.title(self), report.lines(self))

    def summary(self) -> pd.DataFrame:
        """Weighted mean, sd, quantiles, Monte Carlo error and effective sample size of every scalar."""
        return summary_table(self)

    def to_arviz(self, key: KeyArray | int = 0, num_draws: int | None = None) -> xr.DataTree:
        """An ArviZ DataTree: runs as chains of equally weighted draws (see `smcinfer.results.export.to_arviz`)."""
        return export.to_arviz(self, key, num_draws)

    def save(self, path: str | Path) -> Path:
        """Write everything to a netCDF file, whole or not at all; `load` gives it back bit for bit.

        Args:
            path: of the file, replaced where it exists.

        Raises:
            ArgumentError: nothing can be written there.
        """
        runs, cloud = ("run",), ("run", "particle")
        root = {
            "log_weights": (cloud, self.log_weights),
            "log_z": (runs, self.log_z_runs),
            "log_z_variance": (runs, self.log_z_variance),
            "status": (runs, self.status_runs),
            "num_steps": (runs, self.num_steps),
        }
        groups: Groups = {
            "": root,
            "particles": {name: (dimensions(name, cloud, value), value) for name, value in self.particles.items()},
            # The history level fixes what is recorded, not how long: every entry names its own step axis.
            "history": {
                name: (dimensions(name, ("run", f"{name}_step"), value), value) for name, value in self.history.items()
            },
        }
        clock = {"seconds": self.seconds, "compile_seconds": self.compile_seconds}
        return write_netcdf(path, groups, {"settings": self.settings, **clock}, LAYOUT)


def load(path: str | Path) -> Result:
    """A result that `Result.save` wrote.

    Args:
        path: of the file.

    Returns:
        The result, equal to the one that was saved.

    Raises:
        ArgumentError: there is no such file.
        CheckpointError: the file is damaged, cut short, or no result.
    """
    groups, attributes = read_netcdf(path, LAYOUT)
    try:
        return Result(particles=groups["particles"], history=groups["history"], **groups[""], **attributes)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} lacks a part of a result", got=str(error), hint="save the result again"
        ) from error
