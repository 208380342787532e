"""Errors that say what was wrong, what was expected and got, and what to do."""

import contextlib
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FEWER_DATA = (
    "fewer particles or runs; fewer data a likelihood call: posterior(..., data) with method=DataAnnealing(), or a likelihood "
    "that sums over the data in a loop (jax.lax.map with batch_size=)"
)
"""What to do where memory is short."""


class SmcinferError(ValueError):
    """Base of every error this package raises on purpose, before any work starts.

    Args:
        what: the fault, one clause.
        expected: what would have been right.
        got: what came instead.
        hint: what to do about it.
    """

    def __init__(self, what: str, *, expected: object = None, got: object = None, hint: str = "") -> None:
        lines = [what]
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if got is not None:
            lines.append(f"  got:      {got}")
        if hint:
            lines.append(f"  to fix:   {hint}")
        super().__init__("\n".join(lines))


class ArgumentError(SmcinferError):
    """An argument has the wrong value, type or range."""


class TargetError(SmcinferError):
    """A user's function (density, likelihood, transition, kernel) does not keep its contract."""


class CheckpointError(SmcinferError):
    """A checkpoint or a saved result is damaged, or belongs to another run."""


class FileError(SmcinferError):
    """A file could not be written: the disk is full, say."""


class CheckpointWarning(UserWarning):
    """A checkpoint could not be written; the run goes on."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped a run between two chunks.

    Args:
        where: how far the run was.
        checkpoint: its checkpoint file, where it has one.
        written: whether that file now holds the run.
    """

    def __init__(self, where: str, checkpoint: object = None, *, written: bool = False) -> None:
        if checkpoint is None:
            kept = "nothing was kept; with checkpoint='FILE' the same call goes on from where it was stopped"
        elif written:
            kept = f"kept in {checkpoint}; the same call goes on from there"
        else:
            kept = f"{checkpoint} could not be written, and holds what was written before"
        super().__init__(f"stopped by Ctrl-C: {where}\n  {kept}")


@contextlib.contextmanager
def calling(what: str, *, expected: object = None, got: object = None, hint: str = "") -> Iterator[None]:
    """While the block calls a user's function, whatever that raises comes out as one `TargetError` that names the function.

    Args:
        what: the function's name.
        expected, got, hint: of the error; where ``got`` is ``None``, the user's line that raised.
    """
    try:
        yield
    except SmcinferError:
        raise
    # A function that ends the program by sys.exit must not end it as if all were well.
    except (Exception, SystemExit) as error:
        said = str(error.msg if isinstance(error, SyntaxError) else error).strip()
        reason = said.splitlines()[0] if said else "no message"
        raise TargetError(
            f"{what} raised {type(error).__name__}: {reason}",
            expected=expected,
            got=_place(error) if got is None else got,
            hint=hint,
        ) from error


def _place(error: BaseException) -> str | None:
    """The innermost line that an error went through outside of this package, the installed ones and Python's own."""
    if isinstance(error, SyntaxError) and error.filename:
        return _line(error.filename, error.lineno, error.text)
    others = (str(Path(__file__).parents[1]), sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), "<")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(others):
            return _line(frame.filename, frame.lineno, frame.line)
    return None


def _line(file: str, number: int | None, text: str | None) -> str:
    where = file if number is None else f"{file}, line {number}"
    return f"{where}: {text.strip()}" if text and text.strip() else where


_raised_on_host: list[SmcinferError] = []
_kept_on_host: list[dict[Any, Any]] = []


def call_on_host(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on behalf of a compiled program, which would bury what it raises: `surfacing` digs it up."""
    try:
        return function(*arguments)
    except SmcinferError as error:
        _raised_on_host.append(error)
        raise


def kept_on_host() -> dict[Any, Any]:
    """What functions on the host keep from one call to the next: it lasts as long as the `surfacing` block they are called in.

    Outside of any block it is forgotten at once, so that what is kept may only be what can be made again.
    """
    return _kept_on_host[-1] if _kept_on_host else {}


def _out_of_memory(error: Exception) -> ArgumentError:
    """What XLA says when an array cannot be had, in the words of this package."""
    return ArgumentError(
        "the run does not fit into memory",
        got=(str(error).strip().splitlines() or ["no message"])[0],
        hint=FEWER_DATA,
    )


@contextlib.contextmanager
def surfacing() -> Iterator[None]:
    """While the block runs compiled programs, what `call_on_host` saw raised comes out as it was raised.

    What functions on the host kept (`kept_on_host`) is let go when the block ends, however it ends.
    """
    _raised_on_host.clear()
    kept: dict[Any, Any] = {}
    _kept_on_host.append(kept)
    try:
        yield
    except SmcinferError:
        raise
    except (RuntimeError, ValueError) as error:
        # XLA raises the one or the other, by the thread that it called the host from.
        if not _raised_on_host:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise _out_of_memory(error) from error
            raise
        first = _raised_on_host[0]
        raise first from (first.__cause__ or error)
    finally:
        # An error holds the frames that it went through, and they what was kept.
        _raised_on_host.clear()
        _kept_on_host[:] = [other for other in _kept_on_host if other is not kept]
