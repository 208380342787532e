"""A pattern as a list of plain ones with conditions on what comes before and after: groups, calls and choices spelt out.

What a group matched is spelt out word by word where something depends on it; an atomic group becomes its ways in order of
preference, each on condition that no earlier one fits. What would need endlessly many is refused, nothing is left out.
"""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from smcinfer.ground.errors import ArgumentError
from smcinfer.language.constraints.patterns import nodes

LARGEST = 256
"""Plain patterns that one may come to."""


@dataclass(frozen=True)
class Plain:
    """What a finite automaton matches, in Rust's syntax.

    Attributes:
        source: the pattern.
        empty: whether it matches nothing.
        word: the one text it matches, where it is written as one.
    """

    source: str
    empty: bool
    word: str | None = None


@dataclass(frozen=True)
class Loop:
    """A plain pattern of one way to match, many times: how often is decided by what comes."""

    item: Plain
    least: int
    most: int | None
    style: str


@dataclass(frozen=True)
class Condition:
    """What must, or must not, come next (or before): any of some ways."""

    ways: tuple["Way", ...]
    ahead: bool
    negative: bool


Part = Plain | Loop | Condition
Way = tuple[Part, ...]
_Marks = dict[int, str | None]
"""Groups that took part, and the words that they matched where that is of interest."""
_Found = list[tuple[Way, _Marks]]


def ways(parsed: nodes.Parsed) -> list[Way]:
    """The plain patterns that a pattern comes to.

    Raises:
        ArgumentError: for a pattern that is not regular, or comes to too many.
    """
    return [way for way, _ in _Expansion(parsed).of(parsed.node, {}, False)]


def _trouble(reason: str, hint: str = "") -> ArgumentError:
    return ArgumentError("the regex cannot be held to by a finite automaton", got=reason, hint=hint)


class _Expansion:
    """A pattern that is being spelt out."""

    def __init__(self, parsed: nodes.Parsed) -> None:
        self.parsed = parsed
        self.open: list[int] = []

    def of(self, node: nodes.Node, marks: _Marks, apart: bool) -> _Found:
        """All ways of a node, the preferred first; ``apart`` where each must be one way to match, but for its loops."""
        if not apart and (plain := self.plain(node)):
            return [((plain,), marks)]
        found = list(self._spelt(node, marks, apart))
        if len(found) > LARGEST:
            raise _trouble(f"more than {LARGEST} ways to spell it out")
        return found

    def _spelt(self, node: nodes.Node, marks: _Marks, apart: bool) -> Iterator[tuple[Way, _Marks]]:
        match node:
            case nodes.Piece(source):
                yield (Plain(source, False, _word(source)),), marks
            case nodes.Sequence(items):
                yield from self._joined(items, marks, apart)
            case nodes.Choice(options):
                for option in options:
                    yield from self.of(option, marks, apart)
            case nodes.Repeat():
                yield from self._repeated(node, marks, apart)
            case nodes.Group(number, item):
                yield from self._group(number, item, marks, apart)
            case nodes.Atomic(item):
                for way in _in_order(self._closed(item, marks, True)):
                    yield way, marks
            case nodes.Look(item, ahead, negative):
                yield (Condition(tuple(self._closed(item, marks, False)), ahead, negative),), marks
            case nodes.Boundary(negative, letter):
                letters = Plain(letter, False)
                for before in (True, False):
                    sides = (
                        Condition(((letters,),), False, not before),
                        Condition(((letters,),), True, before != negative),
                    )
                    yield sides, marks
            case nodes.Again(group):
                # A group that took no part is repeated by nothing.
                if (word := marks.get(self.parsed.number(group))) is not None:
                    yield (_spelled(word),), marks
            case nodes.Call(group):
                with self._inside(group) as item:
                    found = self.of(item, marks, apart)
                yield from ((way, marks) for way, _ in found)
            case nodes.If():
                yield from self._if(node, marks, apart)

    def _joined(self, items: tuple[nodes.Node, ...], marks: _Marks, apart: bool) -> _Found:
        found: _Found = [((), marks)]
        for item in items:
            found = [(way + more, after) for way, before in found for more, after in self.of(item, before, apart)]
            if len(found) > LARGEST:
                raise _trouble(f"more than {LARGEST} ways to spell it out")
        return found

    def _repeated(self, node: nodes.Repeat, marks: _Marks, apart: bool) -> Iterator[tuple[Way, _Marks]]:
        if node.style == "+":
            yield from self.of(nodes.Atomic(dataclasses.replace(node, style="")), marks, apart)
            return
        body = self.of(node.item, marks, True) if apart else []
        item = _merged(body[0][0]) if len(body) == 1 and body[0][1] == marks else None
        if item is not None and not item.empty:
            fixed = node.least == node.most
            yield (
                (_times(item, node.least, node.most) if fixed else Loop(item, node.least, node.most, node.style),),
                marks,
            )
        elif node.most is None:
            raise _trouble(
                "a loop around something that looks around, is atomic, has several ways or refers to a group"
            )
        else:
            yield from self._unrolled(node, node.least, node.most, marks, apart)

    def _unrolled(self, node: nodes.Repeat, least: int, most: int, marks: _Marks, apart: bool) -> _Found:
        if most == 0:
            return [((), marks)]
        more = [
            (way + rest, last)
            for way, after in self.of(node.item, marks, apart)
            for rest, last in self._unrolled(node, max(least - 1, 0), most - 1, after, apart)
        ]
        enough: _Found = [((), marks)] if least == 0 else []
        if len(more) > LARGEST:
            raise _trouble(f"more than {LARGEST} ways to spell it out")
        return enough + more if node.style == "?" else more + enough

    def _group(self, number: int, item: nodes.Node, marks: _Marks, apart: bool) -> Iterator[tuple[Way, _Marks]]:
        if number in self.parsed.quoted:
            for way, after in self._words(item, marks):
                yield way, after | {number: "".join(part.word or "" for part in way if isinstance(part, Plain))}
        else:
            mark = {number: None} if number in self.parsed.tested else {}
            for way, after in self.of(item, marks, apart):
                yield way, after | mark

    def _words(self, item: nodes.Node, marks: _Marks) -> _Found:
        """All texts of a node, one way each."""
        found: _Found = []
        for way, after in self.of(item, marks, True):
            texts = _texts(way)
            if texts is None or len(found) + len(texts) > LARGEST:
                raise _trouble(
                    "a reference to a group of endlessly, or very, many texts",
                    r"write the letters of the group out, ([0-9])\1 for (\d)\1",
                )
            found += [((_spelled(text),), after) for text in texts]
        return found

    def _if(self, node: nodes.If, marks: _Marks, apart: bool) -> Iterator[tuple[Way, _Marks]]:
        if not isinstance(node.condition, nodes.Look):
            yield from self.of(node.yes if self.parsed.number(node.condition) in marks else node.no, marks, apart)
            return
        look = node.condition
        for branch, negative in ((node.yes, look.negative), (node.no, not look.negative)):
            for way, after in self.of(branch, marks, apart):
                yield (Condition(tuple(self._closed(look.item, marks, False)), look.ahead, negative), *way), after

    def _closed(self, item: nodes.Node, marks: _Marks, apart: bool) -> list[Way]:
        """Ways of something that no reference reaches into."""
        found = self.of(item, marks, apart)
        if any(after != marks for _, after in found):
            raise _trouble("a reference to a group inside of something atomic or looked at")
        return [way for way, _ in found]

    @contextlib.contextmanager
    def _inside(self, group: int | str) -> Iterator[nodes.Node]:
        """A group's pattern, once."""
        number = self.parsed.number(group)
        if number in self.open or number == 0:
            raise _trouble("a pattern that calls itself", r"""a grammar: lark('start: "(" start? ")"')""")
        self.open.append(number)
        yield self.parsed.groups[number]
        self.open.pop()

    def plain(self, node: nodes.Node) -> Plain | None:
        """A node as it stands, in Rust's syntax, where that says all of it."""
        match node:
            case nodes.Piece(source):
                return Plain(source, False, _word(source))
            case nodes.Sequence(items):
                return _merged(tuple(plain for item in items if (plain := self.plain(item))), len(items))
            case nodes.Choice(options):
                all_ = [plain for option in options if (plain := self.plain(option))]
                source = "|".join(plain.source for plain in all_)
                return Plain(f"(?:{source})", any(p.empty for p in all_)) if len(all_) == len(options) else None
            case nodes.Repeat(item, least, most, style) if style != "+":
                plain = self.plain(item)
                return plain and _times(plain, least, most)
            case nodes.Group(number, item) if number not in self.parsed.quoted | self.parsed.tested:
                return self.plain(item)
            case nodes.Call(group):
                with self._inside(group) as item:
                    return self.plain(item)
        return None


def _merged(way: Way, size: int | None = None) -> Plain | None:
    """Plain patterns one after the other as one; ``None`` where some part is not plain, or there are not ``size``."""
    parts = [part for part in way if isinstance(part, Plain)]
    if len(parts) != len(way) or len(parts) != (len(way) if size is None else size):
        return None
    words = [part.word for part in parts]
    word = None if None in words else "".join(word for word in words if word)
    return Plain("".join(part.source for part in parts), all(part.empty for part in parts), word)


def _times(item: Plain, least: int, most: int | None) -> Plain:
    if least == most == 1:
        return item
    count = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get(
        (least, most), f"{{{least},{'' if most is None else most}}}"
    )
    word = item.word * least if item.word is not None and least == most else None
    return Plain(f"(?:{item.source}){count}", item.empty or least == 0, word)


def _spelled(word: str) -> Plain:
    return Plain(re.sub(r"[\\.+*?()|\[\]{}^$]", r"\\\g<0>", word), not word, word)


def _word(source: str) -> str | None:
    """The character that a piece stands for, where it is written out."""
    if len(source) == 1:
        return None if source == "." else source
    return source[1] if len(source) == 2 and source[0] == "\\" and not source[1].isalnum() else None


def _texts(way: Way) -> list[str] | None:
    """All texts of a way; ``None`` where they are too many or not known."""
    texts = [""]
    for part in way:
        item, least, most = (part.item, part.least, part.most) if isinstance(part, Loop) else (part, 1, 1)
        letters = _letters(item) if isinstance(item, Plain) else None
        if letters is None or most is None or sum(len(letters) ** n for n in range(least, most + 1)) > LARGEST:
            return None
        more = ["".join(some) for n in range(least, most + 1) for some in itertools.product(letters, repeat=n)]
        texts = [text + tail for text in texts for tail in more]
        if len(texts) > LARGEST:
            return None
    return list(dict.fromkeys(texts))


def _letters(item: Plain) -> list[str] | None:
    if item.word is not None:
        return [item.word]
    # A class that lists letters, without escapes, sets of sets or a complement, has no others than those between its ends.
    if re.fullmatch(r"\[[A-Za-z0-9_]([A-Za-z0-9_ ]|-(?=[A-Za-z0-9]))*\]", item.source):
        return [chr(code) for code in range(128) if re.fullmatch(item.source, chr(code))]
    return None


def _in_order(ways_: list[Way]) -> Iterator[Way]:
    """Ways of an atomic group: each on condition that none before it fits, its loop as long as it gets (or short)."""
    earlier: list[Way] = []
    for way in ways_:
        if any(isinstance(part, Loop) for part in way[:-1]):
            raise _trouble("an atomic group with a loop before its end")
        guard = (Condition(tuple(earlier), True, True),) if earlier else ()
        last = way[-1] if way else None
        if isinstance(last, Loop):
            shortest = (*way[:-1], _times(last.item, last.least, last.least))
            over = Condition(((last.item,),), True, True)
            if last.style == "?":
                yield (*guard, *shortest)
            elif last.most is None:
                yield (*guard, *way[:-1], _times(last.item, last.least, None), over)
            else:
                yield (*guard, *way[:-1], _times(last.item, last.most, last.most))
                yield (*guard, *way[:-1], _times(last.item, last.least, last.most - 1), over)
            earlier.append(shortest)
        else:
            yield (*guard, *way)
            earlier.append(way)
