r"""What smoothing leaves: weighted points of every step, of several runs, and what can be estimated from them.

.. math:: E[f(x_t) \mid y_{0:T}] \approx \sum_r \omega_r \sum_i S_{t,r}^i f(x_{t,r}^i), \qquad \omega_r \propto \hat Z_r
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Int

from smcinfer.core.described import Described
from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.labels import from_json
from smcinfer.ground.lazy import Later
from smcinfer.ground.names import dimensions, exported_name
from smcinfer.results.evidence import Bound, Evidence, HasEvidence, combine
from smcinfer.results.export import as_tree
from smcinfer.results.groups import filled, wanted
from smcinfer.results.pooling import combine_runs, jackknife_se, resample
from smcinfer.results.record import Record, arrays
from smcinfer.results.words import Lines, counted, with_error

if TYPE_CHECKING:
    import xarray as xr
else:
    xr = Later("xarray")

JOINT = ("backward", "genealogy")
"""Methods whose points are whole paths: point i of every step belongs to path i."""


@dataclasses.dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Smoothed(Record, HasEvidence):
    """Weighted points for the law of x_t given all data, t = 0 .. T, of R runs with M points each.

    Attributes:
        method: name of the method.
        log_weights: Float["R T+1 M"], normalised within each run and step, nats.
        values: states by name, each ``(R, T+1, M, ...)``.
        chosen: Int["R T+1 M"], which particle of the filter each point is.
        log_z_runs: Float["R"], log Z_hat of the filters, nats.
    """

    method: str
    log_weights: np.ndarray = arrays("run", "time", "point")
    values: dict[str, np.ndarray] = arrays("run", "time", "point")
    chosen: np.ndarray = arrays("run", "time", "point")
    log_z_runs: np.ndarray = arrays("run")

    WEIGHTED_FOR = (
        "p(x_t | all data), each run weighing in proportion to its Z_hat; log Z is the log likelihood of the data"
    )

    @property
    def num_runs(self) -> int:
        """R, how many independent runs there are."""
        return self.log_weights.shape[0]

    @property
    def num_steps(self) -> int:
        """T; states are x_0 .. x_T."""
        return self.log_weights.shape[1] - 1

    @property
    def joint(self) -> bool:
        """Whether points are whole paths."""
        return self.method in JOINT

    @property
    def evidence(self) -> Evidence:
        """log Z of the filters with its standard error, from the spread between runs."""
        unknown = np.full(self.num_runs, np.nan)
        return combine(self.log_z_runs.astype(np.float64), unknown)

    def _of(self, name: str) -> np.ndarray:
        if name not in self.values:
            raise ArgumentError("unknown state", expected=" | ".join(self.values), got=name)
        return self.values[name].astype(np.float64)

    def _moments(self, values: np.ndarray) -> np.ndarray:
        """Weighted means of each run, ``(R, T+1, ...)``; points of weight zero do not count."""
        weights = np.exp(self.log_weights.astype(np.float64))
        flat = values.reshape(*weights.shape, -1)
        flat = np.where(weights[..., None] > 0, flat, 0.0)
        return np.einsum("rtm,rtmk->rtk", weights, flat).reshape(*weights.shape[:2], *values.shape[3:])

    def mean(self, name: str = "x") -> np.ndarray:
        """E[x_t | y_0:T], ``(T+1, ...)``."""
        return np.asarray(combine_runs(self._moments(self._of(name)), self.log_z_runs.astype(np.float64)))

    def mean_se(self, name: str = "x") -> np.ndarray:
        """Monte Carlo standard error of `mean` by the jackknife over runs; NaN for a single run."""
        means = self._moments(self._of(name))
        error = np.asarray(jackknife_se(means, self.log_z_runs.astype(np.float64)))
        return np.broadcast_to(error, means.shape[1:])

    def sd(self, name: str = "x") -> np.ndarray:
        """Standard deviation of x_t given all data, ``(T+1, ...)``."""
        values, log_z = self._of(name), self.log_z_runs.astype(np.float64)
        centre = np.asarray(combine_runs(self._moments(values), log_z))
        second = combine_runs(self._moments((values - centre[:, None]) ** 2), log_z)
        return np.sqrt(np.asarray(second))

    def quantile(self, levels: float | list[float] | tuple[float, ...], name: str = "x") -> np.ndarray:
        """Quantiles of x_t given all data: ``(len(levels), T+1, ...)``, or ``(T+1, ...)`` for one number."""
        points = np.atleast_1d(np.asarray(levels, dtype=np.float64))
        if ((points < 0) | (points > 1)).any():
            raise ArgumentError("quantiles are levels of probability", expected="numbers in [0, 1]", got=levels)
        values, weights = self._of(name), np.exp(self._pooled())
        shape = values.shape[3:]
        flat = np.moveaxis(values.reshape(*values.shape[:3], -1), 1, 0).reshape(
            self.num_steps + 1, -1, int(np.prod(shape))
        )
        weights = np.moveaxis(weights, 1, 0).reshape(self.num_steps + 1, -1)
        order = np.argsort(flat, axis=1)
        ranked = np.take_along_axis(flat, order, axis=1)
        mass = np.take_along_axis(np.broadcast_to(weights[..., None], flat.shape), order, axis=1)
        below = np.cumsum(mass, axis=1)
        picks = [np.argmax(below >= np.minimum(level * below[:, -1:], below[:, -1:]), axis=1) for level in points]
        found = np.stack([np.take_along_axis(ranked, pick[:, None], axis=1)[:, 0] for pick in picks])
        found = found.reshape(len(points), self.num_steps + 1, *shape)
        return found[0] if np.ndim(levels) == 0 else found

    def _pooled(self) -> np.ndarray:
        """Log weights with each run's share of Z_hat."""
        log_z = self.log_z_runs.astype(np.float64)
        return self.log_weights + (log_z - np.logaddexp.reduce(log_z))[:, None, None]

    def distinct(self) -> Int[np.ndarray, "R steps"]:
        """How many different particles of each step the points with any weight are: what coalescence leaves."""
        alive = self.log_weights > -np.inf
        return np.array(
            [
                [np.unique(row[keep]).size for row, keep in zip(*run, strict=True)]
                for run in zip(self.chosen, alive, strict=True)
            ]
        )

    def draws(self, key: KeyArray | int, num_draws: int) -> dict[str, np.ndarray]:
        """Equally weighted draws of whole paths, ``(num_draws, T+1, ...)`` by name.

        Raises:
            ArgumentError: where the method gives marginals and no paths.
        """
        if not self.joint:
            raise ArgumentError(
                f"{self.method} smoothing gives the law of each x_t alone, not of paths",
                expected=" or ".join(f'method="{name}"' for name in JOINT),
                got=self.method,
            )
        chosen = resample(key, self._pooled()[:, -1].reshape(-1), num_draws)
        return {name: _paths_first(value)[chosen] for name, value in self.values.items()}

    def to_arviz(
        self,
        key: KeyArray | int = 0,
        num_draws: int | None = None,
        *,
        groups: str | Collection[str] | None = None,
        target: Any = None,
    ) -> "xr.DataTree":
        """An ArviZ DataTree: runs as chains, time as a dimension of every variable.

        Draws are resampled by weight within a run. Where the method gives marginals each step is resampled by itself: then a
        draw is not a path, and the tree's attributes say so.

        Args:
            key: for the resampling and predictions, a random key or a seed.
            num_draws: of each run; as many as there are points where ``None``.
            groups: further groups, as of `Result.to_arviz`: ``observed_data``, ``log_likelihood`` of every observed
                y_t given x_t, and ``posterior_predictive``, one y_t drawn for every x_t.
            target: the state-space model that was smoothed, which fills them.

        Raises:
            ArgumentError: a group cannot be filled.
        """
        count: int = num_draws or self.log_weights.shape[2]
        generator = np.random.default_rng(np.asarray(_words(key)))
        chosen = np.empty((self.num_runs, self.num_steps + 1, count), np.int64)
        for r in range(self.num_runs):
            for t in range(self.num_steps + 1):
                if self.joint and t:
                    chosen[r, t] = chosen[r, 0]
                else:
                    seed = int(generator.integers(2**31))
                    chosen[r, t] = resample(seed, self.log_weights[r, -1 if self.joint else t], count)
        rows = np.arange(self.num_runs)[:, None, None], np.arange(self.num_steps + 1)[None, :, None], chosen
        drawn = {name: np.moveaxis(value[rows], 2, 1) for name, value in self.values.items()}
        told = None if target is None else target.described_paths
        typed = jax.random.key(key) if isinstance(key, int) else key
        more = filled(told, wanted(groups), typed, drawn, everything=groups == "all")
        kind = "paths" if self.joint else "marginals: each step drawn by itself, a draw is not a path"
        axes = AlongTime.of(drawn, told, from_json(self.settings.get("times")))
        attrs = {
            "inference_library": "smcinfer",
            "method": self.method,
            "draws": kind,
            "weighted_for": self.weighted_for,
            "status": self.status_in_words,
        }
        return as_tree({"posterior": drawn} | more, axes, attrs)

    def _title(self) -> str:
        runs, _, points = self.log_weights.shape
        size = f"{points} {'paths' if self.joint else 'points a step'} x {counted(runs, 'run')}"
        return f"smcinfer smoothing: {self.method}, {size}, t = 0 .. {self.num_steps}"

    def _lines(self) -> Lines:
        distinct = self.distinct()
        lines = [
            ("log Z", f"{with_error(Bound(self.log_z, self.log_z_se))} nats"),
            ("distinct", f"{distinct.min()} to {distinct.max()} different particles a step"),
        ]
        for name in self.values:
            spread, error = self.sd(name), self.mean_se(name)
            relative = np.max(error / np.where(spread > 0, spread, np.nan))
            lines.append((name, f"mean sd {spread.mean():.3g}; a mean is known to {relative:.2g} sd at worst"))
        return lines


@dataclasses.dataclass(frozen=True, eq=False)
class AlongTime(Described):
    """Axes of paths: time, and its labels where there are any."""

    dims: Mapping[str, tuple[str, ...]]
    coords: Mapping[str, Any]

    @classmethod
    def of(cls, states: Mapping[str, np.ndarray], told: Described | None, times: np.ndarray | None) -> "AlongTime":
        """Those of states ``(chain, draw, time, ...)``, and of what a model tells of its data."""
        coords = {} if times is None else {"time": times}
        data = ({}, {}) if told is None else (told.dims, told.coords)
        own = {name: dimensions(exported_name(name), ("time",), np.ndim(value) - 2) for name, value in states.items()}
        return cls({**own, **data[0]}, {**coords, **data[1]})


def _paths_first(value: np.ndarray) -> np.ndarray:
    """``(R, T+1, M, ...)`` to ``(R M, T+1, ...)``."""
    moved = np.moveaxis(value, 2, 1)
    return moved.reshape(-1, *moved.shape[2:])


def _words(key: KeyArray | int) -> np.ndarray:
    """A key or a seed as integers."""
    if isinstance(key, int):
        return np.asarray([key])
    typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(key) if typed else key)
