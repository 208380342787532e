"""JSON Schemas against what they say: order of keys, spaces, escapes, calendar, bounds."""

import json
from typing import Any

import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.language.constraints import json_schema

BYTES = [b"", *(bytes([byte]) for byte in range(1, 256))]


def admits(text: str, schema: Any, **options: Any) -> bool:
    """Whether a text belongs to a schema's, read byte by byte."""
    tokens = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    constraint: Any = json_schema(schema, BYTES, 0, **options)
    return bool(constraint.memo.ask(tokens[None], np.array([len(tokens)], np.int32))[1][0])


def person(names: list[str]) -> dict[str, Any]:
    kinds = {"name": {"type": "string"}, "age": {"type": "integer"}}
    return {
        "type": "object",
        "properties": {name: kinds[name] for name in names},
        "required": names,
        "additionalProperties": False,
    }


WRITTEN = {"name": '{"name": "Jo", "age": 3}', "age": '{"age": 3, "name": "Jo"}'}


@pytest.mark.parametrize("names", [["name", "age"], ["age", "name"]])
def test_keys_come_in_the_order_of_the_schema(names: list[str]) -> None:
    inner = person(names)
    nested = {"type": "object", "properties": {"who": inner}, "required": ["who"], "additionalProperties": False}
    defined = {"$defs": {"p": inner}, "type": "array", "items": {"$ref": "#/$defs/p"}}
    value = json.loads(WRITTEN[names[0]])
    for first, text in WRITTEN.items():
        for schema, around in ((inner, "{}"), (nested, '{{"who": {}}}'), (defined, "[{}]")):
            assert admits(around.format(text), schema) == (first == names[0])
        for fixed in ({"const": value}, {"enum": [1, value]}, {"properties": {"who": {"const": value}}}):
            around = '{{"who": {}}}' if "properties" in fixed else "{}"
            assert admits(around.format(text), fixed) == (first == names[0])


@pytest.mark.parametrize(
    ("compact", "texts", "others"),
    [
        (
            True,
            ['{"name":"Jo","age":3}', '{"name": "Jo", "age": 3}'],
            ['{ "name":"Jo","age":3}', '{"name":  "Jo","age":3}'],
        ),
        (False, ['{"name":"Jo","age":3}', '{\n  "name": "Jo",\n  "age": 3\n}'], ['{"name":"Jo" "age":3}']),
    ],
)
def test_spaces_are_those_that_are_usual(compact: bool, texts: list[str], others: list[str]) -> None:
    schema = person(["name", "age"])
    assert all(admits(text, schema, compact=compact) for text in texts)
    assert not any(admits(text, schema, compact=compact) for text in others)


def test_what_json_dumps_writes_is_admitted() -> None:
    values = ["é", "a\n\x01", "😀", "plain", 3, -2.5, True, None, [1, "b"], {"a": {"b": []}}]
    for value in values:
        assert admits(json.dumps(value, ensure_ascii=False), {})
        if not isinstance(value, dict):
            assert admits(json.dumps(value), {}, escapes=True)
    assert not admits(json.dumps("é"), {"type": "string"})
    assert admits(json.dumps("é"), {"type": "string", "maxLength": 1}, escapes=True)
    assert not admits(json.dumps("éa"), {"type": "string", "maxLength": 1}, escapes=True)


def test_a_key_cannot_be_written_as_another() -> None:
    free = {"type": "object", "properties": {"a": {"type": "integer"}}}
    with pytest.raises(ArgumentError, match="additionalProperties"):
        json_schema(free, BYTES, 0, escapes=True)
    assert not admits('{"\\u0061": "x"}', free | {"additionalProperties": False}, escapes=True)


@pytest.mark.parametrize(
    ("day", "there"),
    [
        ("2023-02-29", False), ("2024-02-29", True), ("1900-02-29", False), ("2000-02-29", True), ("2023-02-28", True),
        ("2023-04-31", False), ("2023-04-30", True), ("2023-13-01", False), ("2023-00-10", False), ("2023-12-31", True),
    ],
)  # fmt: skip
def test_a_day_is_in_the_calendar(day: str, there: bool) -> None:
    assert admits(f'"{day}"', {"type": "string", "format": "date"}) == there
    assert admits(f'"{day}"', {"type": "string", "format": "date", "pattern": "^2"}) == (there and day[0] == "2")
    assert admits(f'"{day}T10:00:00Z"', {"type": "string", "format": "date-time"}) == there
    assert admits('{"format": "2023-02-29"}', {"properties": {"format": {"const": "2023-02-29"}}})


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "maximum": 2**63}, "the bound of an integer is too large"),
        ({"type": "integer", "minimum": -(2**53) - 1}, "the bound of an integer is too large"),
        ({"type": "array", "items": {"type": ["null", "integer"], "exclusiveMaximum": 1e300}}, "too large"),
        ({"anyOf": [{"type": "integer", "maximum": 2**60}]}, "too large"),
        ("true", "no JSON object"),
        ("[1]", "no JSON object"),
        ("[" * 100_000, "nested too deep"),
        ({"const": {1, 2}}, "no JSON"),
        ({"const": float("nan")}, "no JSON"),
    ],
)
def test_what_cannot_be_held_to_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        json_schema(schema, BYTES, 0)


def test_the_largest_bound_is_held() -> None:
    schema = {"type": "integer", "maximum": 2**53}
    assert admits(str(2**53), schema) and not admits(str(2**53 + 1), schema)
