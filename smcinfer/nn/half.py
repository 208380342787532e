"""Weights kept in half the space: bfloat16 on disk, the default precision when used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import PyTree
from smcinfer.nn import storage


def save_half(path: str | Path, module: PyTree[Any], metadata: dict[str, Any]) -> Path:
    """`storage.save` with the floats rounded to bfloat16, at half the size.

    Args:
        path: the file, ``weights.safetensors`` say; its folder must exist.
        module: any pytree; what is no array is not written.
        metadata: what JSON can hold: sizes to rebuild the module from, seed, metric.
    """
    return storage.save(path, _cast(module, jnp.bfloat16), metadata)


def restore_half(path: str | Path, build: Callable[[Any], PyTree[Any]]) -> PyTree[Any]:
    """What `save_half` wrote, in the default precision.

    Args:
        path: the file.
        build: ``key -> module``, as the code builds it before training; only its shapes are asked for.

    Raises:
        CheckpointError: if the file is damaged or of another module.
    """
    shapes = eqx.filter_eval_shape(build, jax.random.key(0))
    return _cast(storage.restore(path, _cast(shapes, jnp.bfloat16)), jnp.result_type(float))


def rounded(module: PyTree[Any]) -> PyTree[Any]:
    """The module as it will come back from the file: what a recipe should measure."""
    return _cast(_cast(module, jnp.bfloat16), jnp.result_type(float))


def _cast(tree: PyTree[Any], dtype: Any) -> PyTree[Any]:
    def one(leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape, dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        return leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf

    return jax.tree.map(one, tree)
