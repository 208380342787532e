r"""Foresight without learning: the future tried out by short walks of the base law.

.. math:: \psi_t(x_{0:t}) = \frac1K \sum_{k=1}^K \prod_{s=t+1}^{t+h} \phi_s(x^k_{0:s}) + \epsilon,
          \qquad x^k \sim p_0(\cdot \mid x_{0:t})

The walks' noise belongs to the twist: it is drawn from a key that the twist keeps and from t, the same for all
particles, so that :math:`\psi_t` is a function of the state and the weights stay proper. Without :math:`\epsilon` a
state none of whose walks succeeded would have weight zero, and the target would lose it.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.compose import Composed
from smcinfer.core.nouns import Potential, Process, Time, Twist
from smcinfer.ground.arrays import Array, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError


class RolloutTwist(Twist):
    """The mean of what K walks of h steps earn (made by `rollouts`).

    Attributes:
        process: the base law.
        potential: what is earned.
        key: of the walks.
        num_walks: K.
        length: h, steps of each walk.
        num_steps: T, where walks end in any case.
        log_floor: log epsilon, nats.
    """

    process: Process
    potential: Potential
    key: KeyArray
    num_walks: int = eqx.field(static=True)
    length: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    log_floor: float = eqx.field(static=True)

    def __call__(self, t: Time, state: PyTree[Any]) -> Scalar:
        """log psi_t of one state, from its K walks, nats."""

        def walk(key: KeyArray) -> Scalar:
            def step(carry: tuple[Array, PyTree[Any], Scalar], key: Any) -> tuple[Any, None]:
                s, state, total = carry
                moved = self.process.advance(s, state, self.process.transition(s, state).sample(key))
                inside = s <= self.num_steps
                state = jax.tree.map(lambda new, old: jnp.where(inside, new, old), moved, state)
                earned = jnp.where(inside, self.potential(s, state), 0.0)
                return (s + 1, state, total + earned.astype(total.dtype)), None

            start = (t + 1, state, jnp.zeros((), jnp.result_type(float)))
            (_, _, total), _ = jax.lax.scan(step, start, jax.random.split(key, self.length))
            return total

        keys = jax.random.split(jax.random.fold_in(self.key, t), self.num_walks)
        earned = jax.nn.logsumexp(jax.vmap(walk)(keys)) - jnp.log(self.num_walks)
        return jnp.logaddexp(earned, self.log_floor)


def rollouts(
    key: KeyArray, model: Composed, *, num_walks: int = 4, length: int | None = None, log_floor: float = -20.0
) -> RolloutTwist:
    """A twist for a model by walks of its base law, to be given to `compose` or ``generation``.

    It costs ``num_walks * length`` steps of the process for every particle and step.

    Args:
        key: of the walks, kept by the twist.
        model: the target; its process and potential are used.
        num_walks: K.
        length: h, steps that a walk looks ahead; to the end where ``None``.
        log_floor: log of what is added to the mean, nats; low beside the potentials' usual product.

    Raises:
        ArgumentError: for numbers out of range.
    """
    steps = model.num_steps if length is None else length
    if num_walks < 1 or steps < 1:
        raise ArgumentError("no walks", expected="num_walks, length >= 1", got=(num_walks, length))
    return RolloutTwist(
        model.process, model.potential, key, num_walks, min(steps, model.num_steps), model.num_steps, log_floor
    )
