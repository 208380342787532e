"""How a run went: effective sample size, temperature and acceptance by step, and the weights it ended with."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from smcinfer.plots.style import EMPHASIS, FAINT, SCALARS_HINT, finish, new_figure, recorded, run_lines, styled
from smcinfer.results.estimates import Estimates

# Narrower than this, in decades, the weights are equal but for rounding.
_EQUAL = 1e-3

_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}


def plot_ess_temperature(result: Estimates) -> Figure:
    """Effective sample size, exponent and acceptance at every step, one line a run.

    Args:
        result: a result with at least ``history="scalars"``; panels of what was not recorded are left out.

    Returns:
        The figure.

    Raises:
        ArgumentError: no ESS was recorded.
    """
    ess = recorded(result, "ess", SCALARS_HINT)
    panels = [name for name in ("exponent", "acceptance") if name in result.history]
    with styled():
        figure = new_figure(height=2.4 + 1.7 * len(panels))
        heights = [1.4] + [1.0] * len(panels)
        axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        _draw_steps(axes[0], result, ess / result.num_particles)
        below = result.settings.get("resample_below", 1.0)
        if 0 < below < 1:
            axes[0].axhline(below, color=FAINT, linestyle="--", linewidth=1, label="resampling below")
        title = f"How each step went: {result.num_particles} particles, {result.num_runs} runs"
        axes[0].set_ylim(0, 1.05)
        axes[0].legend(ncols=min(result.num_runs + 1, 6), loc="lower right")
        finish(axes[0], ylabel="ESS / particles", title=title)
        for axis, name in zip(axes[1:], panels, strict=True):
            values = result.history[name]
            if name == "exponent":
                positive = np.where(values > 0, values, np.nan)
                _draw_steps(axis, result, positive)
                axis.set_yscale("log")
                axis.set_ylim(0.8 * 10 ** np.floor(np.log10(np.nanmin(positive, initial=0.1))), 1.6)
                axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
                finish(axis, ylabel="exponent λ\n(1 / temperature)")
            else:
                _draw_steps(axis, result, values)
                axis.set_ylim(0, 1.05)
                finish(axis, ylabel="acceptance of\nthe moves")
        axes[-1].set_xlabel("step t")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def plot_weights(result: Estimates) -> Figure:
    """Histogram of the final weights relative to equal ones, one outline a run, with the ESS.

    Args:
        result: the weighted particles.

    Returns:
        The figure.
    """
    relative = result.log_weights.astype(np.float64) / np.log(10) + np.log10(result.num_particles)
    seen = relative[np.isfinite(relative)]
    low, high = float(seen.min()), float(seen.max())
    equal = high - low < _EQUAL
    edges = np.linspace(-1, 1, 42) if equal else np.linspace(low, high, 41)
    zero = int(np.count_nonzero(~np.isfinite(relative)))
    with styled():
        figure = new_figure(height=3.8)
        axes = figure.subplots()
        for run, style in run_lines(result):
            values = relative[run][np.isfinite(relative[run])]
            axes.stairs(np.histogram(values, edges)[0], edges, **style)
        axes.axvline(0.0, color=EMPHASIS, linestyle=":", linewidth=1)
        sizes = [f"{size:.0f}" for size in (result.ess.min(), result.ess.max())]
        note = [f"ESS {' to '.join(dict.fromkeys(sizes))} of {result.num_particles}"]
        note += ["all weights equal"] if equal else []
        note += [f"{zero} particles of weight zero"] if zero else []
        axes.margins(y=0.22)
        axes.set_ylim(bottom=0)
        axes.text(0.01, 0.98, "\n".join(note), transform=axes.transAxes, va="top", ha="left", bbox=_PAPER)
        xlabel = "log10 of weight × particles (0: an equal share)"
        finish(axes, xlabel=xlabel, ylabel="particles", title="Final weights")
        axes.legend(loc="upper right", ncols=2)
    return figure


def _draw_steps(axes: Axes, result: Estimates, values: np.ndarray) -> None:
    """One line a run."""
    for run, style in run_lines(result):
        axes.plot(np.arange(values.shape[1]), values[run], **style)
