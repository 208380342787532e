r"""In which order positions are unmasked: functions of what is known to the log odds of every position.

An order is ``(tokens, log_p) -> Float["length"]`` with ``log_p`` the log conditionals of every position given the known
tokens. Positions that are known count for nothing. In the base process an order is part of the law; in a proposal it
costs a factor :math:`\pi(i) / \pi_q(i)` in the weight, which the engine takes account of.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.diffusion.discrete.laws import masked
from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.ground.errors import ArgumentError

Order = Callable[[Int[Array, " length"], Float[Array, "length vocab"]], Float[Array, " length"]]


def uniform(tokens: Int[Array, " length"], log_p: Float[Array, "length vocab"]) -> Float[Array, " length"]:
    """Any masked position, all alike: the order of the diffusion itself."""
    del log_p
    return jnp.zeros(tokens.shape, jnp.result_type(float))


def left_to_right(tokens: Int[Array, " length"], log_p: Float[Array, "length vocab"]) -> Float[Array, " length"]:
    """The first masked position, certainly: an autoregressive model."""
    first = jnp.argmax(masked(tokens, log_p.shape[-1]))
    return jnp.where(jnp.arange(tokens.shape[0]) == first, 0.0, -jnp.inf)


def _probability(log_p: Float[Array, "length vocab"]) -> Float[Array, " length"]:
    return jnp.max(log_p, axis=-1)


def _margin(log_p: Float[Array, "length vocab"]) -> Float[Array, " length"]:
    best = jax.lax.top_k(log_p, 2)[0]
    return jnp.exp(best[:, 0]) - jnp.exp(best[:, 1])


def _entropy(log_p: Float[Array, "length vocab"]) -> Float[Array, " length"]:
    p = jnp.exp(log_p)
    return jnp.sum(jnp.where(p > 0, p * log_p, 0.0), axis=-1)


MEASURES: dict[str, Callable[[Array], Array]] = {"probability": _probability, "margin": _margin, "entropy": _entropy}
"""How sure a position is: log of the largest probability, its lead over the second, minus the entropy (nats)."""


class Confidence(eqx.Module):
    """Positions that are sure of their token come first.

    Args:
        measure: ``"probability"``, ``"margin"`` or ``"entropy"`` (see `MEASURES`).
        sharpness: factor of the measure in the log odds; infinite takes the surest position always. A proposal needs a
            finite one: what it never chooses, no weight brings back.
    """

    measure: str = eqx.field(static=True, default="probability")
    sharpness: float | int = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ArgumentError("unknown measure of confidence", expected=" | ".join(MEASURES), got=self.measure)
        if not self.sharpness > 0:
            raise ArgumentError("sharpness is out of range", expected="more than 0", got=self.sharpness)

    def __call__(self, tokens: Int[Array, " length"], log_p: Float[Array, "length vocab"]) -> Float[Array, " length"]:
        """Log odds of the positions."""
        sure = MEASURES[self.measure](log_p)
        if self.sharpness < float("inf"):
            return self.sharpness * sure
        sure = jnp.where(masked(tokens, log_p.shape[-1]), sure, -jnp.inf)
        return jnp.where(jnp.arange(tokens.shape[0]) == jnp.argmax(sure), 0.0, -jnp.inf)


ORDERS: dict[str, Order] = {
    "uniform": uniform,
    "left_to_right": left_to_right,
    "confidence": Confidence(),
    "most_confident": Confidence(sharpness=float("inf")),
}
"""Orders by name."""


def order_by_name(order: str | Order) -> Order:
    """An order of that name; a function is returned as it is.

    Raises:
        ArgumentError: no order has that name.
    """
    if isinstance(order, str):
        if order not in ORDERS:
            raise ArgumentError("unknown order", expected=" | ".join(ORDERS) + ", or a function", got=order)
        return ORDERS[order]
    return order
