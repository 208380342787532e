"""How every figure looks: one palette that colour-blind readers can tell apart, one grid, one legend."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError
from smcinfer.results.estimates import Estimates

# Okabe & Ito (2008), without the yellow that white paper swallows and the black that marks what is combined.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
EMPHASIS = "#1A1A1A"
FAINT = "#B8B8B8"

_SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def new_figure(*, width: float = 7.0, height: float = 4.5) -> Figure:
    """An empty figure outside pyplot: nothing global is touched, nothing has to be closed."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def styled() -> AbstractContextManager[None]:
    """Context in which axes are made with this module's settings."""
    return matplotlib.rc_context(_SETTINGS)


def shown(result: Any) -> Estimates:
    """What is to be drawn, once it is sure that it is a result.

    Raises:
        ArgumentError: for anything else.
    """
    return validate.instance("result", result, Estimates, "a result: what smcinfer.sample or smcinfer.mcmc returned")


def run_lines(result: Estimates) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every run with how to draw its line; many runs are drawn faint, for no palette tells them apart."""
    for run in range(result.num_runs):
        label = f"run {run}"
        if result.num_runs <= len(PALETTE):
            yield run, {"color": PALETTE[run], "linewidth": 1.4, "label": label}
        else:
            label = "runs" if run == 0 else "_" + label
            yield run, {"color": PALETTE[0], "linewidth": 0.8, "alpha": max(0.15, 3 / result.num_runs), "label": label}


def finish(axes: Axes, *, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """Give axes their labels, a title on the left, and a quiet grid behind the data.

    Args:
        axes: what is changed.
        xlabel, ylabel, title: texts; none where empty.
    """
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title, loc="left")
    axes.grid(True, color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)


def recorded(result: Estimates, name: str, hint: str) -> np.ndarray:
    """A recorded quantity, or a clear error where the run did not record it.

    Args:
        result: the weighted particles.
        name: of the quantity in the history.
        hint: how to have it recorded.
    """
    if name not in shown(result).history:
        raise ArgumentError(
            f"the history has no {name!r}",
            expected=name,
            got=", ".join(result.history) or "an empty history",
            hint=hint,
        )
    return result.history[name]


SCALARS_HINT = 'run with history="scalars", the default'
