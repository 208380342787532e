"""How much memory there is, and the refusal of what cannot fit before any work is done."""

import functools
import math
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import FEWER_DATA, ArgumentError

FEWER = "fewer particles or runs; a lower level of history; or a computer with more memory"

SHARE = 0.8
"""Of the free memory that a program may be planned for: its compiler does not count all that its libraries take."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def size_of(tree: PyTree[Any]) -> int:
    """Bytes of all arrays of a tree, of their shapes and dtypes alone.

    Args:
        tree: of arrays or of `jax.ShapeDtypeStruct`; what has no dtype weighs nothing.
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return sum(math.prod(leaf.shape) * _item_size(leaf.dtype) for leaf in leaves)


def total_memory() -> int | None:
    """Bytes of memory of the default device, or of this machine where the device is its processor; ``None`` if not known."""
    return min((most for most, _ in _bounds()), default=None)


def free_memory() -> int | None:
    """Bytes of `total_memory` that nothing holds now; ``None`` if not known."""
    return min((max(most - held, 0) for most, held in _bounds()), default=None)


def _bounds() -> Iterator[tuple[int, int]]:
    """All that bounds the memory of this process, in bytes, and how much of each is held now."""
    device = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in device:
        yield int(device["bytes_limit"]), int(device.get("bytes_in_use", 0))
        return
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system without these names
        return
    yield machine, machine - _counted("/proc/meminfo", "MemAvailable:", machine)
    group = Path("/sys/fs/cgroup/memory.max")
    text = group.read_text(encoding="ascii").strip() if group.is_file() else "max"
    if text.isdigit():
        held = int(group.with_name("memory.current").read_text(encoding="ascii"))
        # Files that were read stay in memory until it is wanted.
        yield int(text), held - _counted("/sys/fs/cgroup/memory.stat", "inactive_file", 0)
    for kind, name in ((resource.RLIMIT_DATA, "VmData:"), (resource.RLIMIT_AS, "VmSize:")):
        most, _ = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            yield most, _counted("/proc/self/status", name, 0)


def _counted(path: str, name: str, default: int) -> int:
    """Bytes that the system reports in the line of a name."""
    lines = Path(path).read_text(encoding="ascii").splitlines() if Path(path).is_file() else []
    words = next((line.split() for line in lines if line.startswith(name)), None)
    return default if words is None else int(words[1]) * (1024 if words[-1] == "kB" else 1)


def refuse_what_cannot_fit(what: str, needed: int, hint: str = FEWER) -> None:
    """Raise `ArgumentError` where arrays that a run must hold at once are larger than all memory.

    Args:
        what: what takes the room, for the message.
        needed: bytes; a lower bound will do.
        hint: what to do about it.
    """
    there = total_memory()
    if there is not None and needed > there:
        raise ArgumentError(
            f"{what} does not fit into memory", expected=f"at most {in_words(there)}", got=in_words(needed), hint=hint
        )


def refuse_program_that_cannot_fit(what: str, num_particles: int, program: Any, *, hint: str = "") -> None:
    """Raise `ArgumentError` where a compiled program asks for more than all memory.

    Args:
        what: what takes the room, for the message.
        num_particles: that the room is for; the message says how many of them would fit.
        program: what XLA made (`smcinfer.ground.programs.executable`).
        hint: what else to do about it.
    """
    needed, there = needed_by(program), total_memory()
    fitting = num_particles * (there or needed) // max(needed, 1)
    fewer = f"num_particles={_power(fitting)}, say, which would fit; " if fitting else ""
    refuse_what_cannot_fit(what, needed, hint + fewer + FEWER_DATA)


def batch_that_fits(size: int, program: Callable[[int | None], Any]) -> int | None:
    """How many particles at a time a program may take to fit into free memory; ``None`` where all fit at once.

    Where not even one does, it is one.

    Args:
        size: how many particles there are.
        program: what XLA makes of the program that takes so many at a time, all where ``None``; it is asked for a few sizes.
    """
    room = int(SHARE * (free_memory() or needed_by(program(None))))
    needed, batch = needed_by(program(None)), size
    while needed > room and batch > 1:
        batch = max(1, min(_power(batch * room // needed), batch // 2))
        needed = needed_by(program(batch))
    return None if batch == size else batch


def _power(number: int) -> int:
    """The largest power of two in a number; zero for none."""
    return 2 ** (number.bit_length() - 1) if number else 0


@functools.lru_cache(maxsize=64)
def needed_by(executable: Any) -> int:
    """Bytes that a compiled program holds at once, as its compiler says, who takes his time: asked once of each."""
    found = executable.get_compiled_memory_stats()
    parts = found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes
    return sum(parts) - found.alias_size_in_bytes


def in_words(size: float | int) -> str:
    """Bytes with a unit.

    >>> in_words(327_680_000_000)
    '328 GB'
    """
    power = min(int(math.log(max(size, 1), 1000)), len(_UNITS) - 1)
    return f"{size / 1000**power:.3g} {_UNITS[power]}"


def _item_size(dtype: Any) -> int:
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return 8
    return int(dtype.itemsize)
