r"""Many targets at once: a twist that reads what is asked of it, learned over all that may be asked.

.. math:: (o, x_{0:T}) \sim p_0(x_{0:T})\, p(o \mid x_{0:T}) \;\Rightarrow\; x_{0:T} \sim \sigma(\cdot \mid o)

A context o and a path that are simulated together make the path an exact draw of the target given o: learning never waits for a
sampler to find its positives.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from smcinfer.core.compose import Composed
from smcinfer.ground.arrays import Array, KeyArray, PyTree
from smcinfer.ground.errors import TargetError
from smcinfer.ground.programs import compiled


class Family(eqx.Module):
    """Targets that differ by a context.

    Attributes:
        simulate: ``key -> (context, path)``, one draw of the joint law; the path is x_0 .. x_T (from x_1 on where the process
            starts from one known state).
        build: ``context -> Composed``, the target given the context, traceable.
    """

    simulate: Callable[[KeyArray], tuple[PyTree[Any], PyTree[Any]]]
    build: Callable[[PyTree[Any]], Composed]

    def __check_init__(self) -> None:
        def first() -> tuple[Composed, Any]:
            context, path = self.simulate(jax.random.key(0))
            return self.build(context), path

        model, path = eqx.filter_eval_shape(first)
        if not isinstance(model, Composed):
            raise TargetError("build returned no composed model", expected="a Composed", got=type(model).__name__)
        length = model.num_steps + (model.process.initial() is not None)
        for leaf in jax.tree.leaves(path):
            if leaf.shape[:1] != (length,):
                raise TargetError(
                    "simulate returned a path of the wrong length",
                    expected=f"(context, path), every leaf of the path with leading axis {length}",
                    got=leaf.shape,
                )

    def stored(self, key: KeyArray, num_draws: int, *, batch_size: int = 256) -> "Family":
        """The family with its draws made once: what is learned from them is learned from these again and again.

        Args:
            key: of the draws.
            num_draws: how many.
            batch_size: drawn at a time.
        """
        draws = _draw_many(self, key, num_draws, min(batch_size, num_draws))
        return Family(Stored(*draws), self.build)


class Stored(eqx.Module):
    """Contexts and paths that were drawn before, picked at random.

    Attributes:
        contexts, paths: pytrees, every leaf with the draws along axis 0.
    """

    contexts: PyTree[Array]
    paths: PyTree[Array]

    def __call__(self, key: KeyArray) -> tuple[PyTree[Any], PyTree[Any]]:
        """One context and its path, every one as likely."""
        num = jax.tree.leaves(self.paths)[0].shape[0]
        chosen = jax.random.randint(key, (), 0, num)
        return jax.tree.map(lambda leaf: leaf[chosen], (self.contexts, self.paths))


@compiled
def _draw_many(family: Family, key: KeyArray, num_draws: int, batch_size: int) -> tuple[PyTree[Any], PyTree[Any]]:
    return jax.lax.map(family.simulate, jax.random.split(key, num_draws), batch_size=batch_size)
