"""Whether one law can draw whatever another can: what a proposal does not cover of the transition is never reached."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from numpyro.distributions import Distribution, constraints

from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import TargetError
from smcinfer.ground.names import leaves_by_name
from smcinfer.state_space.joint import Joint, is_law


class _Range(NamedTuple):
    """A support on the line; an end is ``None`` where it is finite and not known before the run."""

    low: float | None
    high: float | None
    is_discrete: bool


def check_cover(what: str, wide: Distribution, narrow_name: str, narrow: Distribution) -> None:
    """Raise `TargetError` where a law is known not to cover another; supports that are not ranges are left to the run.

    Args:
        what: what the covering law is, for the message.
        wide: the law that is drawn from.
        narrow_name: what the other is.
        narrow: the law that must be covered.
    """
    others = _entries(narrow)
    for name, law in _entries(wide).items():
        if name not in others:
            continue
        mine, other = law.support, others[name].support
        if not _covers(_range(mine), _range(other)):
            raise TargetError(
                f"{what} does not cover {narrow_name}" + (f" in {name!r}" if len(others) > 1 else ""),
                expected=f"a law on all of {other}",
                got=f"{type(law).__name__} on {mine}",
                hint="what it cannot draw is left out of every estimate: take a law with the same support or a wider one",
            )


def check_guide(
    transition: Callable[[Any, Any], Distribution], guide: Callable[[Any, Any], Distribution], x: PyTree[Any]
) -> None:
    """Hold a proposal against the transition at one abstract state.

    Args:
        transition: ``(t, x) -> law`` of the next state.
        guide: ``(t, x) -> law`` to draw it from.
        x: shapes and dtypes of one state.

    Raises:
        TargetError: the proposal is known not to cover the transition.
    """

    def look(t: Any, x: Any) -> Any:
        check_cover("proposal", guide(t, x), "transition", transition(t, x))
        return jnp.zeros(())

    jax.eval_shape(look, jax.ShapeDtypeStruct((), jnp.int32), x)


def _entries(law: Distribution) -> dict[str, Any]:
    return leaves_by_name(law.laws, is_law) if isinstance(law, Joint) else leaves_by_name(law, is_law)


def _range(support: Any) -> _Range | None:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if support is constraints.real:
        return _Range(-math.inf, math.inf, False)
    if not (hasattr(support, "lower_bound") or hasattr(support, "upper_bound")):
        return None
    ends = getattr(support, "lower_bound", -math.inf), getattr(support, "upper_bound", math.inf)
    low, high = (None if isinstance(end, Tracer) or jnp.ndim(end) else float(end) for end in ends)
    return _Range(low, high, support.is_discrete)


def _covers(wide: _Range | None, narrow: _Range | None) -> bool:
    """Whether it does as far as is known."""
    if wide is None or narrow is None:
        return True
    if wide.is_discrete != narrow.is_discrete:
        return False
    below = _reaches(wide.low, narrow.low, -1.0)
    return below and _reaches(wide.high, narrow.high, 1.0)


def _reaches(mine: float | None, other: float | None, side: float) -> bool:
    """Whether one end lies as far out as another, on the side of minus or plus infinity."""
    if mine is None:
        return other is None or math.isfinite(other)
    return other is None or side * mine >= side * other
