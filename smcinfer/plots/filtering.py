"""What a filter knew at every time: bands of the hidden state, against truth and data; a track in the plane."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from smcinfer.ground.dates import dated
from smcinfer.ground.errors import ArgumentError
from smcinfer.plots.style import EMPHASIS, FAINT, PALETTE, finish, new_figure, recorded, styled
from smcinfer.results.estimates import Estimates

_MEAN = "filtered_mean"
_HINT = 'filter a smcinfer.state_space model, with history="scalars" at least'


class Band(NamedTuple):
    """One scalar of the state over time, pooled over runs.

    Attributes:
        label: name and index of the scalar.
        mean, low, high: Float["T+1"].
        what: what lies between low and high, in words.
    """

    label: str
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    what: str


def plot_filter(result: Estimates, *, truth: Any = None, data: Any = None, max_scalars: int = 4) -> Figure:
    """Filtered mean and band of every scalar of the state over time, pooled over runs.

    The band lies between the lowest and the highest recorded quantile, or is the mean plus and minus two standard
    deviations where no quantiles were recorded.

    Args:
        result: of filtering a `smcinfer.state_space` model.
        truth: the simulated path, shaped like the states with a leading axis of T + 1; drawn where it is given.
        data: (T+1,) or (T+1, k), observations for a panel of their own.
        max_scalars: how many scalars to show, the first ones.

    Returns:
        The figure.

    Raises:
        ArgumentError: the history has no filtered means, or truth or data are of another length.
    """
    bands = filtered_bands(result)[:max_scalars]
    return draw_bands(bands, "filtered mean", truth=truth, data=data, dates=dated(result.settings))


def draw_bands(bands: list[Band], mean: str, *, truth: Any, data: Any, dates: np.ndarray | None = None) -> Figure:
    """One panel a band, truth in it, and data below: what filters and smoothers both show.

    Args:
        bands: what to draw.
        mean: what the mean is called.
        truth, data: as `plot_filter` takes them.
        dates: of the times, where there are any.
    """
    steps = np.arange(bands[0].mean.size) if dates is None else dates
    truths = [None] * len(bands) if truth is None else _scalars("truth", truth, steps.size)
    panels = len(bands) + (data is not None)
    with styled():
        figure = new_figure(height=1.2 + 1.9 * panels)
        axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        for axis, band, true in zip(axes, bands, truths, strict=False):
            axis.fill_between(steps, band.low, band.high, color=PALETTE[4], alpha=0.45, linewidth=0, label=band.what)
            axis.plot(steps, band.mean, color=PALETTE[0], linewidth=1.4, label=mean)
            if true is not None:
                axis.plot(steps, true, color=EMPHASIS, linewidth=1.0, linestyle="--", label="truth")
            finish(axis, ylabel=band.label)
        if data is not None:
            _draw_data(axes[-1], steps, data)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        axes[-1].set_xlabel("time t" if dates is None else "")
    return figure


def plot_track(
    result: Estimates, *, truth: Any = None, observer: Any = None, scalars: tuple[int, int] = (0, 1), every: int = 5
) -> Figure:
    """The filtered path of two scalars of the state in their plane, with ellipses of two standard deviations.

    Args:
        result: of filtering a `smcinfer.state_space` model.
        truth: (T+1, d), the simulated path.
        observer: (T+1, 2), where the observer was.
        scalars: which two scalars are the position.
        every: an ellipse every so many steps; its axes are those of the plane.

    Returns:
        The figure.

    Raises:
        ArgumentError: the history has no filtered means, or fewer scalars.
    """
    bands = _moments(result)
    if not 0 <= min(scalars) <= max(scalars) < len(bands):
        raise ArgumentError("no such scalars of the state", expected=f"two of 0 to {len(bands) - 1}", got=scalars)
    (_, x, x_sd), (_, y, y_sd) = (bands[index] for index in scalars)
    with styled():
        figure = new_figure(width=6.4, height=5.2)
        axes = figure.subplots()
        for t in range(0, x.size, every):
            ellipse = Ellipse((x[t], y[t]), 4 * x_sd[t], 4 * y_sd[t], facecolor=PALETTE[4], alpha=0.25)
            axes.add_patch(ellipse)
        axes.plot(x, y, color=PALETTE[0], marker="o", markersize=3, linewidth=1.2, label="filtered mean, ± 2 sd")
        if truth is not None:
            path = np.stack([_scalars("truth", truth, x.size)[index] for index in scalars])
            axes.plot(*path, color=EMPHASIS, linestyle="--", linewidth=1.2, label="truth")
            axes.plot(*path[:, 0], marker="s", color=EMPHASIS, linestyle="none", label="start")
        if observer is not None:
            axes.plot(*np.asarray(observer).T[:2], color=PALETTE[1], linewidth=1.2, label="observer")
        axes.set_aspect("equal", adjustable="datalim")
        finish(axes, xlabel=bands[scalars[0]][0], ylabel=bands[scalars[1]][0], title="Track")
        axes.legend(loc="best")
    return figure


def filtered_bands(result: Estimates) -> list[Band]:
    """Bands of every scalar of the state, in the order of the state's leaves.

    Raises:
        ArgumentError: the history has no filtered means.
    """
    moments = _moments(result)
    levels = result.settings.get("quantiles")
    if levels is None:
        return [Band(label, mean, mean - 2 * sd, mean + 2 * sd, "± 2 sd") for label, mean, sd in moments]
    lowest, highest = int(np.argmin(levels)), int(np.argmax(levels))
    what = f"{levels[lowest]:.0%} to {levels[highest]:.0%} quantiles"
    shares = _shares(result)
    ends = []
    for name in _names(result):
        values = result.history[name.replace(_MEAN, "filtered_quantiles", 1)]
        pooled = np.einsum("rt,rtqk->tqk", shares, values.reshape(*values.shape[:3], -1))
        ends += [(pooled[:, lowest, k], pooled[:, highest, k]) for k in range(pooled.shape[-1])]
    return [Band(label, mean, low, high, what) for (label, mean, _), (low, high) in zip(moments, ends, strict=True)]


def _names(result: Estimates) -> list[str]:
    names = [name for name in result.history if name.split(".")[0] == _MEAN]
    if not names:
        recorded(result, _MEAN, _HINT)
    return names


def _moments(result: Estimates) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Label, mean and standard deviation over time of every scalar, pooled over runs."""
    names, shares = _names(result), _shares(result)
    found = []
    for name in names:
        mean, sd = (
            result.history[key].reshape(*shares.shape, -1) for key in (name, name.replace(_MEAN, "filtered_sd", 1))
        )
        centre = np.einsum("rt,rtk->tk", shares, mean)
        spread = np.sqrt(np.einsum("rt,rtk->tk", shares, sd**2 + (mean - centre) ** 2))
        variable = name.removeprefix(_MEAN).lstrip(".") or "x"
        indices = list(np.ndindex(result.history[name].shape[2:]))
        labels = [f"{variable}[{', '.join(map(str, index))}]" if index else variable for index in indices]
        found += [(label, centre[:, k], spread[:, k]) for k, label in enumerate(labels)]
    return found


def _shares(result: Estimates) -> Float[np.ndarray, "num_runs steps"]:
    """Weight of every run at every step: in proportion to its Z_hat so far."""
    log_z = np.cumsum(recorded(result, "log_z_increment", _HINT).astype(np.float64), axis=1)
    dead = ~np.isfinite(log_z).any(axis=0)
    log_z = np.where(dead, 0.0, log_z)
    return np.exp(log_z - np.logaddexp.reduce(log_z, axis=0))


def _scalars(what: str, values: Any, length: int) -> list[np.ndarray]:
    """Every scalar of a tree over time."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(values)]
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
    if lengths != {length}:
        raise ArgumentError(f"{what} is of another length than the run", expected=f"{length} times", got=lengths)
    return [column for leaf in leaves for column in leaf.reshape(length, -1).T]


def _draw_data(axes: Axes, steps: np.ndarray, data: Any) -> None:
    """Observations as dots, in a panel of their own: they need not be of the state's unit."""
    for index, column in enumerate(_scalars("data", data, steps.size)):
        color = PALETTE[(index + 1) % len(PALETTE)]
        axes.plot(steps, column, ".", color=color, markersize=3)
    axes.axhline(0.0, color=FAINT, linewidth=0.7)
    finish(axes, ylabel="data y")
