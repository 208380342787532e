"""Printed figures compared by what they are: what a page shows against what its code prints now.

Every number of a printed text is one of these, by the words around it, and each kind has its own rule:

* ``a ± b`` (or ``a +- b``) is an estimate: the two runs agree if they differ by no more than z times both errors together,
  with z from the one failure rate of `tests.statistics`;
* a lower or upper bound is an estimate too, and must be on its side of log Z: of the exact one where the text has it, else of
  the page's estimate, with the errors of both;
* what follows ``exact`` does not depend on chance: equal to a unit of the last digit; ``in [a, b], exact e`` must hold, the
  interval widened from its 99% to the failure rate;
* a whole number without a sign is a count: equal. Effective sample sizes and what an adaptive run took are rounded
  statistics, and no counts;
* times are free, and so are numbers without an error: another processor rounds otherwise, and a seed then goes another way.

Everything that is no number must be equal.
"""

import math
import re
from dataclasses import dataclass

import scipy.stats

from tests.statistics import z_threshold

NUMBER = re.compile(r"[-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|\bnan\b|\binf\b)")
PLUS_MINUS = re.compile(r"\s*(?:±|\+-)\s*")
STATISTIC = re.compile(r"\bess\b|evaluations|different|distinct|survive|mcse|\d\.\d+ +\d+\.\d", re.IGNORECASE)
"""On lines with one of these, and in rows of decimals, whole numbers are rounded statistics."""
CERTAIN = re.compile(r"(?:exact|true|by enumeration|by quadrature):? *$")
INTERVAL = re.compile(rf"in \[({NUMBER.pattern}), ({NUMBER.pattern})\], exact ({NUMBER.pattern})")


@dataclass(frozen=True)
class Figure:
    """One number of a text.

    Attributes:
        text: as printed.
        kind: ``"estimate"``, ``"error"``, ``"exact"``, ``"count"`` or ``"free"``.
        label: the words before it on its line.
        error: of an estimate, its printed error.
    """

    text: str
    kind: str
    label: str
    error: float = 0.0

    @property
    def value(self) -> float:
        """The number."""
        return float(self.text.rstrip("."))

    @property
    def unit(self) -> float:
        """One unit of the last digit printed."""
        mantissa, _, exponent = self.text.rstrip(".").partition("e")
        return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def words(text: str) -> str:
    """Text without its numbers and spacing."""
    return " ".join(NUMBER.sub("#", text).split())


def figures(text: str) -> list[Figure]:
    """Every number of a text, in order."""
    found = []
    for line in text.splitlines():
        error_next = False
        for match in NUMBER.finditer(line):
            before, after = line[: match.start()], line[match.end() :]
            label, error, kind = before.strip(), 0.0, "free"
            sign = PLUS_MINUS.match(after)
            following = NUMBER.match(after, sign.end()) if sign else None
            if error_next:
                kind = "error"
            elif following:
                kind, error = "estimate", float(following[0].rstrip("."))
            elif CERTAIN.search(before):
                kind = "exact"
            elif match[0].isdigit() and not re.match(r"%| *(?:s|ms)\b", after):
                whole = re.search(r"\bof $", before) and after.startswith(" particles")
                kind = "count" if whole or not STATISTIC.search(line) else "free"
            error_next = following is not None
            found.append(Figure(match[0], kind, label, error))
    return found


def log_z(found: list[Figure]) -> Figure | None:
    """What a text says of log Z: the exact one where it has it."""
    exact = [figure for figure in found if figure.kind == "exact" and figure.label in ("exact", "exact:")]
    estimates = [figure for figure in found if figure.kind == "estimate" and figure.label.endswith("log Z")]
    return next(iter([*exact, *estimates]), None)


def faults(printed: str, shown: str) -> list[str]:
    """What a new run prints that disagrees with the page, a sentence each; see the module for the rules.

    Args:
        printed: by the run.
        shown: on the page.
    """
    if words(printed) != words(shown):
        return [f"the words differ: {words(printed)!r} against {words(shown)!r}"]
    new, old = figures(printed), figures(shown)
    checks = sum(figure.kind == "estimate" for figure in new) + len(INTERVAL.findall(printed))
    z = z_threshold(max(2 * checks, 1))
    reference, found = log_z(old), []
    for ours, theirs in zip(new, old, strict=True):
        rounding = 0.5 * (ours.unit + theirs.unit) if math.isfinite(ours.value) else 0.0
        about = f"{ours.label!r}: {ours.text} against {theirs.text}"
        if ours.kind != theirs.kind:
            found.append(f"{about}, {ours.kind} and {theirs.kind}")
        elif ours.kind == "count" and ours.value != theirs.value:
            found.append(f"{about}, a count")
        elif ours.kind == "exact" and not abs(ours.value - theirs.value) <= 1.01 * theirs.unit:
            found.append(f"{about}, exact")
        elif ours.kind == "estimate":
            if not agree(ours, theirs, z, rounding):
                found.append(f"{about}, errors {ours.error} and {theirs.error}")
            side = {"lower bound": 1.0, "upper bound": -1.0}.get(ours.label)
            if side and reference:
                beyond = side * (ours.value - reference.value)
                if not beyond <= z * math.hypot(ours.error, reference.error) + ours.unit:
                    found.append(f"{ours.label} {ours.text} ± {ours.error} is beyond log Z {reference.text}")
    for low, high, exact in INTERVAL.findall(printed):
        middle, half = (float(low) + float(high)) / 2, (float(high) - float(low)) / 2
        if not abs(float(exact) - middle) <= half * z / scipy.stats.norm.ppf(0.995):
            found.append(f"exact {exact} is outside [{low}, {high}]")
    return found


def agree(one: Figure, other: Figure, z: float, rounding: float) -> bool:
    """Whether two estimates agree within both their errors; infinite ones are equal."""
    if not (math.isfinite(one.value) and math.isfinite(other.value)):
        return one.text == other.text
    return abs(one.value - other.value) <= z * math.hypot(one.error, other.error) + rounding
