r"""Exact sums of scaled weights: 64-bit fixed point held in pairs of 32-bit integers.

Resampling asks how many of ``num`` points lie below :math:`c_i = \mathrm{num} \sum_{j \le i} W_j`. Plain
float32 sums of a million weights miss :math:`c_i` by whole points, and rounding can hand a point to
a particle of weight zero. Here every :math:`\mathrm{num} W_i` is rounded once, to a multiple of
:math:`2^{-32}`; sums after that are exact, associative and monotone, in float32 and float64 alike.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import UInt

from smcinfer.ground.arrays import Array, Count, Float, Int
from smcinfer.ground.programs import outlined

UNIT = 2.0**-32
# Multiplier of Weyl's sequence on 32 bits: 2**32 over the golden ratio.
GOLDEN = 2654435769


class FixedPoint(NamedTuple):
    r"""Numbers ``whole + fraction * 2**-32``.

    Attributes:
        whole: Int32["*shape"], the floor.
        fraction: UInt32["*shape"], the rest in units of :math:`2^{-32}`.
    """

    whole: Int[Array, "*shape"]
    fraction: UInt[Array, "*shape"]


def add(left: FixedPoint, right: FixedPoint) -> FixedPoint:
    """Exact sum, element by element."""
    fraction = left.fraction + right.fraction
    carry = (fraction < right.fraction).astype(jnp.int32)  # an unsigned sum wrapped if it fell below a term
    return FixedPoint(left.whole + right.whole + carry, fraction)


def negate(value: FixedPoint) -> FixedPoint:
    """Exact negative, element by element (two's complement over both halves)."""
    borrow = (value.fraction != 0).astype(jnp.int32)
    return FixedPoint(-value.whole - borrow, jnp.uint32(0) - value.fraction)


def fraction_of(values: FixedPoint, dtype: jnp.dtype) -> Float[Array, "*shape"]:
    """The fractional part as a float in [0, 1]."""
    return values.fraction.astype(dtype) * UNIT


def to_float(value: FixedPoint, dtype: jnp.dtype) -> Float[Array, "*shape"]:
    """The nearest float, or close to it."""
    return value.whole.astype(dtype) + fraction_of(value, dtype)


def from_float(values: Float[Array, " n"]) -> FixedPoint:
    r"""Non-negative floats rounded to multiples of :math:`2^{-32}`; zero stays exactly zero.

    Rounding is dithered by a Weyl sequence over the index: a million equal small numbers rounded all
    the same way would add up to :math:`10^{-4}`, dithered ones to about :math:`10^{-9}`.
    """
    whole = jnp.floor(values)
    index = lax.iota(jnp.uint32, values.shape[0])
    dither = (index * jnp.uint32(GOLDEN)).astype(values.dtype) * UNIT
    largest = jnp.nextafter(jnp.asarray(1 / UNIT, values.dtype), jnp.zeros((), values.dtype))
    # The dither can round to one, which must not lift an exact zero.
    scaled = jnp.where(values == whole, 0.0, jnp.minimum((values - whole) / UNIT + dither, largest))
    return FixedPoint(whole.astype(jnp.int32), scaled.astype(jnp.uint32))


def total(values: FixedPoint) -> FixedPoint:
    """Exact sum of a vector."""
    zero = (jnp.zeros((), jnp.int32), jnp.zeros((), jnp.uint32))
    return FixedPoint(*lax.reduce(tuple(values), zero, _add_pairs, (0,)))


def _add_pairs(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    return add(FixedPoint(*left), FixedPoint(*right))[:2]


@outlined
def _cumulated(words: UInt[Array, " n"]) -> UInt[Array, " n"]:
    return lax.cumsum(words)


def cumsum(values: Array) -> Array:
    """Cumulative sums of 32-bit integers; a program has one such sum for all that are of one length."""
    return _cumulated(values.astype(jnp.uint32)).astype(values.dtype)


def cumulate(values: FixedPoint) -> FixedPoint:
    """Exact inclusive cumulative sums of a vector of non-negative numbers, by two integer sums.

    The fractions are summed modulo one; each time that sum wraps, it falls below the term just added.
    """
    fraction = cumsum(values.fraction)
    carry = (fraction < values.fraction).astype(jnp.int32)
    return lax.optimization_barrier(FixedPoint(cumsum(values.whole + carry), fraction))


def apportion(values: Float[Array, " n"], num: Count | int) -> FixedPoint:
    r"""Shares :math:`\mathrm{num}\, v_i / \sum_j v_j` that sum to ``num`` exactly.

    Args:
        values: Float["n"], non-negative, the largest of order one; zero gets a share of exactly zero.
        num: Int[""], what is shared out; may be traced.

    Returns:
        Shares, each exact up to a few :math:`2^{-32}` and the relative rounding of ``values``' dtype. What
        is missing after two rounds (around :math:`10^{-7}`) goes to the largest share.
    """
    # Here and in `cumulate` a barrier keeps XLA from computing the same thing again for each use: twice as fast.
    values = lax.optimization_barrier(values)
    dtype = values.dtype
    num = jnp.asarray(num, jnp.int32)
    target = FixedPoint(num, jnp.zeros((), jnp.uint32))
    float_sum = jnp.sum(values)
    scaled = values * (num.astype(dtype) / jnp.where(float_sum > 0, float_sum, 1.0))
    shares = from_float(scaled)
    # The float sum is off by a relative 1e-7 to 1e-5: whole points at a million. Spread the exact
    # difference in proportion.
    missing = to_float(add(target, negate(total(shares))), dtype)
    relative = jnp.minimum(jnp.abs(missing) / jnp.maximum(num, 1).astype(dtype), 1.0)
    change = from_float(scaled * relative)
    opposite = negate(change)
    sign = missing > 0
    change = FixedPoint(*(jnp.where(sign, up, down) for up, down in zip(change, opposite, strict=True)))
    shares = add(shares, change)
    # A plain argmax is ten times slower than this on a CPU.
    index = lax.iota(jnp.int32, values.shape[0])
    largest = jnp.min(jnp.where(values == jnp.max(values), index, values.shape[0] - 1))
    rest = add(target, negate(total(shares)))
    here = index == largest
    return add(shares, FixedPoint(jnp.where(here, rest.whole, 0), jnp.where(here, rest.fraction, jnp.uint32(0))))
