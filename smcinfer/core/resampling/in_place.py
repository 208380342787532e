r"""Resampling that leaves survivors where they lie, for particles too large to be copied at every step.

Children of one parent come next to each other in what a scheme draws, so that nearly every particle would move. Here a
particle has a *seat*, its row in memory, and a *place in line*, which is what schemes see: the first child keeps its parent's
seat, the others take the seats of those that died. The line is the one that plain resampling would have made, particle by
particle; only the rows of the dead are written.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Int, PyTree

LARGE = 2048
"""Bytes of a particle from which its rows are moved in place: below, a gather of all rows costs less than the book-keeping."""
SMALL_LEAF = 256
"""Bytes a particle of a leaf that is gathered whole all the same: a copy a row would cost more to start than to make."""


def row_bytes(leaf: Any, axes: int) -> int:
    """Bytes a particle of an array with ``axes`` leading axes of runs and particles."""
    return math.prod(leaf.shape[axes:]) * leaf.dtype.itemsize


def pays(particles: PyTree[Any]) -> bool:
    """Whether particles (of one run, on a leading axis) are to be moved in place: large ones, on a CPU.

    An accelerator has the bandwidth for a gather, and would launch a kernel for every row.
    """
    large = sum(row_bytes(leaf, axes=1) for leaf in jax.tree.leaves(particles)) >= LARGE
    return large and jax.default_backend() == "cpu"


def seat(line: Int[Array, " n"], ancestors: Int[Array, " n"]) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    """Seats of the next generation.

    Args:
        line: Int["n"], the seat of each particle in line.
        ancestors: Int["n"], what a scheme drew, numbered in line.

    Returns:
        The seats of the children in their line, and for every seat the seat that its particle is copied from: its own where
        a parent keeps it.
    """
    n = line.shape[0]
    children = jnp.arange(n, dtype=line.dtype)
    parents = line[ancestors]
    eldest = jnp.full((n,), n, line.dtype).at[ancestors].min(children)[ancestors] == children
    free = jnp.nonzero(jnp.ones((n,), bool).at[parents].set(False), size=n, fill_value=0)[0].astype(line.dtype)
    seats = jnp.where(eldest, parents, free[jnp.cumsum(~eldest) - 1])
    return seats, children.at[seats].set(parents)


def follow(particles: PyTree[Any], parents: Int[Array, "num_runs n"]) -> PyTree[Any]:
    """Particles at every seat, from `seat`'s second answer: rows that stay are not touched.

    Args:
        particles: leaves with leading axes of runs and particles.
        parents: Int["num_runs n"]; a seat that others are copied from is its own parent.
    """
    leaves, structure = jax.tree.flatten(particles)
    heavy = [row_bytes(leaf, axes=2) > SMALL_LEAF for leaf in leaves]
    moved = iter(_move([leaf for leaf, it in zip(leaves, heavy, strict=True) if it], parents))
    kept = [next(moved) if it else _gather(leaf, parents) for leaf, it in zip(leaves, heavy, strict=True)]
    return jax.tree.unflatten(structure, kept)


def _gather(leaf: Array, parents: Int[Array, "num_runs n"]) -> Array:
    return jax.vmap(lambda rows, parents: rows[parents])(leaf, parents)


@jax.custom_jvp
def _move(leaves: list[Array], parents: Int[Array, "num_runs n"]) -> list[Array]:
    num_runs, n = parents.shape
    orphaned = parents != jnp.arange(n, dtype=parents.dtype)
    runs, seats = jnp.nonzero(orphaned, size=num_runs * n, fill_value=0)

    def write(number: Array, leaves: list[Array]) -> list[Array]:
        run, to = runs[number], seats[number]
        # Slices want indices of one type, which counted ones are not in double precision.
        origin, zero = parents[run, to].astype(run.dtype), jnp.zeros((), run.dtype)

        def one(leaf: Array) -> Array:
            # Slices keep both leading axes: a reshape in between would make XLA copy the whole array.
            rest = (zero,) * (leaf.ndim - 2)
            row = jax.lax.dynamic_slice(leaf, (run, origin, *rest), (1, 1, *leaf.shape[2:]))
            return jax.lax.dynamic_update_slice(leaf, row, (run, to, *rest))

        return [one(leaf) for leaf in leaves]

    return jax.lax.fori_loop(0, jnp.sum(orphaned), write, leaves)


@_move.defjvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[list[Array], list[Array]]:
    leaves, parents = primals

    def follow(leaf: Array, tangent: Array) -> Array:
        return _gather(tangent, parents) if jnp.issubdtype(leaf.dtype, jnp.inexact) else tangent

    return _move(leaves, parents), [follow(*both) for both in zip(leaves, tangents[0], strict=True)]
