"""What is to come: fans of a forecast's quantiles, after the data that it goes on from."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError
from smcinfer.plots.style import EMPHASIS, PALETTE, finish, new_figure, styled
from smcinfer.results.forecast import BARE_OBSERVATION, Forecast


def plot_forecast(
    forecast: Forecast,
    *,
    name: str = BARE_OBSERVATION,
    data: Any = None,
    outcome: Any = None,
    levels: tuple[float, ...] = (0.5, 0.9),
    max_scalars: int = 4,
) -> Figure:
    """Median and bands of every scalar of a forecast, one panel each.

    Args:
        forecast: what `Result.forecast` or `Online.predict` returned.
        name: of the observation or the state.
        data: (n,) or (n, k), what was observed in the n steps before; drawn where it is given.
        outcome: (H,) or (H, k), what came; drawn where it is given.
        levels: probabilities of the bands.
        max_scalars: how many scalars to show, the first ones.

    Returns:
        The figure.

    Raises:
        ArgumentError: a level is no probability, or data or outcome do not look like the forecast.
    """
    forecast = validate.instance("forecast", forecast, Forecast, "what result.forecast or online.predict returned")
    widths = sorted((validate.fraction("a level of levels", level) for level in levels), reverse=True)
    ends = [end for width in widths for end in ((1 - width) / 2, (1 + width) / 2)]
    fan = forecast.quantile([*ends, 0.5], name).reshape(len(ends) + 1, forecast.horizon, -1)
    steps: Any = forecast.first + np.arange(forecast.horizon) if forecast.dates is None else forecast.dates
    past, came = (None if values is None else _columns(values, fan.shape[2]) for values in (data, outcome))
    if came is not None and len(came) != forecast.horizon:
        raise ArgumentError("outcome is of another length", expected=f"{forecast.horizon} steps", got=len(came))
    shown = min(fan.shape[2], validate.count("max_scalars", max_scalars))
    with styled():
        figure = new_figure(height=1.2 + 1.9 * shown)
        axes = figure.subplots(shown, 1, sharex=True, squeeze=False)[:, 0]
        for k, axis in enumerate(axes):
            for i, width in enumerate(widths):
                style = {"color": PALETTE[4], "alpha": 0.3, "linewidth": 0}
                axis.fill_between(steps, fan[2 * i, :, k], fan[2 * i + 1, :, k], **style, label=f"{width:.0%} band")
            axis.plot(steps, fan[-1, :, k], color=PALETTE[0], linewidth=1.4, label="median")
            if past is not None:
                axis.plot(_before(steps, len(past)), past[:, k], ".", color=PALETTE[1], markersize=3, label="data")
            if came is not None:
                axis.plot(steps, came[:, k], "x", color=EMPHASIS, markersize=4, label="outcome")
            finish(axis, ylabel=f"{name}[{k}]" if fan.shape[2] > 1 else name)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=5)
        axes[-1].set_xlabel("time t" if forecast.dates is None else "")
    return figure


def _columns(values: Any, width: int) -> np.ndarray:
    """A series as ``(n, width)``."""
    array = np.asarray(values, np.float64)
    columns = array.reshape(array.shape[0], -1) if array.ndim else array
    if columns.ndim != 2 or columns.shape[1] != width:
        raise ArgumentError("data or outcome do not look like the forecast", expected=f"(n, {width})", got=array.shape)
    return columns


def _before(steps: np.ndarray, count: int) -> np.ndarray:
    """As many times as there are data, at the same pace, before the first of the forecast."""
    pace = steps[1] - steps[0] if len(steps) > 1 else np.asarray(1, steps.dtype if steps.dtype.kind != "M" else "m8[D]")
    return steps[0] - pace * np.arange(count, 0, -1)
