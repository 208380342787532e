"""How records are printed: a title and labelled lines, as text or as a small table in a notebook."""

import html
import math

import numpy as np

from smcinfer.results.evidence import Bound

Lines = list[tuple[str, str]]
"""What to say, as (label, text) pairs in reading order."""


def as_text(heading: str, pairs: Lines) -> str:
    """A report as aligned text."""
    width = max(len(label) for label, _ in pairs)
    return "\n".join([heading, *(f"  {label:<{width}}  {text}" for label, text in pairs)])


def as_html(heading: str, pairs: Lines) -> str:
    """A report as an HTML table."""
    left = " style='text-align:left'"
    rows = "".join(
        f"<tr><th{left}>{html.escape(label)}</th><td{left}>{html.escape(text)}</td></tr>" for label, text in pairs
    )
    return f"<div><strong>{html.escape(heading)}</strong><table>{rows}</table></div>"


def counted(number: int, what: str) -> str:
    """``1 run``, ``4 runs``."""
    return f"{number} {what}{'s' * (number != 1)}"


def spanned(values: np.ndarray) -> str:
    """The range of some numbers, rounded: ``4 to 6``, or ``4``."""
    low, high = float(values.min()), float(values.max())
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"


def decimals(se: float) -> int:
    """Decimals that show a standard error to two figures."""
    return 2 if not (math.isfinite(se) and se > 0) else min(max(1 - math.floor(math.log10(se)), 0), 10)


def with_error(bound: Bound) -> str:
    """A value and its standard error, both to two figures of the error."""
    digits = decimals(bound.se)
    error = "unknown" if math.isnan(bound.se) else f"{bound.se:.{digits}f}"
    return f"{bound.value:.{digits}f} ± {error}"
