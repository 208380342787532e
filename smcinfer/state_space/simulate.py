"""Draws from a state-space model: a hidden path, and data of it. With simulated data the truth is known."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import KeyArray, PyTree
from smcinfer.ground.errors import ArgumentError
from smcinfer.state_space.joint import as_law


def simulate(
    key: KeyArray,
    initial: Any,
    transition: Callable[..., Any],
    observation: Callable[..., Any],
    num_steps: int,
) -> tuple[PyTree[Any], PyTree[Any]]:
    """A path x_0 .. x_T and data y_0 .. y_T, drawn exactly.

    Args:
        key: one random key.
        initial, transition, observation: as in `smcinfer.state_space.state_space`.
        num_steps: T.

    Returns:
        Path and data, every leaf with a leading axis of T + 1.
    """
    if num_steps < 0:
        raise ArgumentError("num_steps is out of range", expected="at least 0", got=num_steps)
    start, moves, looks = jax.random.split(key, 3)
    steps = jnp.arange(num_steps + 1, dtype=jnp.int32)
    first = as_law(initial, "initial").sample(start)

    def move(x: PyTree[Any], part: tuple[Any, Any]) -> tuple[PyTree[Any], PyTree[Any]]:
        key, t = part
        x = as_law(transition(t, x), "transition").sample(key)
        return x, x

    _, later = jax.lax.scan(move, first, (jax.random.split(moves, num_steps), steps[1:]))
    path = jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest]), first, later)
    keys = jax.random.split(looks, num_steps + 1)
    return path, jax.vmap(lambda key, t, x: as_law(observation(t, x), "observation").sample(key))(keys, steps, path)
