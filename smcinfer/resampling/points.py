r"""From cumulative shares to ancestors: which of ``num`` sorted points fall on which particle.

A scheme is a way to place ``num`` points on the line :math:`[0, \mathrm{num})`, on which particle i owns
an interval of length :math:`\mathrm{num} W_i`. Both sides are sorted, so nothing is searched for: each
particle counts the points below its upper end, and the counts are turned into ancestors by one
scatter and one cumulative sum.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import UInt

from smcinfer.arrays import Ancestors, Array, Count, Flag, Float, Int, KeyArray, LogWeights
from smcinfer.errors import ArgumentError
from smcinfer.resampling.fixed_point import FixedPoint, apportion, cumulate

Bounds = tuple[Int[Array, " n"], Int[Array, " n"]]

_ALIGNMENT = 64
_USUAL_HALVINGS = 4


def relative_weights(log_weights: LogWeights, num: int) -> tuple[Float[Array, " num_particles"], Flag]:
    """Weights scaled so that the largest is one, and whether there was any weight at all.

    NaN and plus infinity count as zero weight. Where every weight is zero the first is all ones.
    No derivative passes: ancestors are integers.
    """
    if num < 1:
        raise ArgumentError("nothing to resample", expected="num >= 1", got=num, hint="ask for at least one ancestor")
    if log_weights.shape[0] < 1:
        raise ArgumentError("no particle to resample from", expected="at least one log weight", got="an empty array")
    log_weights = lax.stop_gradient(log_weights)
    clean = jnp.where(log_weights < jnp.inf, log_weights, -jnp.inf)  # false for NaN
    largest = jnp.max(clean)
    alive = largest > -jnp.inf
    return jnp.where(alive, jnp.exp(clean - jnp.where(alive, largest, 0.0)), 1.0), alive


def or_arange(ancestors: Ancestors, alive: Flag, num_particles: int) -> Ancestors:
    """``ancestors``, or every particle in turn where no particle has any weight."""
    return jnp.where(alive, ancestors, lax.iota(jnp.int32, ancestors.shape[0]) % num_particles)


def ancestors_from_below(below: Int[Array, " n"], num: int) -> Ancestors:
    """Sorted ancestors of ``num`` points from the number of points below each particle's upper end.

    Args:
        below: Int["n"], not decreasing. The point k belongs to the first i with ``below[i] > k``;
            its ancestor is n where there is none.
        num: number of points.
    """
    passed = jnp.zeros((num,), jnp.int32).at[below].add(1, mode="drop", indices_are_sorted=True)
    return lax.cumsum(passed)


def uniform_below(key: KeyArray, bound: UInt[Array, ""]) -> UInt[Array, ""]:
    r"""A uniform integer below ``bound``, or below :math:`2^{32}` where ``bound`` is zero.

    The upper half of ``bits * bound``, long multiplication in 16-bit digits: no rounding through float.
    """
    bits = jax.random.bits(key, (), jnp.uint32)
    mask = jnp.uint32(0xFFFF)
    high, low = bits >> 16, bits & mask
    bound_high, bound_low = bound >> 16, bound & mask
    cross = high * bound_low + ((low * bound_low) >> 16)
    middle = (cross & mask) + low * bound_high
    product = high * bound_high + (cross >> 16) + (middle >> 16)
    return jnp.where(bound == 0, bits, product)


def below_uniform_points(key: KeyArray, ends: FixedPoint, num_points: Count, max_points: int) -> Int[Array, " n"]:
    r"""How many of ``num_points`` independent uniform points lie below each of the sorted ``ends``.

    The sorted points are :math:`L S_k / S_{m+1}` with :math:`S` the cumulative sums of m + 1 exponentials and L
    the last end. The line is cut into L cells of length one. A table says how many points lie in the
    cells before each end's; the few points of its own cell are searched by halving.

    Args:
        key: one key.
        ends: sorted upper ends; the last, L, is whole.
        num_points: Int[""], m; may be traced. The search is short where m is not far above L.
        max_points: an upper bound of m and L.

    Returns:
        Int["n"]; zero where the end is zero, and m where it is L.
    """
    dtype = jnp.result_type(float)
    length = ends.whole[-1]
    # XLA is four times slower on vectors of odd length.
    size = _ALIGNMENT * (max_points // _ALIGNMENT + 1)
    index = lax.iota(jnp.int32, size)
    gaps = jnp.where(index <= num_points, jax.random.exponential(key, (size,), dtype), 0.0)
    points = cumulate(apportion(gaps, length))
    # A last gap that rounds to zero would leave the last point on the very end: pull it just inside.
    at_end = points.whole >= length
    cell = jnp.where(at_end, length - 1, points.whole)
    place = jnp.where(at_end, jnp.uint32(0xFFFFFFFF), points.fraction)
    # Cell c counts at c + 1, so that the cumulative sum leaves out the cell itself.
    counted = jnp.where(index < num_points, cell + 1, size + 1)
    # Entry L + 1, the points below the end of a cell that starts at L, is that of L: read clipped.
    first = lax.cumsum(jnp.zeros((size,), jnp.int32).at[counted].add(1, mode="drop", indices_are_sorted=True))

    def unsettled(bounds: Bounds) -> Flag:
        return jnp.any(bounds[0] < bounds[1])

    def halve(bounds: Bounds) -> Bounds:
        low, high = bounds
        searching = low < high
        middle = (low + high) // 2
        is_below = place.at[middle].get(mode="clip") < ends.fraction
        return jnp.where(searching & is_below, middle + 1, low), jnp.where(searching & ~is_below, middle, high)

    bounds = (first[ends.whole], first.at[ends.whole + 1].get(mode="clip"))
    # Four halvings settle cells of up to 15 points: at a million points fewer than one run in 10**7 needs more.
    for _ in range(_USUAL_HALVINGS):
        bounds = lax.optimization_barrier(halve(bounds))
    # The condition around the loop spares the usual run the copies that a loop makes of what it carries.
    bounds = lax.cond(
        unsettled(bounds), lambda start: lax.while_loop(unsettled, halve, start), lambda start: start, bounds
    )
    return bounds[0]
