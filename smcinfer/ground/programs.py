"""Parts of programs that are compiled once, however many places of a program call them."""

from collections.abc import Callable

import equinox as eqx
import jax


def outlined[Function: Callable[..., object]](function: Function) -> Function:
    """A function that stays a function in the program that calls it.

    XLA copies a callee into each of its callers and compiles every copy, and it merges what a callee reads into each of its
    parts. Kept apart, a density and its gradient are compiled once for the start and all moves, and from their own text
    alone. Arguments may be any pytrees: arrays are traced, the rest is part of the program.

    Args:
        function: pure, its results arrays.
    """
    return eqx.filter_jit(function, inline=jax.Inline.XLA_LATE)  # pyright: ignore[reportCallIssue]
