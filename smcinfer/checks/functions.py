"""The contracts of the two functions of a state: the potential and the twist."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.checks.process import simulate, trace
from smcinfer.checks.report import Check, Report, none_of
from smcinfer.core.compose import Potential, Process, Twist
from smcinfer.ground.arrays import Array, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.ground.programs import compiled
from smcinfer.static.contract import check_scalar


def check_potential(potential: Potential, process: Process, key: KeyArray, *, num_steps: int) -> Report:
    """Check that a potential is one scalar a particle, never NaN or +inf, and not -inf everywhere.

    Args:
        potential: ``(t, state) -> Float[""]``, log phi_t, nats.
        process: whose states it weighs.
        key: random key.
        num_steps: steps simulated; the potential is evaluated at t = 0 .. num_steps.

    Returns:
        `Report`.
    """
    return _function_report("potential", potential, process, key, num_steps)


def check_twist(
    twist: Callable[[Array, PyTree[Any]], Scalar], process: Process, key: KeyArray, *, num_steps: int
) -> Report:
    r"""Check that a twist is one scalar a particle, never NaN or infinite, and one after the last step.

    The engine takes :math:`\psi_T = 1` whatever the twist says, so log Z is unbiased even so: that line stays open, not
    broken. Where the process is categorical and the twist has ``next``, its shape is checked too.

    Args:
        twist: a `Twist` or a function ``(t, state) -> Float[""]``, log psi_t, nats.
        process: whose states it looks at.
        key: random key.
        num_steps: T; the twist is evaluated at t = 0 .. T.

    Returns:
        `Report`.
    """
    report = _function_report("twist", twist, process, key, num_steps)
    if not report.passed:
        return report
    states, _ = simulate(process, key, num_steps, 64)
    at_end = _evaluate(twist, jnp.asarray([num_steps], jnp.int32), jax.tree.map(lambda leaf: leaf[-1:], states))
    size = float(np.max(np.abs(at_end)))
    message = "the engine takes zero there: what the twist says of the end is not used"
    ending = Check("log psi_T is zero", True if size == 0.0 else None, f"up to {size:.2g}", "0", message)
    checks = [*report.checks, ending]
    if isinstance(twist, Twist) and type(twist).next is not Twist.next:
        checks.append(_next(twist, process, jax.tree.map(lambda leaf: leaf[0], states)))
    return Report(report.name, tuple(checks))


def _function_report(
    kind: str, function: Callable[[Array, PyTree[Any]], Scalar], process: Process, key: KeyArray, num_steps: int
) -> Report:
    """A log function of (t, state): scalar, never NaN or +inf, not -inf for every particle at any time."""
    label = getattr(function, "__name__", type(function).__name__)
    name = f"{kind} {label}"
    traced, state = trace(process)
    if not traced.passed:
        return Report(name, (traced,))
    try:
        check_scalar(kind, function, jax.ShapeDtypeStruct((), jnp.int32), state)
    except TargetError as error:
        return Report(name, (Check("returns one scalar a particle", False, message=str(error)),))
    states, _ = simulate(process, key, num_steps, 256)
    times = jnp.arange(num_steps + 1, dtype=jnp.int32)
    values = np.asarray(_evaluate(function, times, states))
    dead = np.flatnonzero(np.all(values == -np.inf, axis=1))
    return Report(
        name,
        (
            Check("returns one scalar a particle", True),
            none_of("is never NaN", np.isnan(values), "return -inf for what is impossible"),
            none_of("is never +inf", values == np.inf),
            Check(
                "is not -inf for every particle",
                dead.size == 0,
                f"at t = {', '.join(map(str, dead))}" if dead.size else "at no t",
                "at no t",
                "no path of 256 survives: it takes a proposal that looks ahead, or the function is wrong",
            ),
        ),
    )


@compiled
def _evaluate(function: Callable[..., Scalar], times: Array, states: PyTree[Any]) -> Array:
    """The function at every time (first axis) and particle (second)."""
    return jax.vmap(lambda t, row: jax.vmap(lambda one: function(t, one))(row))(times, states)


@compiled
def _next_values(twist: Twist, process: Process, states: PyTree[Any]) -> tuple[Array, Array | None]:
    """``next`` at t = 1 for every particle, and the logits of the transitions."""
    t = jnp.asarray(1, jnp.int32)
    logits = jax.vmap(lambda state: getattr(process.transition(t, state), "logits", None))(states)
    return jax.vmap(lambda state: twist.next(t, state))(states), logits


def _next(twist: Twist, process: Process, states: PyTree[Any]) -> Check:
    """``next`` gives one number a symbol, none of them NaN or +inf, and does not rule out every symbol."""
    values, logits = _next_values(twist, process, states)
    if logits is None:
        return Check("next is for categorical transitions", False, "no logits", "a transition with logits")
    found = np.asarray(values)
    good = found.shape == logits.shape and not np.any(np.isnan(found) | (found == np.inf))
    good = good and not np.any(np.all(found == -np.inf, axis=1))
    expected = f"shape {logits.shape[1:]}, no NaN or +inf, not all -inf"
    return Check("next gives one number a symbol", bool(good), f"shape {found.shape[1:]}", expected)
