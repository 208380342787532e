r"""Rounding a vector of fractions to zeros and ones that keep its sum: the pair tree of SSP.

Two fractions a and b meet. If a + b < 1 one of them takes all of a + b and the other is rounded to 0; if
a + b >= 1 one is rounded to 1 and the other keeps a + b - 1. The one that keeps something meets the next.
Run as a knockout tournament this takes log2(n) parallel rounds, n in all, where the usual serial
form takes n steps one after the other.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import UInt

from smcinfer.ground.arrays import Array, Bool, Flag, Float, KeyArray, Scalar

Fractions = UInt[Array, " n"]

_TINY = 2.0**-32  # the smallest fraction that is not zero


class Round(NamedTuple):
    """What one round of the tournament decided, a pair an entry.

    Attributes:
        left_stays: whether the left one of the pair goes on to the next round.
        leaver: what the other one is rounded to.
    """

    left_stays: Bool[Array, " pairs"]
    leaver: Bool[Array, " pairs"]


def round_fractions(key: KeyArray, fractions: Fractions, first: Flag | None = None) -> Bool[Array, " n"]:
    r"""Round fractions up (True) or down, each up with a probability equal to itself, keeping their sum.

    Args:
        key: one key.
        fractions: UInt32["n"], units of :math:`2^{-32}`, with a whole sum.
        first: what element 0 is rounded to, or ``None``. With it the others follow their law given
            that outcome: the tournament is Doob-transformed along the path of element 0.
    """
    sizes = [fractions.shape[0]]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)
    bits = jax.random.bits(key, (sum(sizes[1:]),), jnp.uint32) >> 8
    uniforms = bits.astype(jnp.float32) * jnp.float32(2.0**-24)
    rounds = []
    start = 0
    present = True  # whether element 0 is still in the tournament
    for size, pairs in itertools.pairwise(sizes):
        padded = jnp.pad(fractions, (0, 2 * pairs - size))
        left, right = padded[0::2], padded[1::2]
        kept = left + right  # modulo one: a + b, or a + b - 1
        full = kept < right
        probability = _stays(left, right, full)
        if first is not None:
            given = _stays_given(first, left[0], right[0], full[0], probability[0])
            # A mask, not a scatter: a scatter would cut the round into three passes.
            here = (lax.iota(jnp.int32, pairs) == 0) & present
            probability = jnp.where(here, given, probability)
        left_stays = uniforms[start : start + pairs] < probability
        present = present & left_stays[0]
        rounds.append(Round(left_stays, full))
        fractions = kept
        start += pairs
    # The sum is whole, so the champion is left with nothing.
    outcome = jnp.zeros((1,), bool)
    for size, (left_stays, leaver) in zip(reversed(sizes[:-1]), reversed(rounds), strict=True):
        left_out = jnp.where(left_stays, outcome, leaver)
        right_out = jnp.where(left_stays, leaver, outcome)
        outcome = jnp.stack([left_out, right_out], axis=-1).reshape(-1)[:size]
    return outcome


def _stays(left: Fractions, right: Fractions, full: Bool[Array, " n"]) -> Float[Array, " n"]:
    """Probability that the left one keeps something: a / (a + b), or (1 - a) / (2 - a - b) where full."""
    own = jnp.where(full, jnp.uint32(0) - left, left).astype(jnp.float32)
    other = jnp.where(full, jnp.uint32(0) - right, right).astype(jnp.float32)
    return own / jnp.maximum(own + other, 1.0)


def _stays_given(first: Flag, left: Array, right: Array, full: Flag, stays: Scalar) -> Scalar:
    r"""``stays`` given that the left one is rounded to ``first`` in the end.

    The chance of being rounded up equals what one holds, so Bayes' rule multiplies by what is held
    after the meeting over what was held before (or by their complements).
    """
    kept = left + right
    held_after, held_before = (_as_float(value) for value in (kept, left))
    lost_after, lost_before = (_complement(value) for value in (kept, left))
    up = jnp.where(full, stays * held_after / jnp.maximum(held_before, _TINY), 1.0)
    down = jnp.where(full, 1.0, stays * lost_after / lost_before)
    return jnp.where(first, up, down)


def _as_float(value: Array) -> Array:
    return value.astype(jnp.float32) * jnp.float32(2.0**-32)


def _complement(value: Array) -> Array:
    """One minus a fraction, without cancellation."""
    return jnp.where(value == 0, jnp.float32(1.0), _as_float(jnp.uint32(0) - value))
