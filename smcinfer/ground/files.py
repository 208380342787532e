"""Files that are complete or absent: checked before work, written beside and renamed."""

import contextlib
import fcntl
import glob
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError, FileError

_TEMPORARY = ".tmp"


def check_writable(path: str | Path) -> Path:
    """Raise now if a file could not be written later.

    Args:
        path: the file to be written; its folder must exist.

    Returns:
        The path.

    Raises:
        ArgumentError: if the folder is absent, is not a folder or cannot be written, or the path is a folder.
    """
    path = validate.path("path", path)
    folder = path.parent
    if path.is_dir():
        raise ArgumentError(f"cannot write {path}", expected="the name of a file", got="a folder")
    if not folder.is_dir():
        raise ArgumentError(f"cannot write {path}", expected=f"an existing folder {folder}", hint=f"mkdir -p {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ArgumentError(
            f"cannot write {path}", expected="a folder that can be written", got=f"{type(error).__name__}: {error}"
        ) from error
    return path


@contextlib.contextmanager
def temporary_beside(path: str | Path) -> Iterator[Path]:
    """A path in the same folder that becomes ``path`` if the block ends well, and is removed if it does not.

    What a process that was killed left of the same name is removed first: a living one holds a lock on its own.
    """
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_TEMPORARY}"):
        _remove_unheld(left)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY)
    temporary = Path(name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes a private file; the result gets the mode any new file would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _remove_unheld(temporary: Path) -> None:
    """Remove a temporary file unless somebody is writing it, or has just renamed it."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError), temporary.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink()


def write_whole(path: str | Path, content: bytes | bytearray) -> None:
    """Write a file whole or not at all: under a temporary name beside it, flushed to the disk, then renamed.

    Args:
        path: the file; its folder must exist.
        content: all of its bytes, made in memory before a byte is written.

    Raises:
        FileError: the disk is full, the folder is gone or closed: says which file, and leaves what stood there before.
    """
    path = Path(path)
    try:
        with temporary_beside(path) as temporary:
            temporary.write_bytes(content)
        _flush_folder(path.parent)
    except OSError as error:
        raise FileError(
            f"{path} could not be written",
            got=f"{error.strerror or error} ({len(content):,} bytes)",
            hint="make room, or choose a file elsewhere; what is in memory is unharmed, and so is the file that was there",
        ) from error


def _flush_folder(folder: Path) -> None:
    """Have the disk keep a new name, which a crash of the machine could otherwise lose."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
