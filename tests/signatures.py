"""Checked signatures whose checks are made when a function is first called.

beartype writes the checks of every annotated function as code. The package has thousands of functions, a process of tests calls
a part of them, and writing all checks beforehand takes longer than many a test.

Users have no such checks: what a wrong call says to them is tested inside `unchecked`.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from beartype import beartype

_on = [True]


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """While the block runs, calls meet the package's own errors, as users' calls do."""
    _on.append(False)
    try:
        yield
    finally:
        _on.pop()


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with its arguments and its value checked against their annotations, from the first call on."""
    made: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _on[-1]:
            return function(*args, **kwargs)
        if not made:
            made.append(beartype(function))
        return made[0](*args, **kwargs)

    return call
