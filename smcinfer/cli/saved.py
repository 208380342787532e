"""``smcinfer summary`` and ``smcinfer plot``: a saved result, printed again and drawn."""

from pathlib import Path

from smcinfer.cli.options import command
from smcinfer.cli.output import MOST_ROWS, console, new_folder, table
from smcinfer.results import Result, load


@command
def summary(file: Path, /) -> int:
    """Print a saved result.

    Args:
        file: a file that sample --out wrote.

    Returns:
        The exit code.
    """
    result = load(file)
    show(result)
    return int(result.serious)


@command
def plot(file: Path, /, *, out: Path = Path("figures"), force: bool = False) -> None:
    """Draw every figure of a saved result.

    Args:
        file: a file that sample --out wrote.
        out: folder for the PNG files.
        force: overwrite the PNG files that stand there.
    """
    result = load(file)
    draw(result, new_folder(out, force))


def show(result: Result) -> None:
    """The report and the table of variables."""
    print_plain = console().print
    print_plain(str(result))
    summary = result.summary()
    shown = table("variable", *map(str, summary.columns))
    for label, row in summary.head(MOST_ROWS).iterrows():
        *values, ess = row
        shown.add_row(str(label), *(f"{value:.4g}" for value in values), f"{ess:.0f}")
    print_plain()
    print_plain(shown)
    if len(summary) > MOST_ROWS:
        print_plain(f"... and {len(summary) - MOST_ROWS} more: smcinfer.load(path).summary() has them all")


def draw(result: Result, folder: Path) -> None:
    """Every figure, into a folder that exists."""
    # Matplotlib and ArviZ take seconds to import, and only figures need them.
    from smcinfer import plots

    for path in plots.save_all(result, folder):
        console().print(f"drew {path}")
