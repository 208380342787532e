"""Figures: they show the numbers, say what is missing, leave pyplot alone, and cope with degenerate results."""

import math
from pathlib import Path
from typing import Any

import arviz
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from smcinfer.ground.errors import ArgumentError
from smcinfer.plots import (
    plot_ess_temperature,
    plot_genealogy,
    plot_log_z,
    plot_posterior,
    plot_weights,
    save_all,
)
from smcinfer.plots.genealogy import surviving
from smcinfer.plots.posterior import KINDS
from smcinfer.results.evidence import Bound
from tests.synthetic import make_result

PLOTS = (plot_ess_temperature, plot_log_z, plot_weights, plot_genealogy)
DEAD = {"log_z_runs": np.array([-1.0, -math.inf, -1.0, -1.0]), "status_runs": np.array([0, 1, 0, 0])}


def draw(figure: Figure, path: Path) -> tuple[int, int]:
    """Render a figure and return its size in pixels; a figure that cannot be drawn raises."""
    figure.savefig(path)
    with Image.open(path) as image:
        assert image.getextrema()[0][0] < 128, "nothing dark was drawn"
        return image.size


def labels(figure: Figure) -> str:
    """Every text of a figure."""
    texts = [
        text for axes in figure.axes for text in (axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel())
    ]
    ticks = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    notes = [text.get_text() for axes in figure.axes for text in axes.texts]
    return " | ".join([*texts, *ticks, *notes])


@pytest.mark.dealt
@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_runs": 1},
        {"num_runs": 12},
        {"steps": 0, "num_runs": 1},
        DEAD,
        {"log_weights": np.full((4, 50), -math.log(50))},
        {"upper_bound": Bound(-6.0, 0.1), "settings": {"resample_below": 0.5}},
    ],
    ids=["usual", "one run", "many runs", "no step", "a dead run", "equal weights", "upper bound"],
)
def test_figures_of_all_sorts_of_results(plot: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    figure = plot(make_result(**changes))
    width, height = draw(figure, tmp_path / "figure.png")
    assert width > 900 and height > 500
    assert plt.get_fignums() == []


def test_ess_and_temperature_show_the_history() -> None:
    result = make_result()
    figure = plot_ess_temperature(result)
    assert [axes.get_ylabel().split()[0] for axes in figure.axes] == ["ESS", "exponent", "acceptance"]
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), result.history["ess"][1] / 50)
    assert figure.axes[1].get_yscale() == "log"
    only = {name: result.history[name] for name in ("ess", "log_z_increment")}
    assert len(plot_ess_temperature(make_result(history=only)).axes) == 1


def test_log_z_shows_runs_interval_and_bounds() -> None:
    result = make_result()
    figure = plot_log_z(result)
    path, end = figure.axes
    np.testing.assert_allclose(path.lines[1].get_ydata()[-1], result.log_z_runs[1])
    assert "nats" in path.get_ylabel() and "nats" in end.get_xlabel()
    assert "99% interval" in labels(figure) and "needs an exact draw" in labels(figure)
    spans = [patch.get_extents().x0 for patch in end.patches]
    assert end.transData.inverted().transform((spans[0], 0))[0] == pytest.approx(result.log_z_interval()[0])
    assert "needs an exact draw" not in labels(plot_log_z(make_result().with_upper_bound(Bound(-6.0, 0.1))))


def test_mean_over_runs_only_where_steps_mean_the_same() -> None:
    def names(result: Any) -> list[str]:
        return [str(line.get_label()) for axes in plot_log_z(result).axes for line in axes.lines]

    same = make_result(num_steps=np.full(4, 6))
    assert "log of mean Z" in names(same)
    exponents = same.history["exponent"] + np.linspace(0, 0.01, 4)[:, None]
    assert "log of mean Z" not in names(
        make_result(num_steps=np.full(4, 6), history=same.history | {"exponent": exponents})
    )


def test_surviving_lines_by_hand() -> None:
    # 2 -> 0 -> {0, 1}, 1 -> 2 -> 2; at the start 0 has died out.
    parents = np.array([[0, 1, 2], [2, 0, 1], [0, 0, 2]])
    assert [line.tolist() for line in surviving(parents)] == [[1, 2], [0, 2], [0, 1, 2]]


def test_genealogy_counts_the_founders() -> None:
    result = make_result()
    founders = surviving(result.history["ancestors"][2])[0].size
    assert f"run 2: {founders} of 50 founders" in labels(plot_genealogy(result, run=2))
    large = make_result(num_particles=1000, steps=3)
    assert "1 in 4 drawn" in labels(plot_genealogy(large))


def test_missing_records_are_explained() -> None:
    empty = make_result(history={})
    for plot in (plot_ess_temperature, plot_log_z):
        with pytest.raises(ArgumentError, match='history="scalars"'):
            plot(empty)
    with pytest.raises(ArgumentError, match='history="ancestors"'):
        plot_genealogy(empty)
    with pytest.raises(ArgumentError, match="0 to 3"):
        plot_genealogy(make_result(), run=4)
    with pytest.raises(ArgumentError, match="trace_dist"):
        plot_posterior(make_result(), "violin")


def test_weights_figure_says_what_is_degenerate() -> None:
    assert "all weights equal" in labels(plot_weights(make_result(log_weights=np.full((4, 50), -math.log(50)))))
    half = np.where(np.arange(50) < 25, -math.log(25), -math.inf) * np.ones((4, 1))
    assert "100 particles of weight zero" in labels(plot_weights(make_result(log_weights=half)))


@pytest.mark.dealt
@pytest.mark.parametrize("kind", KINDS)
def test_posterior_figures(kind: str, tmp_path: Path) -> None:
    draw(plot_posterior(make_result(), kind), tmp_path / "figure.png")
    assert plt.get_fignums() == []


def test_posterior_figures_show_as_many_as_asked() -> None:
    wide = make_result(particles={"x": np.random.default_rng(0).normal(size=(4, 50, 30))})
    assert len(plot_posterior(wide, "dist", max_scalars=3).axes) == 3


@pytest.mark.slow
def test_arviz_draws_the_exported_tree() -> None:
    """ArviZ's own functions on the tree, warnings being errors."""
    tree = make_result(num_particles=100).to_arviz()
    names = ("plot_trace_dist", "plot_rank", "plot_forest", "plot_ess", "plot_pair", "plot_dist")
    try:
        for name in names:
            collection = getattr(arviz, name)(tree, backend="matplotlib")
            assert isinstance(collection.viz["figure"].item(), Figure), name
    finally:
        plt.close("all")


@pytest.mark.slow
def test_save_all_writes_every_figure(tmp_path: Path) -> None:
    paths = save_all(make_result(), tmp_path / "deep" / "folder")
    assert [path.stem for path in paths] == [
        "ess_temperature",
        "log_z",
        "genealogy",
        "weights",
        *(f"posterior_{kind}" for kind in KINDS),
    ]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_save_all_leaves_out_what_was_not_recorded(tmp_path: Path) -> None:
    bare = make_result(history={}, particles={"x": np.random.default_rng(0).normal(size=(4, 50))})
    names = {path.stem for path in save_all(bare, tmp_path)}
    assert names == {"weights", *(f"posterior_{kind}" for kind in KINDS if kind != "pair")}
