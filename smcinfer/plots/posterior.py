"""ArviZ's posterior plots of a result, and all figures of a result in one folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from smcinfer.ground import validate
from smcinfer.plots.diagnostics import plot_ess_temperature, plot_weights
from smcinfer.plots.evidence import plot_log_z
from smcinfer.plots.filtering import plot_filter
from smcinfer.plots.genealogy import plot_genealogy
from smcinfer.plots.style import shown
from smcinfer.results.estimates import Estimates
from smcinfer.results.export import to_arviz
from smcinfer.results.summary import scalars


class Kind(NamedTuple):
    """An ArviZ plot by name, with how many scalars and how many draws of a run it shows legibly."""

    plot: str
    scalars: int
    draws: int


KINDS: dict[str, Kind] = {
    "trace_dist": Kind("plot_trace_dist", 6, 400),
    "dist": Kind("plot_dist", 12, 10_000),
    "forest": Kind("plot_forest", 40, 10_000),
    "rank": Kind("plot_rank", 12, 10_000),
    "pair": Kind("plot_pair", 5, 250),
}


def plot_posterior(result: Estimates, kind: str = "dist", *, max_scalars: int | None = None) -> Figure:
    """One of ArviZ's plots of equally weighted draws, runs as chains.

    Args:
        result: the weighted particles.
        kind: ``"trace_dist"``, ``"dist"``, ``"forest"``, ``"rank"`` or ``"pair"``.
        max_scalars: how many scalars to show, the first ones; by default as many as stay legible.

    Returns:
        The figure.

    Raises:
        ArgumentError: unknown kind.
    """
    validate.one_of("kind", kind, KINDS)
    if max_scalars is not None:
        validate.count("max_scalars", max_scalars)
    # These take seconds to import, and no other figure needs them.
    import arviz
    import matplotlib.pyplot as plt

    chosen = KINDS[kind]
    count = chosen.scalars if max_scalars is None else max_scalars
    posterior = to_arviz(shown(result))["posterior"].to_dataset().isel(draw=slice(chosen.draws))
    # Each scalar as a variable of its own, so that the plot shows as many as asked.
    values = {str(name): variable.values for name, variable in posterior.data_vars.items()}
    tree = arviz.from_dict({"posterior": dict(list(scalars(values))[:count])})
    collection = getattr(arviz, chosen.plot)(tree, backend="matplotlib")
    figure = collection.viz["figure"].item()
    # ArviZ leaves no room between rows for titles.
    figure.set_layout_engine("constrained")
    # ArviZ draws through pyplot, which would keep the figure for ever.
    plt.close(figure)
    return figure


def save_all(result: Estimates, folder: str | Path) -> list[Path]:
    """Every figure the result has the records for, as PNG files.

    Args:
        result: the weighted particles.
        folder: created where it is missing.

    Returns:
        Paths of the files, in the order they were drawn.
    """
    folder = validate.path("folder", folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures(result):
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=150, bbox_inches="tight")
        paths.append(path)
    return paths


def figures(result: Estimates) -> Iterator[tuple[str, Figure]]:
    """Every figure the result has the records for, by name, each drawn when it is asked for."""
    if "ess" in result.history:
        yield "ess_temperature", plot_ess_temperature(result)
    if "log_z_increment" in result.history:
        yield "log_z", plot_log_z(result)
        if any(name.startswith("filtered_mean") for name in result.history):
            yield "filter", plot_filter(result)
    if "ancestors" in result.history:
        yield "genealogy", plot_genealogy(result)
    yield "weights", plot_weights(result)
    for kind in KINDS:
        if kind != "pair" or sum(1 for _ in scalars(result.particles)) > 1:
            yield f"posterior_{kind}", plot_posterior(result, kind)
