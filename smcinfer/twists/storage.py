"""Learned twists on disk, each with the mark of the model that it was learned on."""

import hashlib
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer import nn
from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import CheckpointError
from smcinfer.ground.names import leaves_by_name
from smcinfer.nn.precision import restore_in_current_precision
from smcinfer.twists.learned import LearnedTwist

SAMPLED = 4096
"""Numbers of each array that the fingerprint reads."""


def fingerprint(base: PyTree[Any]) -> str:
    """A hash of a module's arrays: their names, shapes and types, and the first numbers of each.

    Args:
        base: what a twist is learned on: a language model, a process.
    """
    digest = hashlib.sha256()
    for name, leaf in leaves_by_name(eqx.filter(base, eqx.is_array)).items():
        digest.update(f"{name} {leaf.shape} {leaf.dtype}".encode())
        digest.update(np.asarray(leaf.reshape(-1)[:SAMPLED]).tobytes())
    return digest.hexdigest()


def save(path: str | Path, twist: LearnedTwist, base: PyTree[Any], metadata: dict[str, Any] | None = None) -> Path:
    """Write a twist, complete or not at all.

    Args:
        path: the file, ``weights.safetensors`` say.
        twist: the twist.
        base: what it was learned on (see `fingerprint`); `load` asks for the same.
        metadata: what JSON can hold, kept beside: seed, metric.

    Raises:
        ArgumentError: for a file that cannot be written, or metadata that are not JSON.
    """
    reals = jax.tree.leaves(eqx.filter(twist, eqx.is_inexact_array))
    kept = jnp.result_type(*reals) if reals else jnp.dtype(jnp.float32)
    even = jax.tree.map(lambda leaf: leaf.astype(kept) if eqx.is_inexact_array(leaf) else leaf, twist)
    marks = _identity(twist) | {"base": fingerprint(base), "precision": kept.name, "metadata": metadata or {}}
    return nn.save(path, even, marks)


def load[Kind: LearnedTwist](path: str | Path, base: PyTree[Any], like: Kind) -> Kind:
    """Read a twist, in the current precision whatever it was kept in.

    Args:
        path: a file that `save` wrote.
        base: what it shall be used on.
        like: a twist of the same kind and sizes, as its factory builds it.

    Raises:
        CheckpointError: if the file is damaged, holds another kind of twist or other sizes, or was learned on another base.
    """
    found = nn.read_metadata(path)
    wanted = _identity(like)
    if any(found.get(name) != value for name, value in wanted.items()):
        raise CheckpointError(
            f"{path} holds another twist", expected=wanted, got={name: found.get(name) for name in wanted}
        )
    if found.get("base") != fingerprint(base):
        raise CheckpointError(
            f"{path} was learned on another model",
            expected=f"a base with fingerprint {str(found.get('base'))[:12]}",
            got=fingerprint(base)[:12],
            hint="a twist is of use to the model that it was learned on: load that one, or learn the twist again",
        )
    return restore_in_current_precision(path, like, jnp.dtype(found.get("precision", "float32")))


def _identity(twist: LearnedTwist) -> dict[str, Any]:
    """What must be the same besides the arrays' names and shapes."""
    return {"kind": type(twist).__name__, "bounded": twist.bounded}
