r"""From cumulative shares to ancestors: which of ``num`` points fall on which particle.

A scheme is a way to place ``num`` points on the line :math:`[0, \mathrm{num})`, on which particle i owns
an interval of length :math:`\mathrm{num} W_i`. Each particle counts the points below its upper end, which
takes no search where the points are spread evenly, and the counts are turned into ancestors by one
scatter and one cumulative sum.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import UInt

from smcinfer.core.resampling.fixed_point import apportion, cumsum, cumulate
from smcinfer.ground.arrays import Ancestors, Array, Count, Flag, Float, Int, KeyArray, LogWeights
from smcinfer.ground.errors import ArgumentError

_ALIGNMENT = 64  # XLA's cumulative sum takes twice as long on a vector of odd length
_PROBES = 4


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
    """The ancestors, or every particle in turn where no particle has any weight.

    Args:
        ancestors: Int["num"].
        alive: Bool[""], whether any particle has weight.
        num_particles: particles to go through in turn.
    """
    return jnp.where(alive, ancestors, lax.iota(jnp.int32, ancestors.shape[0]) % num_particles)


def ancestors_from_below(below: Int[Array, " n"], num: int) -> Ancestors:
    """Sorted ancestors of ``num`` points from the number of points below each particle's upper end.

    Args:
        below: Int["n"], not decreasing. The point k belongs to the first i with ``below[i] > k``;
            its ancestor is n where there is none.
        num: number of points.
    """
    passed = jnp.zeros((num,), jnp.int32).at[below].add(1, mode="drop", indices_are_sorted=True)
    return cumsum(passed)


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


def multinomial_below(
    key: KeyArray, weights: Float[Array, " n"], num_points: Count | int, max_points: int
) -> Int[Array, " n"]:
    r"""How many of ``num_points`` independent uniform points lie below the upper end of each particle.

    The line is cut into equal cells, a power of two of them and no fewer than points. Each point draws its
    cell, a table counts the cells, and a particle needs to look only at the few points in the cell where
    it ends. Nothing is sorted: where a point lies *within* its cell is independent of the cell, and so
    may be drawn after the points have been put in the order of their cells.

    Args:
        key: one key.
        weights: Float["n"], relative.
        num_points: Int[""]; may be traced.
        max_points: an upper bound of ``num_points``.

    Returns:
        Int["n"], not decreasing; zero as long as all weights were, and in the end ``num_points``.
    """
    order = max(1, (max_points - 1).bit_length())
    num_cells = 1 << order
    ends = cumulate(apportion(weights, num_cells))
    cell_key, place_key = jax.random.split(key)
    # The top bits of a uniform word are a uniform cell, exactly.
    cells = (jax.random.bits(cell_key, (max_points,), jnp.uint32) >> (32 - order)).astype(jnp.int32)
    places = jax.random.bits(place_key, (max_points,), jnp.uint32)
    # Cell c counts at c + 1, so that the cumulative sum leaves out the cell itself.
    size = num_cells + _ALIGNMENT
    counted = jnp.where(lax.iota(jnp.int32, max_points) < num_points, cells + 1, size)
    first = cumsum(jnp.zeros((size,), jnp.int32).at[counted].add(1, mode="drop"))
    start, stop = first[ends.whole], first[ends.whole + 1]

    def probe(state: tuple[Int[Array, " n"], Int[Array, " n"]]) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
        at, below = state
        for _ in range(_PROBES):
            below = below + ((at < stop) & (places.at[at].get(mode="clip") < ends.fraction))
            at = at + 1
        return at, below

    # A cell holds about one point on average, and nine or so at most among a million.
    return lax.while_loop(lambda state: jnp.any(state[0] < stop), probe, (start, start))[1]
