"""What the scalars and arrays of a state are called: its leaves by their path in the tree."""

from typing import Any

import jax

from smcinfer.ground.arrays import PyTree

BARE_STATE = "x"
"""The name of a state that is one bare array."""


def leaves_by_name(tree: PyTree[Any]) -> dict[str, Any]:
    """Leaves of a tree by their path, keys joined by dots; a bare array is called ``x``."""
    with_paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator=".") or BARE_STATE: leaf for path, leaf in with_paths}
