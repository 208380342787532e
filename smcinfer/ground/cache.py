"""Compiled programs kept between processes, in a folder of the user's own.

A first result is mostly compiling, and the next process asks for the same programs. `sample`, `mcmc`, `learn` and the command
line keep them, by JAX's persistent cache, in ``$XDG_CACHE_HOME/smcinfer`` (``~/.cache/smcinfer``): one folder for each version
of JAX and kind of machine, for compiled programs fit no other. What is read from there is run, so the folder must be writable
by nobody else. Numbers are the same bits with a cache and without.
"""

import contextlib
import hashlib
import os
import platform
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

import filelock
import jax
from jax.experimental.compilation_cache import compilation_cache

from smcinfer.ground.errors import ArgumentError

VARIABLE = "SMCINFER_CACHE_DIR"
"""The environment variable that moves the cache; empty or ``off`` for none."""

MOST_BYTES = 512 * 2**20
"""Size of a folder; what was used longest ago goes first."""

_USE_DEFAULT = object()
_SETTINGS = {
    "jax_compilation_cache_max_size": MOST_BYTES,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": 0,
}
_chosen: Path | None | object = _USE_DEFAULT
_opened: Path | None = None


def cache_dir(folder: str | Path | None | object = _USE_DEFAULT) -> Path | None:
    """Move the cache of compiled programs, turn it off, or ask where it is.

    Args:
        folder: where to keep programs from now on, made where it is absent; ``None`` for nowhere. Where nothing is given,
            nothing changes.

    Returns:
        The folder whose subfolders hold the programs; ``None`` where none are kept, which is also so where the default folder
        cannot be made, or where JAX was already told of another cache.

    Raises:
        ArgumentError: for a folder that cannot be made, or that somebody else could write to: a cache is code.
    """
    global _chosen
    if folder is not _USE_DEFAULT:
        _chosen = None if folder is None else _made(Path(str(folder)))
    if _of_somebody_else():
        return None
    return _wanted()


def use_cache() -> None:
    """Keep the programs compiled from now on, and take those that were kept; called by the doors before any work."""
    global _opened
    if _of_somebody_else():
        return
    folder = _wanted()
    place = None if folder is None else folder / machine()
    if place == _opened:
        return
    if place is not None:
        place.mkdir(mode=0o700, exist_ok=True)
        _remove_what_is_cut(place)
        for name, value in _SETTINGS.items():
            jax.config.update(name, value)
    jax.config.update("jax_compilation_cache_dir", None if place is None else str(place))
    compilation_cache.reset_cache()
    _opened = place


def _of_somebody_else() -> bool:
    """Whether JAX keeps programs where somebody else told it to."""
    there = jax.config.jax_compilation_cache_dir
    return there is not None and there != str(_opened)


def _wanted() -> Path | None:
    if isinstance(_chosen, Path) or _chosen is None:
        return _chosen
    named = os.environ.get(VARIABLE)
    if named is not None:
        return None if named.strip().lower() in ("", "off", "none", "0") else _made(Path(named))
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    try:
        return _made(Path(home) / "smcinfer")
    except ArgumentError:
        # Nobody asked for this folder: a home that cannot be written to is no error.
        return None


def _made(folder: Path) -> Path:
    """The folder, made where it is absent, that nobody else can write to or put another in place of."""
    expected = "a folder of your own, in which nobody else can write"
    folder = folder.expanduser().absolute()
    try:
        for part in [*reversed(folder.parents), folder]:
            part.mkdir(mode=0o700, exist_ok=True)
        folder = folder.resolve(strict=True)
        for part in [folder, *folder.parents]:
            _check_owner(part, expected, sticky_will_do=part != folder)
        folder.chmod(0o700)
    except OSError as error:
        raise ArgumentError("the cache folder cannot be used", expected=expected, got=str(error)) from error
    return folder


def _check_owner(part: Path, expected: str, *, sticky_will_do: bool) -> None:
    found = part.stat()
    open_to_others = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    if open_to_others and sticky_will_do and found.st_mode & stat.S_ISVTX:
        open_to_others = False
    if open_to_others or found.st_uid not in (0, os.geteuid()):
        got = f"{part} of user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}"
        raise ArgumentError("the cache folder is not safe: what is read from it is run", expected=expected, got=got)


def machine() -> str:
    """A name for what compiled programs fit: the version of JAX, and the processor with all that it can do."""
    words = [platform.machine(), platform.processor()]
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        about = cpu.read_text(encoding="utf8", errors="replace").splitlines()
        words += sorted({line for line in about if line.startswith(("model name", "flags", "Features"))})
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]
    return f"jax-{jax.__version__}-{platform.machine() or 'machine'}-{digest}"


def _remove_what_is_cut(place: Path) -> None:
    """Remove entries that a process or a disk left unfinished, which JAX would stumble over in every process to come.

    An entry that was found whole is noted with its size and time, and is not read again.
    """
    with _alone(place) as alone:
        if not alone:
            return
        for entry in place.glob("*-cache"):
            found = entry.stat()
            mark, note = f"{found.st_size} {found.st_mtime_ns}", entry.with_name(f"{entry.name}.whole")
            if not (note.is_file() and note.read_text(encoding="ascii") == mark):
                if _is_whole(entry.read_bytes()):
                    with contextlib.suppress(OSError):  # a full disk: it is read again next time
                        note.write_text(mark, encoding="ascii")
                else:
                    entry.unlink()
        for note in place.glob("*-cache.whole"):
            if not note.with_suffix("").exists():
                note.unlink()


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """Under the lock that JAX holds while it reads or writes an entry; false where another process has it for long."""
    lock = filelock.FileLock(place / ".lockfile", timeout=5)
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _is_whole(packed: bytes) -> bool:
    """Whether an entry can be unpacked, by whichever of its packers JAX has."""
    try:
        if packed.startswith(b"\x28\xb5\x2f\xfd"):
            try:
                from compression import zstd  # pyright: ignore[reportMissingImports]  # python 3.14

                zstd.decompress(packed)
            except ImportError:
                import zstandard  # pyright: ignore[reportMissingImports]

                zstandard.ZstdDecompressor().decompress(packed)
        else:
            zlib.decompress(packed)
    except Exception:  # noqa: BLE001  # whatever a damaged entry makes its packer say, it is damaged
        return False
    return True
