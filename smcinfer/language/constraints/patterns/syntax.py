"""Patterns in the syntax of Perl's family of engines, taken apart: what is regular in Rust's syntax is left as it stands."""

import re

from smcinfer.language.constraints.patterns import flags, nodes

_ANY = "(?s:.)"
_EDGES = {"^": nodes.Look(nodes.Piece(_ANY), False, True), "$": nodes.Look(nodes.Piece(_ANY), True, True)}
_LINE_EDGES = {"^": nodes.Look(nodes.Piece(r"[^\n]"), False, True), "$": nodes.Look(nodes.Piece(r"[^\n]"), True, True)}
_EDGE_ESCAPES = {"A": _EDGES["^"], "G": _EDGES["^"], "z": _EDGES["$"], "Z": _EDGES["$"]}
_COUNT = re.compile(r"\{(?:(\d+)(?:(,)(\d*))?|,(\d+))\}")
_UNCLEAR = re.compile(r"\{,\}")
"""A count to some, a text to others."""
_COMMENT, _SPACING = re.compile(r"\(\?#[^)]*\)"), re.compile(r"\s+|#[^\n]*")
_BARE_NAME = re.compile(r"\[\^?:\^?[a-z]+:\]")
"""The name of a class that is not in a class: the letters of the name, to Rust's engine."""
_MISREAD = re.compile(r"\(\?R\)|[*+?}]\+")
"""What Rust's engine reads as something else."""
_NAME = re.compile(r"\(\?P?<([A-Za-z_]\w*)>|\(\?'([A-Za-z_]\w*)'")
_CALL = re.compile(r"\(\?(?:&|P>)([A-Za-z_]\w*)\)|\(\?(R|\d+)\)")
_AGAIN = re.compile(r"\(\?P=([A-Za-z_]\w*)\)|\\k<([A-Za-z_]\w*)>|\\([1-9]\d?)")
_IF = re.compile(r"\(\?\((?:<?([A-Za-z_]\w*)>?|(\d+))\)")
_LOOKS = {"(?=": (True, False), "(?!": (True, True), "(?<=": (False, False), "(?<!": (False, True)}
_ESCAPE = re.compile(
    r"\\[pP]\{\^?[^}]*\}|\\[pP][A-Z]|\\x[0-9A-Fa-f]{2}|\\[xu]\{[0-9A-Fa-f]+\}|\\u[0-9A-Fa-f]{4}|\\.", re.DOTALL
)
_KNOWN_ESCAPES = set("dDwWsStnrfvaxupPbB")
_WAYS_OUT = {
    "h": r"[ \t]",
    "R": r"(?:\r\n|\n|\r)",
    "e": r"\x1b",
    "0": r"\x00",
    "N": r"[^\n], or \x{...} for a character",
    "X": r"(?s:.), or \p{L}\p{M}* for letters with their marks",
    "K": "nothing: the whole text is matched",
    "Q": "a backslash before each sign",
}


def _literal(sign: str) -> str:
    return "\\" + sign if sign in "\\.+*?()|[]{}^$" else sign


def parse(pattern: str) -> nodes.Parsed:
    """Take a pattern apart.

    Raises:
        UnknownSyntaxError: for syntax that is not known here, with its place.
    """
    return _Reader(pattern).whole()


def is_misread(pattern: str) -> bool:
    """Whether Rust's engine would read a pattern as something else (see `Parsed`)."""
    try:
        return parse(pattern).misread
    except nodes.UnknownSyntaxError as error:
        return error.misread


class _Reader:
    """A pattern, and how far it was read."""

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0
        self.count = 0
        self.flags: frozenset[str] = frozenset()
        self.parsed = nodes.Parsed()
        self.tested: list[int | str] = []
        self.quoted: list[int | str] = []

    def whole(self) -> nodes.Parsed:
        """Read the pattern from beginning to end."""
        self.parsed.node = self._choice()
        if self.at < len(self.text):
            raise self._trouble("unopened group")
        self.parsed.tested = {self.parsed.number(group) for group in self.tested}
        self.parsed.quoted = {self.parsed.number(group) for group in self.quoted}
        return self.parsed

    def _trouble(self, reason: str, hint: str = "", misread: bool = False) -> nodes.UnknownSyntaxError:
        misread = misread or _MISREAD.search(self.text) is not None
        return nodes.UnknownSyntaxError(
            f"{reason} at {self.at}: {self.text[self.at :][:20]!r}", hint=hint, misread=misread
        )

    def _takes(self, token: str) -> bool:
        found = self.text.startswith(token, self.at)
        self.at += len(token) * found
        return found

    def _matches(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        found = expression.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found

    def _choice(self, reset: bool = False) -> nodes.Node:
        first, last, options = self.count, self.count, [self._sequence()]
        while self._takes("|"):
            last = max(last, self.count)
            self.count = first if reset else self.count
            options.append(self._sequence())
        self.count = max(last, self.count)
        return options[0] if len(options) == 1 else nodes.Choice(tuple(options))

    def _sequence(self) -> nodes.Node:
        items = []
        self._skip()
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            items.append(self._repeated(self._item()))
            self._skip()
        return items[0] if len(items) == 1 else nodes.Sequence(tuple(items))

    def _skip(self) -> None:
        """Pass comments, and spaces where they are free."""
        while self._matches(_COMMENT) or ("x" in self.flags and self._matches(_SPACING)):
            pass

    def _repeated(self, item: nodes.Node) -> nodes.Node:
        while True:
            self._skip()
            if counted := self._matches(_COUNT):
                least = int(counted[1] or 0)
                last = counted[4] if counted[1] is None else counted[3] if counted[2] else counted[1]
                most = int(last) if last else None
            elif sign := next((sign for sign in "*+?" if self._takes(sign)), ""):
                least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
            else:
                return item
            if isinstance(item, nodes.Look | nodes.Boundary) or (most is not None and most < least):
                raise self._trouble("nothing to repeat")
            style = next((style for style in "?+" if self._takes(style)), "")
            self.parsed.misread |= style == "+"
            item = nodes.Repeat(item, least, most, style)

    def _item(self) -> nodes.Node:
        if self.text[self.at] == "(":
            return self._group()
        if self.text[self.at] == "[":
            return nodes.Piece(flags.under(self.flags, self._class()))
        if again := self._matches(_AGAIN):
            return self._quoted(again)
        if self.text[self.at] == "\\":
            return self._escape()
        sign = self.text[self.at]
        if _UNCLEAR.match(self.text, self.at):
            raise self._trouble("a count to some engines, a text to others", r"{0,} for a count, \{,\} for a text")
        if sign in "*+?":
            raise self._trouble("nothing to repeat")
        self.at += 1
        if sign in _EDGES:
            return (_LINE_EDGES if "m" in self.flags else _EDGES)[sign]
        return nodes.Piece(flags.under(self.flags, sign if sign == "." else _literal(sign)))

    def _quoted(self, found: re.Match[str]) -> nodes.Again:
        group = next(int(text) if text.isdigit() else text for text in found.groups() if text)
        self.quoted.append(group)
        return nodes.Again(group)

    def _escape(self) -> nodes.Node:
        found = self._matches(_ESCAPE)
        if found is None:
            raise self._trouble("an escape without an end")
        sign = found[0][1]
        if sign in "bB":
            return nodes.Boundary(sign == "B", flags.letter_of_words(self.flags))
        if sign in _EDGE_ESCAPES:
            return _EDGE_ESCAPES[sign]
        if sign.isalnum() and sign not in _KNOWN_ESCAPES:
            self.at = found.start()
            instead = _WAYS_OUT.get(sign)
            raise self._trouble("unknown escape", "" if instead is None else f"write {instead}")
        source = found[0].replace("p{^", "P{") if sign.isalnum() else _literal(sign)
        return nodes.Piece(flags.under(self.flags, source))

    def _class(self) -> str:
        start, depth = self.at, 0
        if name := _BARE_NAME.match(self.text, self.at):
            raise self._trouble("the name of a class outside of a class", f"[{name[0]}]", misread=True)
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

    def _group(self) -> nodes.Node:
        before = self.flags
        if (setting := flags.SETTING.match(self.text, self.at)) and (setting[1] or setting[2] or setting[3] == ")"):
            return self._set(setting)
        node = self._plain_group()
        self.flags = before
        return node

    def _set(self, setting: re.Match[str]) -> nodes.Node:
        """Flags for a group, or for the rest of the one around."""
        before = self.flags
        on, off = set(setting[1]), set(setting[2] or "")
        if not (on | off) <= flags.KNOWN or off & {"a", "u"}:
            raise self._trouble("unknown flags")
        self.at = setting.end()
        self.flags = (before - ({"a"} if "u" in on else set()) | on) - off - {"u"}
        if {"a", "i"} <= self.flags:
            raise self._trouble("the flags a and i together", "spell out both cases of each letter, [Aa]")
        if setting[3] == ")":
            return nodes.Sequence()
        node = self._closed(self._choice())
        self.flags = before
        return node

    def _plain_group(self) -> nodes.Node:
        if again := self._matches(_AGAIN):
            return self._quoted(again)
        if call := self._matches(_CALL):
            self.parsed.misread |= call[2] == "R"
            return nodes.Call(call[1] or (0 if call[2] == "R" else int(call[2])))
        if self.text.startswith("(?(", self.at):
            return self._if()
        if self._takes("(?:"):
            return self._closed(self._choice())
        if self._takes("(?>"):
            return nodes.Atomic(self._closed(self._choice()))
        if self._takes("(?|"):
            return self._closed(self._choice(reset=True))
        for opening, (ahead, negative) in _LOOKS.items():
            if self._takes(opening):
                return nodes.Look(self._closed(self._choice()), ahead, negative)
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
        return nodes.Group(number, item)

    def _if(self) -> nodes.Node:
        condition: int | str | nodes.Look
        named = self._matches(_IF)
        if named is None:
            self.at += len("(?")
            look = self._plain_group()
            if not isinstance(look, nodes.Look):
                raise self._trouble("unknown condition")
            condition = look
        else:
            condition = named[1] or int(named[2])
        branches = self._closed(self._choice())
        if condition == "DEFINE":
            return nodes.Sequence()
        options = branches.options if isinstance(branches, nodes.Choice) else (branches, nodes.Sequence())
        if len(options) != 2:
            raise self._trouble("a condition has two branches")
        if not isinstance(condition, nodes.Look):
            self.tested.append(condition)
        return nodes.If(condition, *options)

    def _closed(self, node: nodes.Node) -> nodes.Node:
        if not self._takes(")"):
            raise self._trouble("unclosed group")
        return node
