r"""Slice sampling of one coordinate, one evaluation at a time: stepping out, then shrinkage.

From a coordinate :math:`c` in the slice :math:`S`:

1. An interval of width w is laid about c at a random offset, and stepped out on either side by w at a time while its
   end is in the slice, at most m - 1 steps in all. Neal's random split of these, :math:`J = \lfloor m V \rfloor` to the
   left and :math:`K = m - 1 - J` to the right, makes the interval as likely to be found from every point
   of the slice inside it; a fixed number for each side would not.
2. A point is drawn uniformly from the interval; one outside the slice becomes the interval's end on its side of c.
   The sequence of rejected points from c to c' is as likely as from c' to c, whatever its length: giving up after M of
   them *and staying at c* cuts both alike and stays reversible. Returning the last rejected point would not.

A circle needs no stepping out: its interval is the whole of it, cut open at the first point tried.

Source: Neal (2003), sections 4.1 and 4.2, figures 3 and 5; the circle: Murray, Adams & MacKay (2010).
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Count, Flag, KeyArray, Scalar
from smcinfer.kernels.base import KernelState

TWO_PI = 6.283185307179586


class Search(eqx.Module):
    """Where a search along one coordinate stands.

    Attributes:
        centre: where it started, always within the interval.
        lower, upper: the interval.
        candidate: the coordinate to look at next.
        steps_down, steps_up: steps out that are still allowed; while positive, the ends are looked at.
        tries: points that may still be drawn.
    """

    centre: Scalar
    lower: Scalar
    upper: Scalar
    candidate: Scalar
    steps_down: Count
    steps_up: Count
    tries: Count

    @property
    def trying(self) -> Flag:
        """Whether the candidate is a point drawn from the interval, not one of its ends."""
        return (self.steps_down <= 0) & (self.steps_up <= 0)


def draw_level(key: KeyArray, log_density: Array) -> Scalar:
    """Log of a uniform height under the density; minus infinity where a chain stands on none.

    A particle of weight zero takes any point that it finds, as in the accept step of the Metropolis kernels.
    """
    # Minus an exponential draw is the log of a uniform that can never be zero.
    level = log_density - jax.random.exponential(key, dtype=log_density.dtype)
    return jnp.where(jnp.isfinite(log_density), level, -jnp.inf)


def is_inside(reached: KernelState, log_density: Array, level: Array) -> Flag:
    """Whether a point is in the slice; never where the point or the density is not finite.

    Args:
        reached: the point.
        log_density: Float[""], there, nats, in the coordinates that the slice is cut in.
        level: Float[""], of the slice, nats (`draw_level`).
    """
    return (log_density > level) & jnp.isfinite(log_density) & jnp.all(jnp.isfinite(reached.position))


def circle(uniform: Array, max_tries: int) -> Search:
    r"""A search over all angles from angle zero: first :math:`w \sim U(0, 2\pi)`, bracket :math:`[w - 2\pi, w]`."""
    angle = TWO_PI * uniform
    none = jnp.zeros((), jnp.int32)
    return Search(jnp.zeros_like(angle), angle - TWO_PI, angle, angle, none, none, jnp.asarray(max_tries, jnp.int32))


def line(
    uniforms: Array, centre: Scalar, width: Scalar, max_steps_out: int, max_tries: int, floor: float = -jnp.inf
) -> Search:
    """A search along a line from ``centre``.

    Args:
        uniforms: Float["3"], for the interval's offset, the split of the steps and the first point.
        centre: Float[""].
        width: Float[""], of the first interval and of a step.
        max_steps_out: m: the interval is at most m widths long.
        max_tries: M.
        floor: the slice has nothing below this coordinate.
    """
    width = width.astype(centre.dtype)
    lower = jnp.maximum(centre - random_offset(uniforms[0]) * width, floor)
    upper = centre + (1.0 - random_offset(uniforms[0])) * width
    steps_down, steps_up = split_steps(uniforms[1], max_steps_out)
    steps_down = jnp.where(lower > floor, steps_down, 0)
    candidate = _next(lower, upper, steps_down, steps_up, uniforms[2])
    return Search(centre, lower, upper, candidate, steps_down, steps_up, jnp.asarray(max_tries, jnp.int32))


def random_offset(uniform: Array) -> Array:
    """Where in its first interval the centre is, as a share of the width."""
    return uniform


def split_steps(uniform: Array, max_steps_out: int) -> tuple[Count, Count]:
    """Steps out to the left and to the right, at random."""
    # A product rounded up to m would leave -1 for the right.
    left = jnp.minimum(jnp.floor(max_steps_out * uniform).astype(jnp.int32), max_steps_out - 1)
    return left, max_steps_out - 1 - left


def advance(search: Search, inside: Flag, uniform: Array, width: Scalar, floor: float = -jnp.inf) -> Search:
    """The search after its candidate was found inside or outside the slice.

    A candidate that was `Search.trying` and inside ends the search; the caller sees to that.

    Args:
        search: as it was when it asked for its candidate.
        inside: Bool[""], whether the candidate is in the slice.
        uniform: Float[""], in [0, 1), for the next point where one is drawn.
        width: Float[""], of a step out.
        floor: the slice has nothing below this coordinate.
    """
    width = width.astype(search.centre.dtype)
    trying = search.trying
    down = search.steps_down > 0
    up = ~down & (search.steps_up > 0)
    below = search.candidate < search.centre
    stepped_down = jnp.maximum(search.lower - width, floor)
    lower = jnp.where(down & inside, stepped_down, jnp.where(trying & below, search.candidate, search.lower))
    upper = jnp.where(up & inside, search.upper + width, jnp.where(trying & ~below, search.candidate, search.upper))
    steps_down = jnp.where(down & inside & (lower > floor), search.steps_down - 1, 0)
    steps_up = jnp.where(up, jnp.where(inside, search.steps_up - 1, 0), search.steps_up)
    candidate = _next(lower, upper, steps_down, steps_up, uniform)
    return Search(search.centre, lower, upper, candidate, steps_down, steps_up, search.tries - trying)


def ran_out(before: Search, after: Search, inside: Flag) -> Flag:
    """Whether the last point allowed was drawn and not found good: the chain stays where it is.

    Args:
        before, after: the search before and after `advance`.
        inside: Bool[""], whether the candidate of ``before`` is in the slice.
    """
    return before.trying & ~inside & (after.tries <= 0)


def cut_short(before: Search, after: Search, width: Scalar, max_steps_out: int) -> Flag:
    """Whether stepping out just ended at the longest interval allowed: the slice may be wider.

    Args:
        before, after: the search before and after `advance`.
        width: Float[""], of a step out.
        max_steps_out: m, the most widths of an interval.
    """
    longest = (max_steps_out - 0.5) * width.astype(after.centre.dtype)
    return ~before.trying & after.trying & (after.upper - after.lower > longest)


def _next(lower: Array, upper: Array, steps_down: Array, steps_up: Array, uniform: Array) -> Array:
    drawn = lower + uniform * (upper - lower)
    return jnp.where(steps_down > 0, lower, jnp.where(steps_up > 0, upper, drawn))
