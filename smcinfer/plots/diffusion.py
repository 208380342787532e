"""Diffusions under a reward: grids of samples, how a run earned its reward, and what an evaluation of the network buys.

Who descends from whom is `plot_genealogy`, as for any run.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError
from smcinfer.plots.style import EMPHASIS, PALETTE, SCALARS_HINT, finish, new_figure, recorded, run_lines, styled
from smcinfer.results.estimates import Estimates


def plot_samples(
    groups: Mapping[str, ArrayLike], *, columns: int = 12, limits: tuple[float, float] | None = None
) -> Figure:
    """Rows of images, a block a group, ink dark.

    Args:
        groups: name to (n, height, width), or (n, side * side) of square images.
        columns: images a row.
        limits: values of paper and ink; the extremes of all groups where ``None``.

    Returns:
        The figure.

    Raises:
        ArgumentError: no group, an empty one, or arrays that are no images.
    """
    if not groups:
        raise ArgumentError("there is nothing to draw", expected="at least one group of images", got=dict(groups))
    validate.count("columns", columns)
    images = {name: _images(name, values) for name, values in groups.items()}
    low, high = limits or (min(map(np.min, images.values())), max(map(np.max, images.values())))
    mosaics = {name: _mosaic(values, columns, low) for name, values in images.items()}
    heights = [mosaic.shape[0] / mosaic.shape[1] for mosaic in mosaics.values()]
    with styled():
        figure = new_figure(height=7.0 * sum(heights) + 0.35 * len(heights) + 0.2)
        axes = figure.subplots(len(mosaics), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axis, (name, mosaic) in zip(axes, mosaics.items(), strict=True):
            axis.imshow(mosaic, cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")
            axis.set_title(name, loc="left")
            axis.set_axis_off()
    return figure


def plot_reward_path(result: Estimates) -> Figure:
    """The foreseen reward of the particles at every step, mean and best, and the effective sample size, one line a run.

    Args:
        result: of a target made by `smcinfer.diffusion.alignment`, with at least ``history="scalars"``.

    Returns:
        The figure.

    Raises:
        ArgumentError: the run foresaw nothing (a target without a look-ahead, or of another kind).
    """
    mean = recorded(result, "value_mean", "sample a target of smcinfer.diffusion.alignment, with a look-ahead")
    best = recorded(result, "value_best", SCALARS_HINT)
    ess = recorded(result, "ess", SCALARS_HINT) / result.num_particles
    steps = np.arange(mean.shape[1])
    with styled():
        figure = new_figure(height=4.6)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.6, 1.0])
        for run, style in run_lines(result):
            above.plot(steps, mean[run], **style)
            above.plot(steps, best[run], **(style | {"linestyle": ":", "label": "_best"}))
            below.plot(np.arange(ess.shape[1]), ess[run], **style)
        title = f"On the way from noise to samples: {result.num_particles} particles, {result.num_runs} runs"
        finish(above, ylabel="reward / temperature\nforeseen, nats", title=title)
        above.plot([], [], color=EMPHASIS, label="weighted mean")
        above.plot([], [], color=EMPHASIS, linestyle=":", label="best particle")
        above.legend(ncols=3, loc="lower right")
        finish(below, xlabel="step t", ylabel="ESS / particles")
        below.set_ylim(0, 1.05)
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def plot_reward_evaluations(
    curves: Mapping[str, ArrayLike],
    *,
    reward: str = "reward",
    scale: str = "log",
) -> Figure:
    """What evaluations of the network buy: reward against their number, a line a method, with intervals.

    Args:
        curves: name to (n, 3), points ``(evaluations, mean, half width of its interval)``.
        reward: label of the vertical axis.
        scale: of the horizontal one, ``"log"`` or ``"linear"``.

    Returns:
        The figure.

    Raises:
        ArgumentError: no curve, or points that are no triples.
    """
    table = {name: np.asarray(points, np.float64) for name, points in curves.items()}
    for name, points in table.items():
        if points.ndim != 2 or points.shape[1] != 3:
            raise ArgumentError(
                f"the points of {name!r} are no triples", expected="(evaluations, mean, half width)", got=points.shape
            )
    if not table:
        raise ArgumentError("there is nothing to draw", expected="at least one curve", got=dict(curves))
    with styled():
        figure = new_figure(height=4.2)
        axes = figure.subplots()
        for index, (name, points) in enumerate(table.items()):
            evaluations, mean, half = points[np.argsort(points[:, 0])].T
            color = PALETTE[index % len(PALETTE)]
            marker = "os^Dv"[index // len(PALETTE) % 5]
            axes.errorbar(evaluations, mean, yerr=half, color=color, marker=marker, markersize=4, capsize=2, label=name)
        axes.set_xscale(scale)
        finish(axes, xlabel="evaluations of the network a particle", ylabel=reward)
        axes.legend(loc="best")
    return figure


def _images(name: str, values: ArrayLike) -> np.ndarray:
    """The values as images, (n, height, width), or an error that names the group."""
    images = np.asarray(values, np.float64)
    side = round(images.shape[-1] ** 0.5) if images.ndim else 0
    if images.ndim == 2 and side * side == images.shape[1]:
        images = images.reshape(-1, side, side)
    if images.ndim != 3 or 0 in images.shape:
        raise ArgumentError(
            f"{name!r} holds no images", expected="(n, height, width), or (n, side * side)", got=np.shape(values)
        )
    return images


def _mosaic(images: np.ndarray, columns: int, paper: float) -> np.ndarray:
    """The images side by side in rows, with one pixel of paper between them."""
    number, height, width = images.shape
    rows = -(-number // columns)
    sheet = np.full((rows, height + 1, columns, width + 1), paper)
    for index, image in enumerate(images):
        sheet[index // columns, :height, index % columns, :width] = image
    return sheet.reshape(rows * (height + 1), columns * (width + 1))
