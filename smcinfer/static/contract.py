"""Checks of a user's functions by abstract evaluation: shapes and types, before any real work."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import TargetError, calling


def describe(structure: PyTree[Any]) -> str:
    """A pytree of arrays in words: ``{mu: float32[], theta: float32[8]}``."""

    def word(leaf: Any) -> str:
        return f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "shape") else type(leaf).__name__

    return str(jax.tree.map(word, structure)).replace("'", "")


def check_callable(name: str, function: Any) -> None:
    """Raise `TargetError` unless ``function`` can be called."""
    if not callable(function):
        raise TargetError(f"{name} is not callable", expected="a function", got=type(function).__name__)


def abstract_output(name: str, function: Callable[..., Any], *arguments: PyTree[Any]) -> PyTree[Any]:
    """What a user's function would return, by tracing it once on shapes alone.

    Args:
        name: what to call the function in messages.
        function: the user's function.
        arguments: pytrees of arrays or of `jax.ShapeDtypeStruct`.

    Returns:
        Pytree of `jax.ShapeDtypeStruct`.

    Raises:
        TargetError: if it is not callable or raises.
    """
    check_callable(name, function)
    called = ", ".join(describe(argument) for argument in arguments)
    with calling(
        name,
        expected=f"a JAX function that can be traced on one particle: {name}({called})",
        hint="call it by hand on one such value; use jax.numpy, and jnp.where for branches on values",
    ):
        return jax.eval_shape(function, *arguments)


def check_scalar(name: str, function: Callable[..., Any], *arguments: PyTree[Any]) -> None:
    """Raise `TargetError` unless ``function(*arguments)`` is a real floating-point scalar; nothing is computed.

    Args:
        name: of the function, as the error names it.
        function: what should return a log density, nats.
        *arguments: arrays, or their shapes, to trace it on.
    """
    output = abstract_output(name, function, *arguments)
    if not isinstance(output, jax.ShapeDtypeStruct):
        raise TargetError(
            f"{name} returned a {type(output).__name__}",
            expected="one scalar array, in nats",
            got=describe(output),
            hint="return the log density alone; extra outputs have no place here",
        )
    if output.shape != ():
        raise TargetError(
            f"{name} returned shape {output.shape}, expected a scalar ()",
            expected="a scalar (), in nats",
            got=f"{output.dtype} of shape {output.shape}",
            hint="did you forget .sum()?",
        )
    if not jnp.issubdtype(output.dtype, jnp.floating):
        raise TargetError(
            f"{name} returned dtype {output.dtype}",
            expected="a floating-point scalar, in nats",
            got=str(output.dtype),
            hint="return a float in nats (a boolean constraint as jnp.where(ok, 0.0, -jnp.inf))",
        )
