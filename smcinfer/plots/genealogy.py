"""Who descends from whom: the family tree of one run's particles."""

import numpy as np
from jaxtyping import Int
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smcinfer.ground import validate
from smcinfer.plots.style import FAINT, PALETTE, finish, new_figure, recorded, styled
from smcinfer.results.estimates import Estimates

# More lines than this run into one another: every k-th particle then stands for its neighbours.
_MAX_LINES = 256


def surviving(parents: Int[np.ndarray, "rows n"]) -> list[Int[np.ndarray, " k"]]:
    """Particles of each generation that the last one descends from.

    Args:
        parents: Int["steps+1 num_particles"]; entry [t, i] is the particle of generation t - 1 that particle i of
            generation t came from (row 0 is not read).

    Returns:
        One sorted array of distinct particles a generation, the last one complete.
    """
    kept = [np.arange(parents.shape[1])]
    for row in parents[:0:-1]:
        kept.append(np.unique(row[kept[-1]]))
    return kept[::-1]


def plot_genealogy(result: Estimates, run: int = 0) -> Figure:
    """The family tree of one run, surviving lines on top, and how many ancestors survive.

    Args:
        result: a result with ``history="ancestors"`` or ``"full"``.
        run: which run.

    Returns:
        The figure.

    Raises:
        ArgumentError: no ancestors were recorded, or there is no such run.
    """
    ancestors = recorded(result, "ancestors", 'run with history="ancestors"')
    run = validate.count("run", run, at_least=0, at_most=result.num_runs - 1)
    parents = ancestors[run, : int(result.num_steps[run]) + 1]
    num_particles = parents.shape[1]
    every = -(-num_particles // _MAX_LINES)
    shown = np.arange(0, num_particles, every)
    numbers = [line.size for line in surviving(parents)]
    with styled():
        figure = new_figure(height=5.4)
        tree, count = figure.subplots(2, 1, sharex=True, height_ratios=[3.0, 1.0])
        faint = {"colors": FAINT, "linewidths": 0.4, "rasterized": True}
        strong = {"colors": PALETTE[0], "linewidths": 0.7, "alpha": 0.7, "rasterized": True}
        tree.add_collection(LineCollection(_segments(parents, shown), **faint))
        tree.add_collection(LineCollection(_paths(parents, shown), **strong))
        tree.set_xlim(0, max(len(parents) - 1, 1))
        tree.set_ylim(-1, num_particles)
        tree.plot([], [], color=FAINT, label="died out")
        tree.plot([], [], color=PALETTE[0], label="has living descendants")
        thinned = f" (1 in {every} drawn)" if every > 1 else ""
        title = f"Genealogy of run {run}: {numbers[0]} of {num_particles} founders survive{thinned}"
        finish(tree, ylabel="particle", title=title)
        figure.legend(*tree.get_legend_handles_labels(), loc="outside upper right", ncols=2)
        count.plot(np.arange(len(parents)), numbers, color=PALETTE[0], marker="o", markersize=3)
        count.set_yscale("log")
        count.set_ylim(0.8, 1.5 * num_particles)
        finish(count, xlabel="step t", ylabel="surviving\nlines")
        count.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _segments(parents: Int[np.ndarray, "rows n"], children: Int[np.ndarray, " k"]) -> list[np.ndarray]:
    """At every step one line from each of the children to its parent."""
    return [np.array([[t - 1, row[child]], [t, child]]) for t, row in enumerate(parents) if t for child in children]


def _paths(parents: Int[np.ndarray, "rows n"], last: Int[np.ndarray, " k"]) -> list[np.ndarray]:
    """The whole line of descent of each of the last particles."""
    path = [last]
    for row in parents[:0:-1]:
        path.append(row[path[-1]])
    generations = np.arange(len(parents))
    return [np.stack([generations, line], axis=-1) for line in np.stack(path[::-1], axis=-1)]
