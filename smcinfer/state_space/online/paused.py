"""What goes on, out of memory: the arrays of an online sampler, and the file that only its own target continues."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import CheckpointError
from smcinfer.ground.keys import key_of_kind


class Paused(NamedTuple):
    """All that an online sampler goes on from, but for its target.

    Attributes:
        leaves: its arrays by number; random keys are their words.
        step: the last step that was taken.
        identity: digest of the target, the settings and the key.
        generator: name of the kind of random keys.
        clock: first and last time, where the model has times.
    """

    leaves: dict[str, np.ndarray]
    step: int
    identity: str
    generator: str
    clock: list[float]

    def refuse_another(self, identity: str) -> None:
        """Raise `CheckpointError` unless the file is that of a sampler with this identity.

        Args:
            identity: of the sampler that is to go on.
        """
        if self.identity != identity:
            raise CheckpointError(
                "the file holds the filter of another model",
                expected=f"identity {identity[:12]} (same model, precision and version of JAX)",
                got=self.identity[:12],
                hint="resume with the model that it was made with",
            )

    def wound(self, like: PyTree[Any]) -> PyTree[Any]:
        """The arrays as the tree that they were.

        Args:
            like: a tree of that structure, with keys where it has keys.
        """
        wanted, structure = jax.tree.flatten(like)
        leaves = [jnp.asarray(self.leaves[f"leaf{number}"]) for number in range(len(wanted))]
        keyed = lambda leaf: key_of_kind(leaf, self.generator)  # noqa: E731
        found = [keyed(leaf) if is_key(want) else leaf for leaf, want in zip(leaves, wanted, strict=True)]
        return jax.tree.unflatten(structure, found)


def unwound(leaves: list[Any]) -> dict[str, np.ndarray]:
    """Arrays by number, random keys as their words.

    Args:
        leaves: arrays, or random keys.
    """
    words = lambda leaf: np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)  # noqa: E731
    return {f"leaf{number}": words(leaf) for number, leaf in enumerate(leaves)}


def is_key(leaf: Any) -> bool:
    """Whether an array holds random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
