"""Weights on disk: the arrays of a module in one safetensors file, each under its own path, with a JSON header.

What is loaded is data: names, shapes and dtypes must be those of the module that the code builds.
"""

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from smcinfer.ground import validate
from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import ArgumentError, CheckpointError
from smcinfer.ground.files import check_writable, write_whole

_METADATA = "smcinfer"


def save(path: str | Path, tree: PyTree[Any], metadata: dict[str, Any] | None = None) -> Path:
    """Write the arrays of a tree, complete or not at all.

    Args:
        path: the file, ``weights.safetensors`` say; its folder must exist.
        tree: any pytree; what is no array is not written.
        metadata: what JSON can hold: sizes to rebuild the module from, seed, metric.

    Returns:
        The path.

    Raises:
        ArgumentError: if the file cannot be written, or the metadata are not JSON.
    """
    path = check_writable(path)
    try:
        header = json.dumps(metadata or {}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError("metadata must be JSON", expected="dict of str, numbers, lists", got=str(error)) from error
    tensors = {name: _to_disk(leaf) for name, leaf in _named(tree).items()}
    write_whole(path, to_bytes(tensors, metadata={_METADATA: header}))
    return path


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The JSON header of a file of weights.

    Raises:
        CheckpointError: if the file is absent, damaged or of another kind.
    """
    return _read(validate.path("path", path))[0]


def restore(path: str | Path, like: PyTree[Any]) -> PyTree[Any]:
    """A tree with the arrays of a file in the places where ``like`` has its own.

    Args:
        path: a file that `save` wrote.
        like: the module as the code builds it, or its shapes (``eqx.filter_eval_shape(build, ...)``).

    Raises:
        CheckpointError: if the file is damaged, or a name, shape or dtype differs: says which.
    """
    path = validate.path("path", path)
    _, tensors = _read(path)
    wanted = _named(like)
    missing, strange = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or strange:
        raise CheckpointError(
            f"{path} holds the weights of another module",
            expected=f"also {missing[:3]}" if missing else f"{len(wanted)} arrays",
            got=f"instead {strange[:3]}" if strange else f"{len(tensors)} arrays",
            hint="make the weights again with this version's recipe",
        )
    for name, leaf in wanted.items():
        found = tensors[name]
        want = (tuple(leaf.shape), _dtype_on_disk(leaf))
        if (found.shape, found.dtype) != want:
            raise CheckpointError(
                f"{path}: {name} has the wrong shape or dtype", expected=want, got=(found.shape, found.dtype)
            )

    def place(keys: Any, leaf: Any) -> Any:
        if not _is_array(leaf):
            return leaf
        value = tensors[_name(keys)]
        return jnp.asarray(value.view(jnp.bfloat16) if leaf.dtype == jnp.bfloat16 else value)

    return jax.tree_util.tree_map_with_path(place, like)


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _name(keys: Any) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator=".")


def _named(tree: PyTree[Any]) -> dict[str, Any]:
    return {_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(tree) if _is_array(leaf)}


def _to_disk(leaf: Any) -> np.ndarray:
    """A leaf as numpy; bfloat16, which numpy's side of safetensors lacks, travels as its bits."""
    plain = np.ascontiguousarray(leaf).reshape(np.shape(leaf))
    return plain.view(np.uint16) if plain.dtype == jnp.bfloat16 else plain


def _dtype_on_disk(leaf: Any) -> np.dtype:
    return np.dtype(np.uint16) if leaf.dtype == jnp.bfloat16 else np.dtype(leaf.dtype)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with safe_open(path, framework="numpy") as file:
            header = (file.metadata() or {}).get(_METADATA)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read", expected="a complete safetensors file", got=f"{type(error).__name__}: {error}"
        ) from error
    if header is None:
        raise CheckpointError(f"{path} was not written by smcinfer", expected="its metadata", got="none")
    return json.loads(header), tensors
