"""Weights are kept in one precision and used in the current one."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import PyTree
from smcinfer.nn import storage


def restore_in_current_precision(path: str | Path, like: PyTree[Any], kept: Any = jnp.float32) -> PyTree[Any]:
    """A module with the weights of a file, its real arrays cast from the precision they were kept in.

    Args:
        path: a file that `storage.save` wrote.
        like: the module as the code builds it, or its shapes.
        kept: dtype of the real arrays in the file, or a tree of dtypes in the structure of ``like``.

    Raises:
        CheckpointError: as `storage.restore`.
    """
    kept = kept if jax.tree.structure(kept) == jax.tree.structure(like) else jax.tree.map(lambda _: kept, like)

    def stored(leaf: Any, dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, dtype) if _is_real(leaf) else leaf

    found = storage.restore(path, jax.tree.map(stored, like, kept))
    return jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(float)) if _is_real(leaf) else leaf, found)


def _is_real(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
