"""log Z as it grows, and how far its estimates and bounds are apart at the end."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smcinfer.ground import validate
from smcinfer.plots.style import EMPHASIS, FAINT, PALETTE, SCALARS_HINT, finish, new_figure, recorded, run_lines, styled
from smcinfer.results.estimates import Estimates
from smcinfer.results.evidence import Bound


def plot_log_z(result: Estimates, *, level: float = 0.99) -> Figure:
    """Cumulative log Z over steps (left); the final estimates, interval and bounds (right).

    The path falls by tens of nats where runs differ by hundredths, so what runs differ by, and the end, have axes of
    their own. Runs are compared step by step only where step t means the same target in every run; runs that choose
    their own exponents have only their ends in common.

    Args:
        result: a result with at least ``history="scalars"``.
        level: coverage of the interval.

    Returns:
        The figure.

    Raises:
        ArgumentError: no increments were recorded.
    """
    level = validate.number("level", level, above=0.0, below=1.0)
    totals = np.cumsum(recorded(result, "log_z_increment", SCALARS_HINT).astype(np.float64), axis=1)
    comparable = _comparable(result, totals)
    with styled():
        figure = new_figure(width=9.0, height=5.0 if comparable else 4.2)
        left, right = figure.subfigures(1, 2, width_ratios=[1.4, 1.0], squeeze=False)[0]
        panels = left.subplots(
            1 + comparable, 1, sharex=True, squeeze=False, height_ratios=[1.6, 1.0][: 1 + comparable]
        )
        _draw_path(panels[0, 0], result, totals, level)
        if comparable:
            _draw_differences(panels[1, 0], result, totals)
        panels[-1, 0].set_xlabel("step t")
        panels[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
        _draw_end(right.subplots(), result, level)
    return figure


def _comparable(result: Estimates, totals: np.ndarray) -> bool:
    """Whether step t means the same target in every run, and every run got there."""
    exponent = result.history.get("exponent")
    same = exponent is None or bool(np.all(exponent == exponent[:1]))
    return same and result.num_runs > 1 and bool(np.isfinite(totals).all())


def _draw_path(axes: Axes, result: Estimates, totals: np.ndarray, level: float) -> None:
    """Every run, and where the combined estimate ends."""
    steps = np.arange(totals.shape[1])
    for run, style in run_lines(result):
        axes.plot(steps, np.where(np.isfinite(totals[run]), totals[run], np.nan), **style)
    if math.isfinite(result.log_z):
        low, high = result.log_z_interval(level)
        axes.axhline(result.log_z, color=EMPHASIS, linewidth=0.8, linestyle=":", label="final log Z")
        if math.isfinite(low):
            axes.axhspan(low, high, color=FAINT, alpha=0.3, linewidth=0)
    finish(axes, ylabel="cumulative log Z (nats)", title="log Z over steps")
    axes.legend(loc="best")


def _draw_differences(axes: Axes, result: Estimates, totals: np.ndarray) -> None:
    """What every run is above the log of their mean Z_hat, and two standard deviations between runs."""
    top = totals.max(axis=0)
    mean = top + np.log(np.mean(np.exp(totals - top), axis=0))
    spread = 2.0 * totals.std(axis=0, ddof=1)
    steps = np.arange(totals.shape[1])
    axes.fill_between(steps, -spread, spread, color=FAINT, alpha=0.4, linewidth=0, label="± 2 sd of runs")
    axes.axhline(0.0, color=EMPHASIS, linewidth=1.2, linestyle="--", label="log of mean Z")
    for run, style in run_lines(result):
        unnamed: dict[str, Any] = style | {"label": "_nolegend_"}
        axes.plot(steps, totals[run] - mean, **unnamed)
    axes.plot(steps, totals.mean(axis=0) - mean, color=EMPHASIS, linewidth=1.2, linestyle=":", label="lower bound")
    finish(axes, ylabel="difference\nfrom mean (nats)")
    axes.legend(loc="upper left", ncols=2)


def _draw_end(axes: Axes, result: Estimates, level: float) -> None:
    """One row each: the bounds, the combined estimate with its interval, the runs."""
    low, high = result.log_z_interval(level)
    lower, upper = result.lower_bound, result.upper_bound
    missing = Bound(math.nan, math.nan)
    rows = [
        ("lower bound\n± 2 s.e.", lower.value, 2 * lower.se, PALETTE[2]),
        (f"log Z,\n{level:.0%} interval", result.log_z, high - result.log_z, EMPHASIS),
        ("upper bound\n± 2 s.e.", (upper or missing).value, 2 * (upper or missing).se, PALETTE[1]),
    ]
    for position, (_, value, half, color) in enumerate(rows):
        if math.isfinite(value):
            bar = half if math.isfinite(half) else None
            axes.errorbar(value, position, xerr=bar, fmt="o", color=color, capsize=4, markersize=6, linewidth=1.8)
    if math.isfinite(low):
        axes.axvspan(low, high, color=FAINT, alpha=0.3, linewidth=0)
    top = len(rows)
    heights = top - 0.25 + np.linspace(0, 0.5, result.num_runs) if result.num_runs > 1 else [float(top)]
    for (run, style), height in zip(run_lines(result), heights, strict=True):
        if math.isfinite(result.log_z_runs[run]):
            axes.plot(result.log_z_runs[run], height, "o", color=style["color"], markersize=4)
    if upper is None:
        centred = {"transform": axes.get_yaxis_transform(), "ha": "center", "va": "center"}
        axes.text(0.5, 2, "none: needs an exact draw", fontsize=8, **centred)
    axes.set_yticks(range(top + 1), [*(name for name, *_ in rows), "each run"])
    axes.set_ylim(-0.6, top + 0.6)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    finish(axes, xlabel="log Z (nats)", title="At the end")
