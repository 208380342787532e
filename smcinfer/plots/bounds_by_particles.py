"""Bounds on log Z against the number of particles: how fast the two ends close, and by which method."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smcinfer.bounds.by_particles import BoundsByParticles
from smcinfer.plots.style import EMPHASIS, PALETTE, finish, new_figure, styled


def plot_bounds(*bounds: BoundsByParticles, labels: tuple[str, ...] = (), log_z: float | None = None) -> Figure:
    """Both bounds of every method against N (left), and the gap between them (right).

    Args:
        bounds: tables of one target, of several proposals or twists say.
        labels: what to call each; needed where there are several.
        log_z: the exact value, where it is known, nats.

    Returns:
        The figure.
    """
    names = labels or ("",) * len(bounds)
    with styled():
        figure = new_figure(width=9.0, height=4.0)
        left, right = figure.subplots(1, 2)
        colours = iter(PALETTE * len(bounds))
        for table, name in zip(bounds, names, strict=True):
            for method in table.lower:
                style: dict[str, Any] = {"color": next(colours), "label": ", ".join(filter(None, (name, method)))}
                _ends(left, table, method, style)
                gaps = table.gap(method)
                right.plot(table.num_particles, np.where(gaps > 0, gaps, np.nan), marker="o", markersize=4, **style)
        if log_z is not None:
            exact = left.axhline(log_z, color=EMPHASIS, linewidth=0.8, linestyle=":", label="exact")
            left.legend(handles=[exact], loc="best")
        left.set_xscale("log", base=2)
        right.set_xscale("log", base=2)
        right.set_yscale("log")
        finish(left, xlabel="particles N", ylabel="bounds on log Z (nats)", title="log Z from below and from above")
        finish(right, xlabel="particles N", ylabel="gap (nats)", title="upper minus lower bound")
        right.legend(loc="best")
    return figure


def _ends(axes: Axes, table: BoundsByParticles, method: str, style: dict[str, Any]) -> None:
    """Both bounds with two standard errors, the space between them shaded."""
    middle = []
    for side in (table.lower[method], table.upper[method]):
        mean, error = side.mean(axis=1), side.std(axis=1, ddof=1) / np.sqrt(side.shape[1])
        axes.errorbar(table.num_particles, mean, 2 * error, marker="o", markersize=4, linewidth=1.3, **style)
        middle.append(mean)
    axes.fill_between(table.num_particles, *middle, color=style["color"], alpha=0.12, linewidth=0)
