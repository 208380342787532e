"""Constituency trees as bracketed text: reading with positions of faults, writing, labelled brackets."""

import dataclasses
import re
from collections import Counter

from smcinfer.ground.errors import ArgumentError

_TOKEN = re.compile(r"[()]|[^()\s]+")


@dataclasses.dataclass(frozen=True)
class Tree:
    """A constituent, or a leaf: a part of speech with its word.

    Attributes:
        label: category, ``"NP"`` say, or a leaf's part of speech; empty only at the top of a tree without one.
        children: constituents inside; none for a leaf.
        word: of a leaf; empty where only its part of speech is asked for.
    """

    label: str
    children: tuple["Tree", ...] = ()
    word: str = ""

    @property
    def is_leaf(self) -> bool:
        """Whether this is a part of speech over a word."""
        return not self.children

    def leaves(self) -> list["Tree"]:
        """Leaves from left to right."""
        return [self] if self.is_leaf else [leaf for child in self.children for leaf in child.leaves()]

    def words(self) -> list[str]:
        """Words from left to right."""
        return [leaf.word for leaf in self.leaves()]

    def brackets(self) -> Counter[tuple[str, int, int]]:
        """Labelled spans ``(label, first word, one past the last)``, leaves left out, each as often as it stands."""
        found: Counter[tuple[str, int, int]] = Counter()

        def visit(node: "Tree", start: int) -> int:
            if node.is_leaf:
                return start + 1
            end = start
            for child in node.children:
                end = visit(child, end)
            if node.label:
                found[node.label, start, end] += 1
            return end

        visit(self, 0)
        return found

    def __str__(self) -> str:
        """One line of brackets, as `parse` reads it."""
        if self.is_leaf:
            return f"({self.label} {self.word})" if self.word else f"({self.label})"
        return f"({self.label} {' '.join(map(str, self.children))})"


def parse(text: str) -> Tree:
    """The one tree that a text holds.

    Args:
        text: ``"(S (NP (PRP She)) (VP (VBD slept)) (. .))"``; a leaf may leave its word out: ``"(PRP)"``.

    Raises:
        ArgumentError: if the brackets are no single tree; says where and why.
    """
    found = parse_all(text)
    if len(found) != 1:
        raise ArgumentError("no single tree", expected="one tree in brackets", got=f"{len(found)} trees")
    return found[0]


def parse_all(text: str) -> list[Tree]:
    """Every tree of a text, in order.

    Raises:
        ArgumentError: if the brackets are malformed; says where (line and column) and why.
    """
    done: list[Tree] = []
    stack: list[_Open] = []
    for found in _TOKEN.finditer(text):
        token, at = found.group(), found.start()
        if token == "(":
            if stack and stack[-1].word:
                raise _fault(text, at, f"a constituent beside the word {stack[-1].word!r}")
            stack.append(_Open(at))
        elif token == ")":
            if not stack:
                raise _fault(text, at, "a closing bracket that nothing opened")
            tree = stack.pop().close(text, at)
            (stack[-1].children if stack else done).append(tree)
        elif not stack:
            raise _fault(text, at, f"{token!r} outside of all brackets")
        else:
            stack[-1].take(text, at, token)
    if stack:
        raise _fault(text, stack[-1].at, "a bracket that is never closed")
    return done


@dataclasses.dataclass
class _Open:
    """A bracket not closed yet."""

    at: int
    label: str | None = None
    word: str = ""
    children: list[Tree] = dataclasses.field(default_factory=list)

    def take(self, text: str, at: int, token: str) -> None:
        """The label or the word of this bracket."""
        if self.children:
            raise _fault(text, at, f"the word {token!r} beside constituents")
        if self.label is None:
            self.label = token
        elif self.word:
            raise _fault(text, at, f"a second word {token!r} in the leaf {self.label!r}")
        else:
            self.word = token

    def close(self, text: str, at: int) -> Tree:
        """The tree of this bracket."""
        if self.label is None and not self.children:
            raise _fault(text, at, "an empty bracket")
        return Tree(self.label or "", tuple(self.children), self.word)


def _fault(text: str, at: int, reason: str) -> ArgumentError:
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return ArgumentError(
        "not a tree in brackets",
        expected="(S (NP (PRP She)) (VP (VBD slept)) (. .))",
        got=f"{reason}, line {line}, column {column}: ...{text[max(0, at - 12) : at + 12]}...",
    )
