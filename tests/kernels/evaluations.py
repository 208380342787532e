"""How often a program asks for the density: its call sites, which loops repeat and copies multiply."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from smcinfer.kernels.base import evaluated, value_and_gradients

EVALUATING = {evaluated.__name__, value_and_gradients.__name__}


def evaluations_in(function: Callable[..., Any], *args: Any) -> int:
    """Call sites of the density, with or without its gradient, in the program of a function.

    Args:
        function: of arrays.
        *args: arrays, or their shapes.
    """
    return sum(1 for name in _called(jax.make_jaxpr(function)(*args).jaxpr) if name in EVALUATING)


def _called(jaxpr: Jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        name = str(equation.params.get("name", ""))
        yield name
        if name in EVALUATING:
            continue
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if isinstance(part, ClosedJaxpr | Jaxpr):
                    yield from _called(part.jaxpr if isinstance(part, ClosedJaxpr) else part)
