"""Events in time over the signal they were found in: true and found beats."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from smcinfer.plots.style import EMPHASIS, FAINT, PALETTE, finish, new_figure, styled


def plot_beats(
    strengths: ArrayLike, frame_rate: float, *, found: ArrayLike, truth: ArrayLike | None = None, last: float = 10.0
) -> Figure:
    """Onset strengths with found beats above and true ones below, over the last seconds.

    Args:
        strengths: (frames,), onset strengths.
        frame_rate: frames a second.
        found, truth: times of beats, seconds.
        last: seconds to show.

    Returns:
        The figure.
    """
    strengths = np.asarray(strengths)
    times = np.arange(strengths.size) / frame_rate
    start = max(times[-1] - last, 0.0)
    with styled():
        figure = new_figure(height=3.0)
        axes = figure.subplots()
        axes.plot(times, strengths, color=FAINT, linewidth=1.0, label="onset strength")
        marks = {"found": (found, 1.08, "v", PALETTE[0]), "true": (truth, -0.08, "^", EMPHASIS)}
        for label, (events, height, marker, colour) in marks.items():
            if events is not None:
                at = np.asarray(events)
                axes.plot(at, np.full(at.shape, height), marker, color=colour, markersize=5, label=f"{label} beats")
        axes.set_xlim(start, times[-1])
        finish(axes, xlabel="seconds", ylabel="strength")
        figure.legend(loc="outside upper right", ncols=3)
    return figure
