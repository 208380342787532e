"""What a person sees while a run is under way: a bar, the ESS and log Z so far, the time left."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SCALE = 1000.0


Report = Callable[[float, str], None]
"""Called by the host loop between chunks with the fraction of the work done, in [0, 1], and a short message."""


@contextlib.contextmanager
def bar(enabled: bool, description: str) -> Iterator[Report]:
    """A progress bar on stderr while the block runs; silent where not enabled.

    Where stderr is not a terminal nothing is drawn but the last line.
    """
    if not enabled:
        yield lambda fraction, message: None
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
    task = progress.add_task(description, total=SCALE, message="compiling")

    def report(fraction: float, message: str) -> None:
        progress.update(task, completed=SCALE * min(max(fraction, 0.0), 1.0), message=message)

    with progress:
        yield report
