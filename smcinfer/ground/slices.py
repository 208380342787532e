"""Functions mapped over particles, all at once or a slice of them at a time: a dear function's memory is then that of a slice.

A likelihood of a million data holds a million numbers for each particle that it is evaluated on at once, a network its
activations. What is kept of a particle is small beside that.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, PyTree

_size: contextvars.ContextVar[int | None] = contextvars.ContextVar("size", default=None)


@contextlib.contextmanager
def sliced(size: int | None) -> Iterator[None]:
    """While the block traces, `each` takes so many particles at a time; all where ``None``."""
    token = _size.set(size)
    try:
        yield
    finally:
        _size.reset(token)


def slice_size() -> int | None:
    """How many particles `each` takes at a time in what is traced now; ``None`` for all."""
    return _size.get()


def each(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one particle, for all of them: `jax.vmap`, by slices inside `sliced`.

    The last slice reaches back over particles that were done already, and finds the same again: one program serves all.

    Args:
        function: of pytrees of one particle, which returns such trees; no random keys are among its results.
    """
    whole = jax.vmap(function)

    def mapped(*trees: PyTree[Any]) -> PyTree[Any]:
        most, size = _size.get(), jax.tree.leaves(trees)[0].shape[0]
        if most is None or most >= size:
            return whole(*trees)

        def slice_at(index: Array, found: PyTree[Any]) -> PyTree[Any]:
            at = jnp.minimum(index * most, size - most)
            with sliced(None):
                part = whole(*jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, at, most), trees))
            put = lambda all_of_it, new: jax.lax.dynamic_update_slice_in_dim(all_of_it, new, at, 0)  # noqa: E731
            return jax.tree.map(put, found, part)

        shapes = jax.eval_shape(whole, *trees)
        room = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.fori_loop(0, -(-size // most), slice_at, room)

    return mapped
