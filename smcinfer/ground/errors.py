"""Errors that say what was wrong, what was expected and got, and what to do."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


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


_raised_on_host: list[SmcinferError] = []


def call_on_host(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on behalf of a compiled program, which would bury what it raises: `surfacing` digs it up."""
    try:
        return function(*arguments)
    except SmcinferError as error:
        _raised_on_host.append(error)
        raise


@contextlib.contextmanager
def surfacing() -> Iterator[None]:
    """While the block runs compiled programs, what `call_on_host` saw raised comes out as it was raised."""
    _raised_on_host.clear()
    try:
        yield
    except RuntimeError as error:
        if not _raised_on_host:
            raise
        first = _raised_on_host[0]
        raise first from (first.__cause__ or error)
