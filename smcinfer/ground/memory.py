"""How much memory there is, and the refusal of what cannot fit before any work is done."""

import functools
import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import FEWER_DATA, ArgumentError

FEWER = "fewer particles or runs; a lower level of history; or a computer with more memory"

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
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit:
        return int(limit)
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system without these names
        return None
    group = Path("/sys/fs/cgroup/memory.max")
    text = group.read_text(encoding="ascii").strip() if group.is_file() else "max"
    return min(machine, int(text)) if text.isdigit() else machine


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


def refuse_program_that_cannot_fit(what: str, num_particles: int, program: Any) -> None:
    """Raise `ArgumentError` where a compiled program asks for more than all memory.

    Args:
        what: what takes the room, for the message.
        num_particles: that the room is for; the message says how many of them would fit.
        program: what XLA made (`smcinfer.ground.programs.executable`).
    """
    needed, there = _needed_by(program), total_memory()
    fitting = num_particles * (there or needed) // max(needed, 1)
    fewer = f"num_particles={2 ** (fitting.bit_length() - 1)}, say, which would fit; " if fitting else ""
    refuse_what_cannot_fit(what, needed, fewer + FEWER_DATA)


@functools.lru_cache(maxsize=64)
def _needed_by(executable: Any) -> int:
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
