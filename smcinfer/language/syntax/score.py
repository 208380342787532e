"""How well a tree matches another: precision, recall and F1 of labelled brackets."""

import dataclasses

from smcinfer.language.syntax.trees import Tree


@dataclasses.dataclass(frozen=True)
class BracketScore:
    """Counts of labelled brackets; scores of several trees add up.

    Attributes:
        matched: brackets of both trees.
        wanted: of the reference.
        found: of the other.
    """

    matched: int = 0
    wanted: int = 0
    found: int = 0

    def __add__(self, other: "BracketScore") -> "BracketScore":
        return BracketScore(self.matched + other.matched, self.wanted + other.wanted, self.found + other.found)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]."""
        return 2 * self.matched / max(self.wanted + self.found, 1)


def bracket_score(reference: Tree, found: Tree | None) -> BracketScore:
    """The brackets that a tree shares with a reference: label, first word and last word agree.

    Leaves do not count; chains of single children count each. ``None``, no tree at all, matches nothing.
    """
    wanted = reference.brackets()
    if found is None:
        return BracketScore(0, wanted.total(), 0)
    other = found.brackets()
    return BracketScore((wanted & other).total(), wanted.total(), other.total())
