"""Numbers from a function on the host, asked for from inside a compiled program.

What the function raises comes out whole (`errors.surfacing`). Doubles travel as pairs of words: the thread that JAX
calls a function from does not know of double precision that was switched on in a context, and would round them.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array
from smcinfer.ground.errors import TargetError, call_on_host


def host_values(function: Callable[..., Any], *arguments: Array) -> Array:
    """One number a particle, in the precision that is on.

    Args:
        function: numpy arrays, those given with the axes of the map in front, to as many numbers.
        arguments: arrays of one particle; under `jax.vmap` the function is called once for all.

    Returns:
        Float[""], what the function said.
    """
    return host_arrays(lambda *given: (function(*given),), [()], *arguments)[0]


def host_arrays(
    function: Callable[..., Sequence[Any]], shapes: Sequence[tuple[int, ...]], *arguments: Array, name: str = "host"
) -> list[Array]:
    """Several arrays a particle, in the precision that is on.

    Args:
        function: numpy arrays, those given with the axes of the map in front, to one array a shape with the same axes in front.
        shapes: of what is returned for one particle.
        arguments: arrays of one particle; under `jax.vmap` the function is called once for all.
        name: of the function, which tells programs of different functions apart (`smcinfer.run.checkpoint`).

    Returns:
        What the function said, one array a shape.
    """
    dtype = jnp.result_type(float)
    double = [argument.dtype == jnp.float64 for argument in arguments]

    def call(*given: Any) -> list[np.ndarray]:
        plain = [_doubles(value) if wide else np.asarray(value) for value, wide in zip(given, double, strict=True)]
        found = [np.asarray(value, dtype) for value in call_on_host(function, *plain)]
        return [_words(value) if dtype == np.float64 else value for value in found]

    call.__qualname__ = name
    sent = [
        jax.lax.bitcast_convert_type(a, jnp.uint32) if wide else a for a, wide in zip(arguments, double, strict=True)
    ]
    if dtype != jnp.float64:
        single = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
        return jax.pure_callback(call, single, *sent, vmap_method="broadcast_all")
    words = [jax.ShapeDtypeStruct((*shape, 2), jnp.uint32) for shape in shapes]
    found = jax.pure_callback(call, words, *sent, vmap_method="broadcast_all")
    return [jax.lax.bitcast_convert_type(value, jnp.float64) for value in found]


def _doubles(words: Any) -> np.ndarray:
    return np.ascontiguousarray(words, np.uint32).view(np.float64)[..., 0]


def _words(doubles: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(doubles[..., None]).view(np.uint32)


class NoGradientError(TargetError):
    """A gradient was asked for of a function on the host, which has none."""


@contextlib.contextmanager
def differentiating(what: str, instead: str) -> Iterator[None]:
    """While the block traces gradients, a function on the host, which has none, is an error that says what to do.

    Args:
        what: the function that is differentiated, for the message.
        instead: what needs no gradient.

    Raises:
        NoGradientError: JAX met a callback.
    """
    try:
        yield
    except ValueError as error:
        if "callbacks do not support JVP" not in str(error):
            raise
        raise NoGradientError(
            f"{what} calls a function on the host, which has no gradient",
            expected="a function written in jax.numpy, wherever a gradient is asked for",
            got="jax.pure_callback or one of its kin",
            hint=f"{instead}; or give the function a gradient: smcinfer.on_host(function, gradient=...)",
        ) from error
