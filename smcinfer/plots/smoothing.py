"""What all data say of every state: bands over time."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from smcinfer.ground.errors import ArgumentError
from smcinfer.plots.filtering import Band, draw_bands
from smcinfer.results.smoothed import Smoothed


def plot_smoothed(
    smoothed: Smoothed, *, truth: Any = None, data: Any = None, level: float = 0.9, max_scalars: int = 4
) -> Figure:
    """Smoothed mean and the band between two quantiles of every scalar of the state over time.

    Args:
        smoothed: what `smcinfer.state_space.smoothing.smooth` returned.
        truth: the simulated path, shaped like the states with a leading axis of T + 1; drawn where it is given.
        data: (T+1,) or (T+1, k), observations for a panel of their own.
        level: probability of the band.
        max_scalars: how many scalars to show, the first ones.

    Returns:
        The figure.

    Raises:
        ArgumentError: the level is no probability, or truth or data are of another length.
    """
    if not 0.0 < level < 1.0:
        raise ArgumentError("level is a probability", expected="0 < level < 1", got=level)
    bands = []
    for name in smoothed.values:
        mean = smoothed.mean(name)
        low, high = smoothed.quantile([(1 - level) / 2, (1 + level) / 2], name)
        for index in np.ndindex(mean.shape[1:]):
            label = f"{name}[{', '.join(map(str, index))}]" if index else name
            at = (slice(None), *index)
            bands.append(Band(label, mean[at], low[at], high[at], f"{level:.0%} band"))
    return draw_bands(bands[:max_scalars], "smoothed mean", truth=truth, data=data)
