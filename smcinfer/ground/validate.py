"""Arguments checked at the door, before any work: each function returns the value as the type that the engine uses.

>>> count("num_particles", 4096)
4096

Every refusal names the argument, what was expected and what came. A number that came as text or as another kind of number is
refused and not converted: ``num_particles=1e3`` may be a slip for ``1e6``, and ``True`` is no count.
"""

import math
import operator
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from smcinfer.ground.errors import ArgumentError


def count(name: str, value: Any, *, at_least: int = 1, at_most: int | None = None) -> int:
    """A whole number in a range, from a Python or a numpy integer.

    Args:
        name: of the argument, for the message.
        value: what the caller gave.
        at_least, at_most: the range, ends included; no upper end where ``None``.

    Raises:
        ArgumentError: for another type (a bool, a float, a text), or a number out of range.
    """
    expected = f"a whole number, at least {at_least}" if at_most is None else f"a whole number, {at_least} to {at_most}"
    hint = f"{name}={int(value)}" if isinstance(value, float) and value.is_integer() else ""
    if _is_flag(value) or not hasattr(value, "__index__"):
        raise ArgumentError(f"{name} is not a whole number", expected=expected, got=repr(value), hint=hint)
    try:
        whole = operator.index(value)
    except TypeError as error:  # an array that is not one integer
        raise ArgumentError(f"{name} is not a whole number", expected=expected, got=repr(value)) from error
    if whole < at_least or (at_most is not None and whole > at_most):
        raise ArgumentError(f"{name} is out of range", expected=expected, got=whole)
    return whole


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """A finite real number in a range.

    Args:
        name: of the argument, for the message.
        value: what the caller gave: a Python or numpy number, or an array of shape ().
        above, below: ends of the range that are left out.
        at_least, at_most: ends of the range that are included.

    Raises:
        ArgumentError: for another type (a bool, a text), NaN or an infinity, or a number out of range.
    """
    expected = _range(above, at_least, below, at_most)
    if (
        _is_flag(value)
        or isinstance(value, str | bytes)
        or not hasattr(value, "__float__")
        or getattr(value, "ndim", 0)
    ):
        raise ArgumentError(f"{name} is not a number", expected=expected, got=repr(value))
    real = float(value)
    inside = (above is None or real > above) and (at_least is None or real >= at_least)
    inside = inside and (below is None or real < below) and (at_most is None or real <= at_most)
    if not (math.isfinite(real) and inside):
        raise ArgumentError(f"{name} is out of range", expected=expected, got=real)
    return real


def fraction(name: str, value: Any) -> float:
    """A number in [0, 1].

    Raises:
        ArgumentError: for another type, or a number out of range.
    """
    return number(name, value, at_least=0.0, at_most=1.0)


def seconds(name: str, value: Any) -> float:
    """A time in seconds, not negative.

    Raises:
        ArgumentError: for another type, or a number out of range.
    """
    return number(name, value, at_least=0.0)


def path(name: str, value: Any) -> Path:
    """The name of a file or of a folder.

    Args:
        name: of the argument, for the message.
        value: what the caller gave.

    Raises:
        ArgumentError: for anything but text or a path: a number, ``None``.
    """
    if not isinstance(value, str | os.PathLike) or not value:
        raise ArgumentError(f"{name} is no name of a file", expected="a str or a pathlib.Path", got=repr(value))
    return Path(value)


def flag(name: str, value: Any) -> bool:
    """``True`` or ``False``, and nothing that is merely true or false in a condition.

    Raises:
        ArgumentError: for another type, the text "no" say.
    """
    if not _is_flag(value):
        raise ArgumentError(f"{name} is neither True nor False", expected="True or False", got=repr(value))
    return bool(value)


def one_of(name: str, value: Any, choices: Collection[str]) -> str:
    """The value, where it is one of a few names.

    Args:
        name: of the argument, as the error names it.
        value: what was given.
        choices: the names there are.

    Raises:
        ArgumentError: for any other.
    """
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"{name} is unknown", expected=" | ".join(f'"{one}"' for one in choices), got=repr(value))
    return value


def instance[Kind](name: str, value: Any, kind: type[Kind], example: str = "") -> Kind:
    """An object of a class, and not the class itself.

    Args:
        name: of the argument, for the message.
        value: what the caller gave.
        kind: the class.
        example: an expression that would do, for the message.

    Raises:
        ArgumentError: for anything else; where the class was given, it says that it must be called.
    """
    if isinstance(value, kind):
        return value
    expected = example or f"an instance of {kind.__name__}"
    if isinstance(value, type):
        hint = f"call it: {value.__name__}(...)" if issubclass(value, kind) else ""
        raise ArgumentError(f"{name} is a class", expected=expected, got=f"the class {value.__name__}", hint=hint)
    raise ArgumentError(f"{name} is of the wrong kind", expected=expected, got=f"{type(value).__name__} {value!r}")


def not_given(target: str, **options: Any) -> None:
    """Refuse options that cannot act on a target: each must be ``None``.

    Args:
        target: what it is, in words for the message.
        **options: the options by name.

    Raises:
        ArgumentError: naming every option that was given.
    """
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ArgumentError(
            f"{target} takes no {' and no '.join(given)}",
            expected=", ".join(f"{name}=None" for name in given),
            got={name: options[name] for name in given},
            hint="leave it out: it would do nothing here",
        )


def _range(above: float | None, at_least: float | None, below: float | None, at_most: float | None) -> str:
    low = f"({above:g}" if above is not None else f"[{at_least:g}" if at_least is not None else "(-inf"
    high = f"{below:g})" if below is not None else f"{at_most:g}]" if at_most is not None else "inf)"
    return f"a number in {low}, {high}"


def _is_flag(value: Any) -> bool:
    """Whether a value is Python's or numpy's bool, told without importing numpy: ``smcinfer --help`` waits for nothing."""
    kind = type(value)
    return kind is bool or (kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_"))
