"""Laws of states and observations that are trees: a dict of distributions is the law of independent entries."""

from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution
from numpyro.distributions.batch_util import promote_batch_shape

from smcinfer.core.draws import together
from smcinfer.ground.arrays import Array, KeyArray, PyTree
from smcinfer.ground.errors import TargetError


def is_law(part: Any) -> bool:
    """Whether this is a distribution: the leaves of a tree of laws."""
    return isinstance(part, Distribution)


class Joint(Distribution):
    r"""The law of a tree of independent entries, each with a law of its own.

    .. math:: p(x) = \prod_k p_k(x_k)

    Args:
        laws: a pytree of numpyro distributions; draws and values have its structure.
    """

    pytree_data_fields = ("laws",)

    def __init__(self, laws: PyTree[Any]) -> None:
        self.laws = laws
        super().__init__(jax.tree.leaves(laws, is_leaf=is_law)[0].batch_shape, ())

    def sample(self, key: KeyArray | None, sample_shape: tuple[int, ...] = ()) -> PyTree[Any]:
        """One tree of draws, each entry from a key of its own."""
        parts, structure = jax.tree.flatten(self.laws, is_leaf=is_law)
        keys = jax.random.split(key, len(parts))
        draws = [law.sample(key, sample_shape) for key, law in zip(keys, parts, strict=True)]
        return jax.tree.unflatten(structure, draws)

    def log_prob(self, value: PyTree[Any]) -> Array:
        """Sum of the entries' log densities, nats."""
        parts, structure = jax.tree.flatten(self.laws, is_leaf=is_law)
        entries = structure.flatten_up_to(value)
        return sum((law.log_prob(entry) for law, entry in zip(parts, entries, strict=True)), jnp.zeros(()))


@promote_batch_shape.register
def _promote_joint(law: Joint) -> Joint:
    return Joint(jax.tree.map(promote_batch_shape, law.laws, is_leaf=is_law))


@together.register
def _joint_together(law: Joint) -> bool:
    return all(together(part) for part in jax.tree.leaves(law.laws, is_leaf=is_law))


def as_law(value: Any, name: str) -> Distribution:
    """The one distribution that a user's distribution, or tree of them, stands for.

    Batch dimensions of one particle's law are taken for independent coordinates of one event.

    Args:
        value: a numpyro distribution, or a pytree (a dict, say) of independent ones.
        name: of the part of the model, for the error.

    Raises:
        TargetError: something in it is no distribution.
    """
    parts, structure = jax.tree.flatten(value, is_leaf=is_law)
    wrong = [part for part in parts if not is_law(part)]
    if wrong or not parts:
        raise TargetError(
            f"{name} returned no distribution",
            expected="a numpyro distribution, or a dict of independent ones",
            got=_described(wrong[0]) if wrong else "an empty tree",
            hint="return the law itself, dist.Normal(mean, scale) say, not a draw of it or its mean",
        )
    whole = [law.to_event(len(law.batch_shape)) if law.batch_shape else law for law in parts]
    return whole[0] if is_law(value) else Joint(jax.tree.unflatten(structure, whole))


def _described(part: Any) -> str:
    """What came instead of a distribution; a traced array is an array to its user."""
    return f"an array of shape {part.shape}" if hasattr(part, "shape") else type(part).__name__
