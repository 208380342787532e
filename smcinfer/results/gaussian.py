"""What a Gaussian filter leaves: means and covariances of every step, filtered and smoothed, and the log likelihood."""

import dataclasses

import numpy as np

from smcinfer.ground.errors import ArgumentError
from smcinfer.results.record import Record, arrays
from smcinfer.results.words import Lines


@dataclasses.dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class GaussianMoments(Record):
    """Moments of a Gaussian filter and its smoother, t = 0 .. T; the d entries of a state are those of its arrays in a row.

    Attributes:
        method: name of the filter.
        mean, covariance: Float["T+1 d"] and Float["T+1 d d"], of p(x_t | y_0:t).
        smoothed_mean, smoothed_covariance: of p(x_t | y_0:T).
        log_z_increments: Float["T+1"], log p(y_t | y_0:t-1), nats.
        names: of the d entries.
    """

    method: str
    mean: np.ndarray = arrays("time", "entry")
    covariance: np.ndarray = arrays("time", "entry")
    smoothed_mean: np.ndarray = arrays("time", "entry")
    smoothed_covariance: np.ndarray = arrays("time", "entry")
    log_z_increments: np.ndarray = arrays("time")
    names: list[str]

    WEIGHTED_FOR = "the filter and the smoother, as Gaussian laws; log Z is the log likelihood of the data"

    @property
    def log_z(self) -> float:
        """log p(y_0:T) as the filter sums it, nats: exact for the Kalman filter."""
        return float(self.log_z_increments.astype(np.float64).sum())

    def sd(self, *, smoothed: bool = False) -> np.ndarray:
        """Standard deviations of the entries, ``(T+1, d)``.

        Args:
            smoothed: whether given all data, else given those so far.
        """
        which = self.smoothed_covariance if smoothed else self.covariance
        return np.sqrt(np.diagonal(which, axis1=1, axis2=2))

    def of(self, name: str) -> int:
        """The place of an entry, by name."""
        if name not in self.names:
            raise ArgumentError("unknown entry of the state", expected=" | ".join(self.names), got=name)
        return self.names.index(name)

    def _title(self) -> str:
        return f"smcinfer {self.method} filter, {self.mean.shape[1]} entries, t = 0 .. {self.mean.shape[0] - 1}"

    def _lines(self) -> Lines:
        lines = [("log Z", f"{self.log_z:.3f} nats")]
        spread, smooth = self.sd().mean(axis=0), self.sd(smoothed=True).mean(axis=0)
        for name, one, two in zip(self.names, spread, smooth, strict=True):
            lines.append((name, f"mean sd {one:.3g}, given all data {two:.3g}"))
        if "iterations" in self.settings:
            lines.append(
                ("at once", f"{self.settings['iterations']} iterations, which left {self.settings['error']:.1g}")
            )
        return lines
