"""Patterns in the syntax of Perl's family of engines, taken apart: what is regular in Rust's syntax is left as it stands."""

import re
from dataclasses import dataclass, field

from smcinfer.ground.errors import ArgumentError


class UnknownSyntaxError(ArgumentError):
    """A pattern that cannot be taken apart."""


@dataclass(frozen=True)
class Piece:
    """One character, class or escape, in Rust's syntax."""

    source: str


@dataclass(frozen=True)
class Sequence:
    """One after the other."""

    items: tuple["Node", ...] = ()


@dataclass(frozen=True)
class Choice:
    """One of several, the first ones preferred."""

    options: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """Many times; ``most`` is ``None`` for any number, ``style`` is "" (greedy), "?" (lazy) or "+" (possessive)."""

    item: "Node"
    least: int
    most: int | None
    style: str


@dataclass(frozen=True)
class Group:
    """What a number stands for."""

    number: int
    item: "Node"


@dataclass(frozen=True)
class Atomic:
    """Matched in the preferred way or not at all."""

    item: "Node"


@dataclass(frozen=True)
class Look:
    """What must, or must not, come next (or before)."""

    item: "Node"
    ahead: bool
    negative: bool


@dataclass(frozen=True)
class Boundary:
    """A place between a letter of a word and none, or not."""

    negative: bool


@dataclass(frozen=True)
class Again:
    """What a group matched."""

    group: int | str


@dataclass(frozen=True)
class Call:
    """A group's pattern once more; 0 is the whole."""

    group: int | str


@dataclass(frozen=True)
class If:
    """One of two patterns, by whether a group took part, or by what comes next."""

    condition: int | str | Look
    yes: "Node"
    no: "Node"


Node = Piece | Sequence | Choice | Repeat | Group | Atomic | Look | Boundary | Again | Call | If


@dataclass
class Parsed:
    """A pattern, and what its groups are.

    Attributes:
        node: the whole.
        groups: by number.
        names: numbers by name.
        tested: groups whose taking part something depends on.
        quoted: groups whose text something repeats.
        possessive: whether a quantifier is.
    """

    node: Node = Sequence()
    groups: dict[int, Node] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    tested: set[int] = field(default_factory=set)
    quoted: set[int] = field(default_factory=set)
    possessive: bool = False

    def number(self, group: int | str) -> int:
        """The number of a group.

        Raises:
            UnknownSyntaxError: where there is none.
        """
        found = group if isinstance(group, int) else self.names.get(group, -1)
        if found not in self.groups and found != 0:
            raise UnknownSyntaxError("the pattern cannot be read", got=f"no group {group}")
        return found


_ANY = "(?s:.)"
_EDGES = {"^": Look(Piece(_ANY), False, True), "$": Look(Piece(_ANY), True, True)}
_EDGE_ESCAPES = {"A": _EDGES["^"], "G": _EDGES["^"], "z": _EDGES["$"]}
_COUNT = re.compile(r"\{(\d+)(,(\d*))?\}")
_UNCLEAR = re.compile(r"\{,\d+\}")
"""A count to some, a text to others."""
_NAME = re.compile(r"\(\?P?<([A-Za-z_]\w*)>|\(\?'([A-Za-z_]\w*)'")
_CALL = re.compile(r"\(\?(?:&|P>)([A-Za-z_]\w*)\)|\(\?(R|\d+)\)")
_AGAIN = re.compile(r"\(\?P=([A-Za-z_]\w*)\)|\\k<([A-Za-z_]\w*)>|\\([1-9]\d?)")
_IF = re.compile(r"\(\?\((?:<?([A-Za-z_]\w*)>?|(\d+))\)")
_LOOKS = {"(?=": (True, False), "(?!": (True, True), "(?<=": (False, False), "(?<!": (False, True)}
_ESCAPE = re.compile(
    r"\\[pP]\{\^?[^}]*\}|\\[pP][A-Z]|\\x[0-9A-Fa-f]{2}|\\[xu]\{[0-9A-Fa-f]+\}|\\u[0-9A-Fa-f]{4}|\\.", re.DOTALL
)
_KNOWN_ESCAPES = set("dDwWsStnrfvaxupPbB")


def _literal(sign: str) -> Piece:
    return Piece("\\" + sign if sign in "\\.+*?()|[]{}^$" else sign)


def parse(pattern: str) -> Parsed:
    """Take a pattern apart.

    Raises:
        UnknownSyntaxError: for syntax that is not known here, with its place.
    """
    return _Reader(pattern).whole()


def is_possessive(pattern: str) -> bool:
    """Whether a pattern has a quantifier that gives nothing back, ``a++`` say."""
    try:
        return parse(pattern).possessive
    except UnknownSyntaxError:
        return False


class _Reader:
    """A pattern, and how far it was read."""

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0
        self.count = 0
        self.parsed = Parsed()
        self.tested: list[int | str] = []
        self.quoted: list[int | str] = []

    def whole(self) -> Parsed:
        """All of it."""
        self.parsed.node = self._choice()
        if self.at < len(self.text):
            raise self._trouble("unopened group")
        self.parsed.tested = {self.parsed.number(group) for group in self.tested}
        self.parsed.quoted = {self.parsed.number(group) for group in self.quoted}
        return self.parsed

    def _trouble(self, reason: str) -> UnknownSyntaxError:
        return UnknownSyntaxError(
            "the pattern cannot be read", got=f"{reason} at {self.at}: {self.text[self.at :][:20]!r}"
        )

    def _takes(self, token: str) -> bool:
        found = self.text.startswith(token, self.at)
        self.at += len(token) * found
        return found

    def _matches(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        found = expression.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found

    def _choice(self, reset: bool = False) -> Node:
        first, last, options = self.count, self.count, [self._sequence()]
        while self._takes("|"):
            last = max(last, self.count)
            self.count = first if reset else self.count
            options.append(self._sequence())
        self.count = max(last, self.count)
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        items = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            items.append(self._repeated(self._item()))
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _repeated(self, item: Node) -> Node:
        while True:
            if counted := self._matches(_COUNT):
                least = int(counted[1])
                most = least if counted[2] is None else int(counted[3]) if counted[3] else None
            elif sign := next((sign for sign in "*+?" if self._takes(sign)), ""):
                least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
            else:
                return item
            if isinstance(item, Look | Boundary) or (most is not None and most < least):
                raise self._trouble("nothing to repeat")
            style = next((style for style in "?+" if self._takes(style)), "")
            self.parsed.possessive |= style == "+"
            item = Repeat(item, least, most, style)

    def _item(self) -> Node:
        if self.text[self.at] == "(":
            return self._group()
        if self.text[self.at] == "[":
            return Piece(self._class())
        if again := self._matches(_AGAIN):
            return self._quoted(again)
        if self.text[self.at] == "\\":
            return self._escape()
        sign = self.text[self.at]
        if sign in "*+?" or _UNCLEAR.match(self.text, self.at):
            raise self._trouble("nothing to repeat")
        self.at += 1
        return _EDGES[sign] if sign in _EDGES else _literal(sign) if sign != "." else Piece(sign)

    def _quoted(self, found: re.Match[str]) -> Again:
        group = next(int(text) if text.isdigit() else text for text in found.groups() if text)
        self.quoted.append(group)
        return Again(group)

    def _escape(self) -> Node:
        found = self._matches(_ESCAPE)
        if found is None:
            raise self._trouble("an escape without an end")
        sign = found[0][1]
        if sign in "bB":
            return Boundary(sign == "B")
        if sign in _EDGE_ESCAPES:
            return _EDGE_ESCAPES[sign]
        if sign.isalnum() and sign not in _KNOWN_ESCAPES:
            self.at = found.start()
            raise self._trouble("unknown escape")
        if not sign.isalnum():
            return _literal(sign)
        return Piece(found[0].replace("p{^", "P{"))

    def _class(self) -> str:
        start, depth = self.at, 0
        while self.at < len(self.text):
            sign = self.text[self.at]
            self.at += 2 if sign == "\\" else 1
            if sign == "[":
                depth += 1
                self._takes("^")
                self._takes("]")
            depth -= sign == "]"
            if depth == 0:
                return self.text[start : self.at]
        raise self._trouble("unclosed class")

    def _group(self) -> Node:
        if again := self._matches(_AGAIN):
            return self._quoted(again)
        if call := self._matches(_CALL):
            return Call(call[1] or (0 if call[2] == "R" else int(call[2])))
        if self.text.startswith("(?(", self.at):
            return self._if()
        if self._takes("(?:"):
            return self._closed(self._choice())
        if self._takes("(?>"):
            return Atomic(self._closed(self._choice()))
        if self._takes("(?|"):
            return self._closed(self._choice(reset=True))
        for opening, (ahead, negative) in _LOOKS.items():
            if self._takes(opening):
                return Look(self._closed(self._choice()), ahead, negative)
        named = self._matches(_NAME)
        if named is None and self.text.startswith("(?", self.at):
            raise self._trouble("unknown group")
        self.at += named is None
        self.count += 1
        number = self.count
        if named:
            name = named[1] or named[2]
            if name in self.parsed.names:
                raise self._trouble(f"the name {name} is given twice")
            self.parsed.names[name] = number
        item = self._closed(self._choice())
        self.parsed.groups.setdefault(number, item)
        return Group(number, item)

    def _if(self) -> Node:
        condition: int | str | Look
        named = self._matches(_IF)
        if named is None:
            self.at += len("(?")
            look = self._group()
            if not isinstance(look, Look):
                raise self._trouble("unknown condition")
            condition = look
        else:
            condition = named[1] or int(named[2])
        branches = self._closed(self._choice())
        if condition == "DEFINE":
            return Sequence()
        options = branches.options if isinstance(branches, Choice) else (branches, Sequence())
        if len(options) != 2:
            raise self._trouble("a condition has two branches")
        if not isinstance(condition, Look):
            self.tested.append(condition)
        return If(condition, *options)

    def _closed(self, node: Node) -> Node:
        if not self._takes(")"):
            raise self._trouble("unclosed group")
        return node
