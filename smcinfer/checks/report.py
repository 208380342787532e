"""What a contract check says: one line a promise, and whether all were kept."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import ArrayLike
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

FAILURE_RATE = 2e-5
"""Probability that one statistical check fails on a part that keeps its promise."""


@dataclass(frozen=True)
class Check:
    """One promise of a part.

    Attributes:
        name: the promise.
        passed: whether it was kept; ``None`` where it could not be judged.
        observed, expected: what came and what should have, as text.
        message: what a failure means and what to do about it; empty where there is nothing to say.
    """

    name: str
    passed: bool | None
    observed: str = ""
    expected: str = ""
    message: str = ""


@dataclass(frozen=True)
class Report:
    """Every promise of one part, checked.

    Attributes:
        name: the part.
        checks: one `Check` a promise, in the order they were tried.
    """

    name: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no promise was broken."""
        return all(check.passed is not False for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass; one that could not be judged is no failure."""
        return tuple(check for check in self.checks if check.passed is False)

    def __str__(self) -> str:
        console = Console(width=118, no_color=True, highlight=False)
        with console.capture() as capture:
            console.print(self)
        return capture.get().rstrip()

    def __rich__(self) -> Group:
        marks = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "[yellow]open[/]"}
        verdict = "kept" if self.passed else "BROKEN"
        table = Table(box=None, pad_edge=False)
        for column in ("", "promise", "observed", "expected"):
            table.add_column(column, overflow="fold")
        for check in self.checks:
            table.add_row(marks[check.passed], escape(check.name), escape(check.observed), escape(check.expected))
            if check.message and check.passed is not True:
                table.add_row("", f"[italic]{escape(check.message)}[/]", "", "")
        return Group(f"{escape(self.name)}: contract {verdict}", table)


def same(name: str, observed: Any, expected: Any, message: str = "") -> Check:
    """Check that two values are equal.

    Args:
        name: the promise, as the report prints it.
        observed: what was found.
        expected: what was promised.
        message: what to do where it is broken.
    """
    return Check(name, bool(observed == expected), str(observed), str(expected), message)


def none_of(name: str, bad: ArrayLike, message: str = "") -> Check:
    """Check that no entry of a boolean array is set.

    Args:
        name: the promise, as the report prints it.
        bad: Bool["..."], true where the promise is broken.
        message: what to do where it is broken.
    """
    flags = np.asarray(bad, dtype=bool)
    count = int(flags.sum())
    return Check(name, count == 0, f"{count} of {flags.size}", "none", message)


def close(name: str, observed: ArrayLike, expected: ArrayLike, tolerance: float, message: str = "") -> Check:
    """Check that arrays agree up to ``tolerance``, relative for values above one and absolute below.

    Args:
        name: the promise, as the report prints it.
        observed: Float["..."], what was found.
        expected: Float["..."], what was promised; equal infinities agree.
        tolerance: the largest error that passes.
        message: what to do where it is broken.
    """
    left, right = np.asarray(observed, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # equal infinities agree, though their difference is NaN
        error = np.where(left == right, 0.0, np.abs(left - right) / np.maximum(1.0, np.abs(right)))
    worst = float(np.max(error, initial=0.0))
    return Check(name, bool(worst <= tolerance), f"largest error {worst:.2g}", f"at most {tolerance:.2g}", message)


def mean(name: str, samples: ArrayLike, expected: ArrayLike, num_comparisons: int = 1, message: str = "") -> Check:
    """Whether E[samples] = expected, by Student's t on every element of independent replicates.

    Args:
        name: the promise.
        samples: (replicates, ...).
        expected: (...).
        num_comparisons: how many checks share the failure rate; the elements are counted on top.
        message: what a failure means.
    """
    values = np.asarray(samples, dtype=np.float64)
    target = np.broadcast_to(np.asarray(expected, dtype=np.float64), values.shape[1:])
    if not np.all(np.isfinite(values)):
        bad = np.count_nonzero(~np.isfinite(values))
        return Check(name, False, f"{bad} values that are not finite", "finite values", message)
    average = values.mean(axis=0)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    rounding = 1e-6 * np.maximum(np.abs(target), np.abs(values).max(axis=0))
    limit = scipy.stats.t.isf(FAILURE_RATE / (2 * num_comparisons * max(1, target.size)), len(values) - 1)
    z = np.maximum(np.abs(average - target) - rounding, 0.0) / np.maximum(error, np.finfo(float).tiny)
    worst = np.unravel_index(np.argmax(z), z.shape)
    return Check(
        name,
        bool(z[worst] <= limit),
        f"{average[worst]:.4g} +- {error[worst]:.1g} (z = {z[worst]:.1f})",
        f"{target[worst]:.4g} (|z| below {limit:.1f})",
        message,
    )


def follows(name: str, draws: Iterable[ArrayLike], references: Any, message: str = "") -> Check:
    """Whether every vector of draws follows its reference, by Kolmogorov-Smirnov tests.

    Args:
        name: the promise.
        draws: vectors of independent draws.
        references: one a vector: a cumulative distribution function, or another vector of draws.
        message: what a failure means.
    """
    vectors = [np.asarray(vector, dtype=np.float64) for vector in draws]
    p_values: list[float] = []
    for vector, reference in zip(vectors, references, strict=True):
        if not np.all(np.isfinite(vector)):
            return Check(name, False, "draws that are not finite", "finite draws", message)
        if callable(reference):
            outcome: Any = scipy.stats.ks_1samp(vector, reference)
        else:
            outcome = scipy.stats.ks_2samp(vector, np.asarray(reference, np.float64), method="asymp")
        p_values.append(float(outcome.pvalue))
    smallest, limit = min(p_values), FAILURE_RATE / len(p_values)
    return Check(name, bool(smallest > limit), f"smallest p = {smallest:.2g}", f"p above {limit:.1g}", message)
