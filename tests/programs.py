"""Compiled programs that the processes of a test run share, and that the next run finds.

Most of a run is compiling, and the same programs stand in many files. JAX writes an entry of its cache in place, so that a
neighbour can read half of one, which ends the process; here an entry appears whole or not at all.
"""

import os
import shutil
from pathlib import Path

import jax
from jax._src.lru_cache import LRUCache

MOST_BYTES = 3 * 2**30
"""Size of the folder above which a run begins with an empty one."""


_put = LRUCache.put


def put_whole(self: LRUCache, key: str, value: bytes) -> None:
    """What JAX's own ``put`` does where nothing is evicted, by a name of the process's own and a rename."""
    if self.eviction_enabled:
        # The cache under test: its processes take turns.
        _put(self, key, value)
        return
    entry = self.path / f"{key}-cache"
    if not entry.exists():
        unfinished = entry.with_name(f"{entry.name}.{os.getpid()}")
        unfinished.write_bytes(value)
        unfinished.replace(entry)


def share_programs(folder: Path) -> None:
    """Keep what this process compiles in the folder, and take from it what others compiled; numbers are the same bits."""
    folder.mkdir(parents=True, exist_ok=True)
    LRUCache.put = put_whole
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def make_room(folder: Path) -> None:
    """Empty a folder that grew too large; called before the processes of a run begin."""
    if sum(entry.stat().st_size for entry in folder.glob("*-cache*")) > MOST_BYTES:
        shutil.rmtree(folder)
