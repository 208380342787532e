"""A door's parameters as options: one default, one description, objects built from words, and nothing ignored."""

import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from cyclopts import App

from smcinfer.cli.options import Door, command, described, spelled, word
from smcinfer.ground.errors import ArgumentError


class Rule:
    """A rule of steps."""


@dataclass(frozen=True)
class Even(Rule):
    """Steps of one size.

    Attributes:
        size: of a step.
    """

    size: float = 0.5


@dataclass(frozen=True)
class Growing(Rule):
    """Steps that grow.

    Attributes:
        size: of the first.
        factor: from one to the next,
            and so on.
    """

    size: float = 0.1
    factor: float = 2.0


@dataclass(frozen=True)
class Stops:
    """When to stop.

    Attributes:
        limit: steps at most.
    """

    limit: int = 7


@dataclass(frozen=True)
class Walk:
    """Walk there.

    Attributes:
        rule: ``"even"``, ``"growing"`` or a list.
        stops: when to stop.
    """

    rule: str | Rule | list[float] | None = None
    stops: Stops = field(default_factory=Stops)


@dataclass(frozen=True)
class LongJump:
    """Jump there.

    Attributes:
        height: metres.
    """

    height: int = 1


def travel(
    key: Any,
    *,
    num_days: int = 3,
    method: str | Walk | LongJump = "walk",
    shop: bool = True,
    night: bool = False,
    tags: tuple[str, ...] = (),
) -> None:
    """Go somewhere.

    Args:
        key: a key.
        num_days: how many
            days, in `days`.
        method: how to get there.
        shop, night: what to do.
        tags: labels.
    """


TRAVEL = Door(
    travel,
    "Travel",
    without=("key",),
    objects={"method": (Walk, LongJump), "rule": (Even, Growing), "stops": (Stops,)},
    flat=("method",),
)


@command
def go(where: str, /, *, options: Annotated[dict[str, Any], TRAVEL], seed: int = 0) -> tuple[str, dict[str, Any], int]:
    """Go.

    Args:
        where: the place.
        options: of `travel`.
        seed: of chance.
    """
    return where, options, seed


def call(line: str) -> Any:
    app = App(result_action="return_value", exit_on_error=False, print_error=False)
    app.default(go)
    return app(shlex.split(line))


def test_only_what_is_given_is_handed_on() -> None:
    assert call("there") == ("there", {}, 0)
    assert call("there --num-days 5 --no-shop --night --tags a --tags b --seed 2") == (
        "there",
        {"num_days": 5, "shop": False, "night": True, "tags": ("a", "b")},
        2,
    )


@pytest.mark.parametrize(
    ("line", "method"),
    [
        ("--method long_jump", "long_jump"),
        ("--method long_jump --height 3", LongJump(3)),
        ("--rule growing", Walk(rule="growing")),
        ("--rule-size .25", Walk(rule=Even(0.25))),
        ("--method walk --rule growing --rule-factor 3 --stops-limit 2", Walk(Growing(0.1, 3.0), Stops(2))),
        ("--rule .5,1", Walk(rule=[0.5, 1.0])),
        ("--method fly", "fly"),
    ],
)
def test_words_become_objects(line: str, method: Any) -> None:
    assert call(f"there {line}")[1] == {"method": method}


@pytest.mark.parametrize(
    ("line", "option", "beside"),
    [
        ("--method walk --height 3", "--height", "--method long_jump"),
        ("--height 3", "--height", "--method long_jump"),
        ("--method long_jump --rule even", "--rule", "--method walk"),
        ("--rule even --rule-factor 2", "--rule-factor", "--rule growing"),
        ("--rule .5,1 --rule-size 2", "--rule-size", "--rule even or --rule growing"),
        ("--method fly --stops-limit 2", "--stops-limit", "--method walk"),
    ],
)
def test_what_does_nothing_is_refused_by_name(line: str, option: str, beside: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call(f"there {line}")
    assert f"{option} does nothing here" in str(caught.value) and f"it beside {beside}\n" in str(caught.value)


def test_defaults_and_descriptions_are_the_functions_own() -> None:
    found = {option.name: option.declared for option in TRAVEL.options}
    assert list(found) == [
        "num_days",
        "method",
        "rule",
        "rule_size",
        "rule_factor",
        "stops_limit",
        "height",
        "shop",
        "night",
        "tags",
    ]
    said = {name: parameter.annotation.__metadata__[0].help for name, parameter in found.items()}
    assert said["num_days"] == "how many days, in days." and said["shop"] == said["night"] == "what to do."
    assert said["rule_factor"] == "from one to the next, and so on."
    assert {name: one.default for name, one in found.items()} == {
        "num_days": 3,
        "method": "walk",
        "rule": None,
        "rule_size": 0.5,
        "rule_factor": 2.0,
        "stops_limit": 7,
        "height": 1,
        "shop": True,
        "night": False,
        "tags": (),
    }


def test_a_command_may_have_other_defaults() -> None:
    door = Door(travel, "Travel", only=("num_days",), defaults={"num_days": 9})
    assert door.options[0].declared.default == 9
    assert door.arguments({}) == {"num_days": 9} and door.arguments({"num_days": 1}) == {"num_days": 1}


def test_a_parameter_that_no_word_can_give_is_found_at_once() -> None:
    def other(devices: list[object]) -> None: ...

    with pytest.raises(TypeError, match="no word can give devices"):
        _ = Door(other, "Other").options
    assert Door(other, "Other", without=("devices",)).options == ()


def test_a_name_that_would_mean_two_things_is_found_at_once() -> None:
    def other(height: int = 1, method: str = "walk") -> None: ...

    with pytest.raises(TypeError, match="--height means two things"):
        _ = Door(
            other, "Other", objects={"method": (Walk, LongJump), "rule": (Even,), "stops": (Stops,)}, flat=("method",)
        ).options


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (int | None, int),
        (str | Path | None, Path),
        (str | Callable[[int], int], str),
        (str | Rule | list[float], str | list[float]),
        (Literal["a", "b"] | None, Literal["a", "b"]),
        (tuple[str, ...], tuple[str, ...]),
        (Rule, None),
        (Any, None),
    ],
)
def test_what_of_a_type_a_word_can_give(annotation: Any, kind: Any) -> None:
    assert spelled(annotation) == kind


def test_names() -> None:
    assert [word(one) for one in (Even, LongJump)] == ["even", "long_jump"]
    assert described(lambda: None) == {}
    assert inspect.signature(go).parameters["where"].kind is inspect.Parameter.POSITIONAL_ONLY
