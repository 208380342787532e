"""What commands print, the files and folders they may write, the precision they compute in."""

import contextlib
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.files import check_writable

MOST_ROWS = 40
"""Rows of a table that are printed; the file has them all."""


def console(*, stderr: bool = False) -> Console:
    """Plain text as it is: no wrapping, no colouring of numbers, no markup in names.

    Rich leaves colours out where the stream is no terminal, and where NO_COLOR is set.
    """
    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False)


def table(*columns: str) -> Table:
    """An empty table: a column of names, then columns of numbers."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for at, column in enumerate(columns):
        shown.add_column(column, justify="right" if at else "left", no_wrap=True)
    return shown


def complain(command: str, message: str) -> None:
    """An error on stderr: who says it in red, then the sentence, its labels dim."""
    text = Text.assemble((f"smcinfer {command}".rstrip(), "bold red"), ": ", message)
    text.highlight_regex(r"(?m)^ {2}(expected|got|to fix): ", "dim")
    console(stderr=True).print(text)


def check_new(path: Path | None, force: bool) -> None:
    """Raise before any work where a file cannot be written, or stands there already.

    Args:
        path: the file; nothing to check where ``None``.
        force: whether a file that stands there may be overwritten.

    Raises:
        ArgumentError: says what is in the way.
    """
    if path is None:
        return
    check_writable(path)
    if path.exists() and not force:
        raise ArgumentError(
            f"{path} exists", expected="a new file", got="one that stands there", hint="--force overwrites it"
        )


def new_folder(folder: Path, force: bool, pattern: str = "*.png") -> Path:
    """A folder to write to, made where it is missing.

    Args:
        folder: where.
        force: whether files of an earlier run may stand in it.
        pattern: which files are of an earlier run.

    Raises:
        ArgumentError: the folder cannot be made or written to, or has such files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError("cannot make the output folder", got=f"{folder}: {error.strerror or error}") from error
    check_writable(folder / "new")
    there = sorted(folder.glob(pattern))
    if there and not force:
        raise ArgumentError(
            f"{folder} has files of an earlier run",
            expected=f"a folder without {pattern}",
            got=there[0].name,
            hint="--force overwrites them",
        )
    return folder


def checkpoint_file(path: Path) -> Path:
    """The checkpoint at a path: a folder stands for a file of a fixed name in it."""
    return path / "checkpoint.safetensors" if path.is_dir() else path


def precision(x64: bool) -> contextlib.AbstractContextManager[object]:
    """Float64 within the block where ``x64``."""
    # Errors about files and words reach a person before JAX is imported.
    import jax

    return jax.enable_x64(True) if x64 else contextlib.nullcontext()
