"""What a person sees while a run is under way: a bar, the ESS and log Z so far, the time left."""

import contextlib
import html
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SCALE = 1000.0
STARTING = "compiling"

Report = Callable[[float, str], None]
"""Called by the host loop between chunks with the fraction of the work done, in [0, 1], and a short message."""


@contextlib.contextmanager
def bar(enabled: bool, description: str) -> Iterator[Report]:
    """A progress bar while the block runs, on stderr or in the cell of a notebook; silent where not enabled.

    Where stderr is not a terminal nothing is drawn but the last line.
    """
    if not enabled:
        yield lambda fraction, message: None
        return
    display = notebook_display()
    if display is not None:
        yield _in_cell(display, description)
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[message]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=False,
    )
    task = progress.add_task(description, total=SCALE, message=STARTING)

    def report(fraction: float, message: str) -> None:
        progress.update(task, completed=SCALE * min(max(fraction, 0.0), 1.0), message=message)

    with progress:
        yield report


def notebook_display() -> Any | None:
    """The module by which a notebook shows things, where this program runs in one; rich and tqdm would want ipywidgets."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython import display  # pyright: ignore[reportMissingImports]

    return display


def _in_cell(display: Any, description: str) -> Report:
    """One output of a cell that is replaced at every look."""
    began = time.perf_counter()
    handle = display.display(display.HTML(cell(description, 0.0, STARTING, 0.0)), display_id=True)

    def report(fraction: float, message: str) -> None:
        seconds = time.perf_counter() - began
        handle.update(display.HTML(cell(description, min(max(fraction, 0.0), 1.0), message, seconds)))

    return report


def cell(description: str, fraction: float, message: str, seconds: float) -> str:
    """A bar as HTML that stands by itself.

    Args:
        description: its label.
        fraction: of the work that is done, in [0, 1].
        message: a short text beside it.
        seconds: since it began.
    """
    return (
        f"<div style='font-family:monospace'>{html.escape(description)} "
        f"<progress value='{fraction:.3f}' max='1' style='width:20em;vertical-align:middle'></progress> "
        f"{fraction:4.0%} {html.escape(message)} {seconds:.0f} s</div>"
    )
