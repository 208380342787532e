"""Records of many steps in few arrays: a program pays for each array that it writes to."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Count, PyTree


class Rows(eqx.Module):
    """Room for the records of some steps (made by `room`).

    Attributes:
        arrays: ``(steps, runs, columns)`` for each dtype of the records' scalars, ``(steps, *shape)`` for each of the rest.
        places: of every leaf of a record, the array it is in, and its column where it is a scalar a run.
        structure: of a record.
    """

    arrays: tuple[Array, ...]
    places: tuple[tuple[int, int | None], ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)

    @classmethod
    def room(cls, record: PyTree[Any], steps: int) -> "Rows":
        """Zeros for so many records like this one, which has arrays or their shapes, each with a leading axis of runs."""
        leaves, structure = jax.tree.flatten(record)
        kinds = sorted({str(leaf.dtype) for leaf in leaves if leaf.ndim == 1})
        counts, places, large = dict.fromkeys(kinds, 0), [], []
        for leaf in leaves:
            kind = str(leaf.dtype)
            if leaf.ndim == 1:
                places.append((kinds.index(kind), counts[kind]))
                counts[kind] += 1
            else:
                places.append((len(kinds) + len(large), None))
                large.append(leaf)
        runs = leaves[0].shape[0] if leaves else 0
        small = [jnp.zeros((steps, runs, count), kind) for kind, count in counts.items()]
        rest = [jnp.zeros((steps, *leaf.shape), leaf.dtype) for leaf in large]
        return cls((*small, *rest), tuple(places), structure)

    def put(self, record: PyTree[Any], at: Count | int) -> "Rows":
        """The rows with one record written over that of step ``at``."""
        parts: list[list[Array]] = [[] for _ in self.arrays]
        for leaf, (array, _) in zip(jax.tree.leaves(record), self.places, strict=True):
            parts[array].append(jnp.asarray(leaf, self.arrays[array].dtype))
        columns = {array for array, column in self.places if column is not None}
        rows = [jnp.stack(part, axis=1) if array in columns else part[0] for array, part in enumerate(parts)]
        written = [
            jax.lax.dynamic_update_index_in_dim(whole, row, at, 0) for whole, row in zip(self.arrays, rows, strict=True)
        ]
        return Rows(tuple(written), self.places, self.structure)

    def record(self, arrays: Sequence[np.ndarray], steps: slice) -> PyTree[Any]:
        """The records of some steps, time on axis 1, from the arrays as they are on the host."""
        picked = [(arrays[array], column) for array, column in self.places]
        rows = [whole if column is None else whole[..., column] for whole, column in picked]
        return jax.tree.unflatten(self.structure, [np.moveaxis(row, 0, 1)[:, steps] for row in rows])
