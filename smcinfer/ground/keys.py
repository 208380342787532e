"""Random keys whose numbers are those of JAX's own, by programs that are a fraction of the size.

JAX hashes with threefry-2x32. Its lowering for processors is a loop over the rounds, a dozen kernels at every place where a
key is split, folded or drawn from; here the rounds are written out in one function a shape, which a program holds once. The
bits are the same.

Source: Salmon, Moraes, Dror & Shaw (2011).
"""

import functools
import math
from typing import Any

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array
from smcinfer.ground.programs import apart

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry(key: tuple[Array, Array], first: Array, second: Array) -> tuple[Array, Array]:
    """Twenty rounds of the hash of pairs of words.

    Args:
        key: two words, of a shape that broadcasts with the counters.
        first, second: words of the counters, uint32.
    """
    ks = (*key, key[0] ^ key[1] ^ jnp.uint32(PARITY))
    first, second = first + ks[0], second + ks[1]
    for group in range(5):
        for turn in ROTATIONS[group % 2]:
            first = first + second
            second = first ^ ((second << turn) | (second >> (32 - turn)))
        first = first + ks[(group + 1) % 3]
        second = second + ks[(group + 2) % 3] + jnp.uint32(group + 1)
    return first, second


def _counted(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The hash of every place of an array."""
    if math.prod(shape) >= 2**32:
        high, low = jnp.divmod(jnp.arange(math.prod(shape), dtype=jnp.uint64), 2**32)
        high, low = high.astype(jnp.uint32).reshape(shape), low.astype(jnp.uint32).reshape(shape)
    else:
        low = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
        high = jnp.zeros(shape, jnp.uint32)
    return threefry((key[0], key[1]), high, low)


_once = functools.partial(jax.jit, inline=jax.Inline.XLA_LATE)


@functools.partial(_once, static_argnums=(1, 2))
def _bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    first, second = _counted(key, shape)
    if width == 64:
        return (first.astype(jnp.uint64) << 32) | second.astype(jnp.uint64)
    return (first ^ second).astype(f"uint{width}")


@functools.partial(_once, static_argnums=(1,))
def _split(key: Array, shape: tuple[int, ...]) -> Array:
    return jnp.stack(_counted(key, shape), axis=-1)


@_once
def _fold_in(key: Array, data: Array) -> Array:
    return jnp.stack(threefry((key[0], key[1]), jnp.zeros((), jnp.uint32), data.astype(jnp.uint32)))


def _seed(seed: Array) -> Array:
    return jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))


SMALL = jax.extend.random.define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_bits,
    fold_in=_fold_in,
    name="smcinfer threefry2x32",
    tag="sfry",
)
KIND = str(jax.random.key_impl(jax.random.wrap_key_data(np.zeros(2, np.uint32), impl=SMALL)))


def key_of_kind(words: Array, kind: str) -> Array:
    """Keys from their words and ``str(jax.random.key_impl(key))``."""
    return jax.random.wrap_key_data(words, impl=SMALL if kind == KIND else kind)


def small(key: Any) -> Any:
    """A key of JAX's default kind as one that draws the same numbers from smaller programs; any other key as it is.

    What is written outside the package gets `plain` keys: some laws draw by no other kind. Over several devices none is small.
    """
    same = str(jax.random.key_impl(key)) == "threefry2x32" and jax.config.jax_threefry_partitionable and apart()
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=SMALL) if same else key


def plain(key: Any) -> Any:
    """The reverse of `small`: for laws that draw by JAX's own kind of key alone (Poisson)."""
    same = str(jax.random.key_impl(key)) == KIND
    return jax.random.wrap_key_data(jax.random.key_data(key), impl="threefry2x32") if same else key
