"""Numbers from a function on the host, asked for from inside a compiled program.

What the function raises comes out whole (`errors.surfacing`). Doubles travel as pairs of words: the thread that JAX
calls a function from does not know of double precision that was switched on in a context, and would round them.
"""

import contextlib
from collections.abc import Callable, Iterator
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
    dtype = jnp.result_type(float)
    double = [argument.dtype == jnp.float64 for argument in arguments]

    def call(*given: Any) -> np.ndarray:
        plain = [_doubles(value) if wide else np.asarray(value) for value, wide in zip(given, double, strict=True)]
        found = np.asarray(call_on_host(function, *plain), dtype)
        return found.reshape(-1, 1).view(np.uint32).reshape(*found.shape, 2) if dtype == np.float64 else found

    sent = [
        jax.lax.bitcast_convert_type(a, jnp.uint32) if wide else a for a, wide in zip(arguments, double, strict=True)
    ]
    if dtype != jnp.float64:
        return jax.pure_callback(call, jax.ShapeDtypeStruct((), dtype), *sent, vmap_method="broadcast_all")
    words = jax.pure_callback(call, jax.ShapeDtypeStruct((2,), jnp.uint32), *sent, vmap_method="broadcast_all")
    return jax.lax.bitcast_convert_type(words, jnp.float64)


def _doubles(words: Any) -> np.ndarray:
    return np.ascontiguousarray(words, np.uint32).view(np.float64)[..., 0]


@contextlib.contextmanager
def differentiating(what: str, instead: str) -> Iterator[None]:
    """While the block traces gradients, a function on the host, which has none, is an error that says what to do.

    Args:
        what: the function that is differentiated, for the message.
        instead: what needs no gradient.

    Raises:
        TargetError: JAX met a callback.
    """
    try:
        yield
    except ValueError as error:
        if "callbacks do not support JVP" not in str(error):
            raise
        raise TargetError(
            f"{what} calls a function on the host, which has no gradient",
            expected="a function written in jax.numpy, wherever a gradient is asked for",
            got="jax.pure_callback or one of its kin",
            hint=f"{instead}; or give the callback a gradient by jax.custom_jvp",
        ) from error
