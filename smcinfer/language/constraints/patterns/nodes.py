"""What a pattern is made of: characters in Rust's syntax, and what holds them together."""

from dataclasses import dataclass, field

from smcinfer.ground.errors import ArgumentError


class UnknownSyntaxError(ArgumentError):
    """A pattern that cannot be taken apart.

    Args:
        got: what is not known, and where.
        hint: how to write it, where that is known.
        misread: whether Rust's engine would read it, as something else.
    """

    def __init__(self, got: str, *, hint: str = "", misread: bool = False) -> None:
        super().__init__("the pattern cannot be read", got=got, hint=hint)
        self.hint = hint
        self.misread = misread


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
    """A place between a letter of a word and none, or not; ``letter`` is the class of such letters, in Rust's syntax."""

    negative: bool
    letter: str


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
        misread: whether Rust's engine would read it as something else: a possessive quantifier as a repeated repetition, a
            call of the whole pattern as a flag.
    """

    node: Node = Sequence()
    groups: dict[int, Node] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    tested: set[int] = field(default_factory=set)
    quoted: set[int] = field(default_factory=set)
    misread: bool = False

    def number(self, group: int | str) -> int:
        """The number of a group.

        Raises:
            UnknownSyntaxError: where there is none.
        """
        found = group if isinstance(group, int) else self.names.get(group, -1)
        if found not in self.groups and found != 0:
            raise UnknownSyntaxError(f"no group {group}")
        return found
