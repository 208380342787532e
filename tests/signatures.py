"""Checked signatures whose checks are made when a function is first called.

beartype writes the checks of every annotated function as code. The package has thousands of functions, a process of tests calls
a part of them, and writing all checks beforehand takes longer than many a test.
"""

import functools
from collections.abc import Callable
from typing import Any

from beartype import beartype


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with its arguments and its value checked against their annotations, from the first call on."""
    made: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(beartype(function))
        return made[0](*args, **kwargs)

    return call
