"""What filtering many series side by side leaves: of each its log likelihood and its filtered moments, up to its own end."""

import dataclasses

import numpy as np

from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.validate import count
from smcinfer.results.evidence import Evidence, combine
from smcinfer.results.record import Record, arrays
from smcinfer.results.words import Lines


@dataclasses.dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class PanelFiltered(Record):
    """Filters of S series of different lengths, R runs each.

    Attributes:
        lengths: Int["S"], observations of each series.
        log_z_runs: Float["S R"], log Z_hat of every run, nats.
        mean, sd: moments of p(x_t | y_0:t) by name, each ``(S, T+1, ...)``, the runs pooled; NaN after a series' end.
        status_series: Int["S"], bits of `Status`, of all runs.
    """

    lengths: np.ndarray = arrays("series")
    log_z_runs: np.ndarray = arrays("series", "run")
    mean: dict[str, np.ndarray] = arrays("series", "time")
    sd: dict[str, np.ndarray] = arrays("series", "time")
    status_series: np.ndarray = arrays("series")

    WEIGHTED_FOR = "the filter of each series, p(x_t | its y_0:t); log Z is the log likelihood of all data"

    @property
    def num_series(self) -> int:
        """S, how many series there are."""
        return self.lengths.shape[0]

    def of(self, series: int) -> Evidence:
        """log Z of one series with its standard error, from the spread between runs.

        Args:
            series: its place in the panel.
        """
        place = count("series", series, at_least=0, at_most=self.num_series - 1)
        return combine(self.log_z_runs[place].astype(np.float64), np.full(self.log_z_runs.shape[1], np.nan))

    @property
    def log_z_series(self) -> np.ndarray:
        """log of the mean over runs of each series' Z_hat, nats, ``(S,)``."""
        runs = self.log_z_runs.astype(np.float64)
        return np.logaddexp.reduce(runs, axis=1) - np.log(runs.shape[1])

    @property
    def log_z(self) -> float:
        """log likelihood of all data, the sum over series, nats."""
        return float(self.log_z_series.sum())

    @property
    def log_z_se(self) -> float:
        """Standard error of `log_z`, nats: series are independent, so their variances add up; NaN for a single run."""
        return float(np.sqrt(sum(self.of(series).se ** 2 for series in range(self.num_series))))

    def filtered(self, series: int, name: str = "x") -> tuple[np.ndarray, np.ndarray]:
        """Filtered mean and standard deviation of one series, up to its end.

        Args:
            series: its place in the panel.
            name: of the state.
        """
        place = count("series", series, at_least=0, at_most=self.num_series - 1)
        if name not in self.mean:
            raise ArgumentError("unknown state", expected=" | ".join(self.mean), got=name)
        rows = slice(0, int(self.lengths[place]))
        return self.mean[name][place, rows], self.sd[name][place, rows]

    def _title(self) -> str:
        return f"smcinfer panel: {self.num_series} series of {self.lengths.min()} to {self.lengths.max()} observations"

    def _lines(self) -> Lines:
        each = self.log_z_series / self.lengths
        worst = int(np.argmin(each))
        return [
            ("log Z", f"{self.log_z:.2f} ± {self.log_z_se:.2g} nats, of all series together"),
            ("worst", f"series {worst}: {each[worst]:.3g} nats an observation; median {np.median(each):.3g}"),
        ]
