"""Error against time, of several ways to sample one thing."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from matplotlib.figure import Figure

from smcinfer.plots import style


@runtime_checkable
class ErrorCurve(Protocol):
    """Error at some moments."""

    @property
    def seconds(self) -> Sequence[float]:
        """Times since the start, increasing, seconds."""
        ...

    @property
    def errors(self) -> Sequence[float]:
        """The error at each of those times."""
        ...


def plot_error_curves(curves: Mapping[str, ErrorCurve], label: str = "error of marginals") -> Figure:
    """Curves of error against seconds, time on a log scale.

    Args:
        curves: by name, as `smcinfer.graphs.inference.error_curve` makes them.
        label: of the vertical axis.
    """
    figure = style.new_figure(height=3.5)
    with style.styled():
        axes = figure.subplots()
        for (name, found), colour in zip(curves.items(), style.PALETTE, strict=False):
            axes.semilogx(found.seconds, found.errors, color=colour, label=name)
        axes.set(xlabel="seconds", ylabel=label)
        axes.legend()
    return figure
