"""Options of a command, taken from the signature and the docstring of the function behind it: a default stands once.

A command is a function whose own parameters are options. One that is annotated with a `Door` gives way to the parameters of
the function that the door names, and receives those that were given, as a dict to call that function with.
"""

import functools
import inspect
import itertools
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import docstring_parser
from cyclopts import Group, Parameter

from smcinfer.ground.errors import ArgumentError

ARGUMENTS = Group.create_default_arguments()
OPTIONS = Group("Options", sort_key=(2, 0))
"""Headings in ``--help`` of what a command has by itself; those of its doors stand between, in their order."""
_order = itertools.count()

WORDS = (Path, bool, int, float, str)
"""Types that a word on a command line can be read as; of several, the first is taken."""


@dataclass(frozen=True)
class Option:
    """One option: its name in Python, how it is declared, and which choice of another option it belongs to."""

    name: str
    declared: inspect.Parameter
    belongs: str = ""


@dataclass(frozen=True)
class Door:
    """A function whose parameters become options.

    Attributes:
        function: the function, with ``Args`` in its docstring.
        heading: over its options in ``--help``.
        only: the parameters taken; all of them where empty.
        without: parameters that no command line can give, or that the command gives itself.
        defaults: what the command has otherwise than the function.
        objects: for a parameter that takes an object, the classes it may be of. The first word of the option names one, as
            the function's own shorthand does, and the parameters of the classes are options too.
        flat: parameters among ``objects`` whose options carry no prefix.
        types: of a parameter whose annotation does not say what a word gives.
        help: what an option says where the docstring speaks of what only Python can give.
    """

    function: Callable[..., Any]
    heading: str
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, tuple[type, ...]] = field(default_factory=dict)
    flat: tuple[str, ...] = ()
    types: dict[str, Any] = field(default_factory=dict)
    help: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def group(self) -> Group:
        """The heading, as cyclopts has it."""
        return Group(self.heading, sort_key=(1, next(_order)))

    @functools.cached_property
    def options(self) -> tuple[Option, ...]:
        """Every option, once; one that several classes share is of them all.

        Raises:
            TypeError: for a parameter that no word can give, or a name that means two things.
        """
        found: dict[str, Option] = {}
        for option in self._options(self.function, "", ""):
            other = found.get(option.name)
            if other is not None:
                if not (other.belongs and option.belongs):
                    raise TypeError(f"{self.function.__name__}: --{dashed(option.name)} means two things")
                option = Option(option.name, other.declared, f"{other.belongs} or {option.belongs}")
            found[option.name] = option
        return tuple(found.values())

    def arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """What to call the function with.

        Args:
            given: name and value of the options that were given.

        Returns:
            Arguments of the function, objects built.

        Raises:
            ArgumentError: for an option that belongs to another choice than was made.
        """
        left = dict(given)
        arguments = self._arguments(self.function, "", left)
        for option in self.options:
            if option.name in left:
                raise ArgumentError(
                    f"--{dashed(option.name)} does nothing here",
                    expected=f"it beside {option.belongs}",
                    got=left[option.name],
                    hint="leave it out",
                )
        return arguments

    def _parameters(self, function: Callable[..., Any], prefix: str) -> Iterator[inspect.Parameter]:
        for parameter in inspect.signature(function, eval_str=True).parameters.values():
            name = prefix + parameter.name
            if name not in self.without and (prefix or not self.only or name in self.only):
                yield parameter

    def _options(self, function: Callable[..., Any], prefix: str, belongs: str) -> Iterator[Option]:
        text = described(function)
        for parameter in self._parameters(function, prefix):
            name = prefix + parameter.name
            classes = self.objects.get(parameter.name, ())
            if len(classes) != 1:
                kind = self.types.get(name) or spelled(parameter.annotation)
                if kind is None:
                    raise TypeError(f"{function.__name__}: no word can give {parameter.name}: {parameter.annotation}")
                default = self.defaults.get(name, parameter.default)
                help_text = self.help.get(name, text.get(parameter.name, ""))
                yield Option(name, declared(name, kind, default, help_text, self.group), belongs)
            for choice in classes:
                chosen = f"--{dashed(name)} {word(choice)}" if len(classes) > 1 else belongs
                yield from self._options(choice, self._inside(parameter.name, name), chosen)

    def _arguments(self, function: Callable[..., Any], prefix: str, left: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a function; the options they came from are taken out of ``left``."""
        arguments = {}
        for parameter in self._parameters(function, prefix):
            name = prefix + parameter.name
            given = name in left
            value = left.pop(name, self.defaults.get(name, parameter.default))
            classes = {word(choice): choice for choice in self.objects.get(parameter.name, ())}
            if classes:
                # Without a word the default's own; a default of None stands for the first.
                chosen = next(iter(classes)) if value is None or len(classes) == 1 else value
                inside = {}
                if isinstance(chosen, str) and chosen in classes:
                    inside = self._arguments(classes[chosen], self._inside(parameter.name, name), left)
                if inside:
                    given, value = True, classes[chosen](**inside)
            if given or name in self.defaults:
                arguments[parameter.name] = value
        return arguments

    def _inside(self, parameter: str, name: str) -> str:
        return "" if parameter in self.flat else f"{name}_"


def command[Function: Callable[..., Any]](function: Function) -> Function:
    """The function as the command line calls it: every parameter annotated with a `Door` gives way to the door's options."""
    hints, text = typing.get_type_hints(function, include_extras=True), described(function)
    doors: dict[str, Door] = {}
    parameters = []
    for name, parameter in inspect.signature(function).parameters.items():
        found = [part for part in getattr(hints[name], "__metadata__", ()) if isinstance(part, Door)]
        if found:
            doors[name] = found[0]
            parameters += [option.declared for option in found[0].options]
        else:
            positional = parameter.kind is not parameter.KEYWORD_ONLY
            one = declared(name, hints[name], parameter.default, text[name], ARGUMENTS if positional else OPTIONS)
            parameters.append(one.replace(kind=parameter.kind))

    @functools.wraps(function)
    def run(*positional: Any, **given: Any) -> Any:
        for name, door in doors.items():
            mine = {option.name: given.pop(option.name) for option in door.options if option.name in given}
            given[name] = door.arguments(mine)
        return function(*positional, **given)

    positional = [one for one in parameters if one.kind is not one.KEYWORD_ONLY]
    keywords = [one for one in parameters if one.kind is one.KEYWORD_ONLY]
    run.__signature__ = inspect.Signature([*positional, *keywords])  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    # All that it says of parameters is in their declarations by now.
    run.__doc__ = None
    return run  # pyright: ignore[reportReturnType]


def declared(name: str, kind: Any, default: Any, text: str, group: Group) -> inspect.Parameter:
    """An option as cyclopts reads it.

    Args:
        name: of the parameter; the option is ``--name`` with dashes.
        kind: its type.
        default: its value where it is left out; ``inspect.Parameter.empty`` where it must be given.
        text: what ``--help`` says of it.
        group: the heading it stands under in ``--help``.
    """
    switch = isinstance(default, bool)
    settings = Parameter(
        help=text,
        group=group,
        # The opposite of a switch that is off is to leave it out.
        negative=None if default is True else (),
        show_default=False if switch or default in (None, ()) else (lambda value: str(value)),
        converter=numbers if kind == str | list[float] else None,
    )
    kind = kind | None if default is None else kind
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, settings], default=default
    )


def spelled(annotation: Any) -> Any:
    """What of an annotation a word can give: a type or a choice of words; ``None`` where nothing of it can."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    members = typing.get_args(annotation) if union else (annotation,)
    for member in members:
        if typing.get_origin(member) is Literal:
            return member
    if str in members and list[float] in members:
        return str | list[float]
    if tuple[str, ...] in members:
        return tuple[str, ...]
    return next((kind for kind in WORDS if kind in members), None)


def numbers(_: Any, tokens: Any) -> str | list[float]:
    """A word as it is, or the numbers that it lists between commas."""
    text = tokens[0].value
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return text


def described(function: Callable[..., Any]) -> dict[str, str]:
    """What the docstring of a function or class says of each of its parameters, as plain words."""
    found = {}
    for entry in docstring_parser.parse(inspect.getdoc(function) or "", docstring_parser.DocstringStyle.GOOGLE).params:
        for name in entry.arg_name.split(","):
            found[name.strip()] = re.sub(r"`+", "", " ".join((entry.description or "").split()))
    return found


def word(choice: type) -> str:
    """The name of a class as a word of the command line: ``conditional_ess`` of ``ConditionalESS``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", choice.__name__).lower()


def dashed(name: str) -> str:
    """The name of an option as it is typed."""
    return name.replace("_", "-")
