"""Draws from a state-space model: a hidden path, and data of it. With simulated data the truth is known."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground import validate
from smcinfer.ground.arrays import KeyArray, PyTree
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
        initial: law of x_0: a numpyro distribution, or a tree of independent ones.
        transition: ``(t, x) -> law`` of x_t given x = x_{t-1}, t = 1 .. T (an integer scalar, traced).
        observation: ``(t, x) -> law`` of y_t given x = x_t, t = 0 .. T.
        num_steps: T, at least 0.

    Returns:
        Path and data, every leaf with a leading axis of T + 1.
    """
    num_steps = validate.count("num_steps", num_steps, at_least=0)
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
