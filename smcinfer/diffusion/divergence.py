r"""The divergence of a field from its derivative along directions: all of them, or a few at random.

.. math:: \operatorname{div} f = \sum_i e_i^\top (\partial f)\, e_i = E\bigl[ \zeta^\top (\partial f)\, \zeta \bigr],
          \qquad \zeta \in \{-1, 1\}^d

Source: Hutchinson (1990) for the random signs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, KeyArray, Point, Scalar

DIRECTIONS_AT_ONCE = 64
"""How many directions are held in memory at a time."""


def divergence(derivative: Callable[[Array], Array], x: Point, num_probes: int) -> tuple[Scalar, Scalar]:
    """The divergence at a point, and the variance of that number.

    Args:
        derivative: ``Float["*shape"] -> Float["*shape"]``, of the field at x along a direction (`jax.linearize`).
        x: Float["*shape"], the point, whose bits make the key of the probes (see `key_of`).
        num_probes: random probes, at least 2; or 0 for all directions, one by one, and a variance of zero.
    """
    size = x.size

    def along(direction: Float[Array, " size"]) -> Scalar:
        return direction @ derivative(direction.reshape(x.shape)).reshape(-1)

    if num_probes:
        signs = jax.random.rademacher(key_of(x), (num_probes, size), x.dtype)
        found = jax.lax.map(along, signs, batch_size=DIRECTIONS_AT_ONCE)
        return jnp.mean(found), jnp.var(found, ddof=1) / num_probes
    own = lambda i: along(jnp.zeros(size, x.dtype).at[i].set(1.0))  # noqa: E731
    return jnp.sum(jax.lax.map(own, jnp.arange(size), batch_size=DIRECTIONS_AT_ONCE)), jnp.zeros((), x.dtype)


def key_of(x: Point) -> KeyArray:
    """A random key made of the bits of a point.

    A weight that rests on it stays a function of the point, as it must where paths are replayed, and points that were
    drawn with noise of their own have keys that have nothing to do with one another.
    """
    bits = x.reshape(-1).view(jnp.uint32)
    places = jnp.arange(bits.size, dtype=jnp.uint32)
    # Odd multipliers, so that every bit counts and coordinates that trade places change the sum.
    mixed = jnp.sum(bits * (jnp.uint32(2654435769) * (2 * places + 1) | 1), dtype=jnp.uint32)
    return jax.random.fold_in(jax.random.key(0), mixed)
