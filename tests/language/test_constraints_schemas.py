"""JSON Schemas against what they say: order of keys, spaces, spellings, calendar, bounds."""

import json
from typing import Any

import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.language.constraints import json_schema

BYTES = [b"", *(bytes([byte]) for byte in range(1, 256))]


def asked(constraint: Any, text: bytes) -> tuple[list[int], bool]:
    """The tokens that may follow a text, read byte by byte, and whether it may end."""
    ids = np.frombuffer(text + b" ", np.uint8).astype(np.int32)
    masks, complete = constraint.memo.ask(ids[None], np.array([len(text)]))
    return np.flatnonzero(np.unpackbits(masks[0], bitorder="little")).tolist(), bool(complete[0])


def admits(text: str, schema: Any, **options: Any) -> bool:
    """Whether a text belongs to a schema's, read byte by byte."""
    return asked(json_schema(schema, BYTES, 0, **options), text.encode())[1]


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
    for value in ["é", "a\n\x01\x7f", "😀", "plain/", 3, -2.5, 1e-7, True, None, [1, "b"], {"é": {"b": []}}]:
        assert admits(json.dumps(value), {}) and admits(json.dumps(value, ensure_ascii=False), {})


FREE = {"type": "object", "properties": {"a\nb": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "texts", "others"),
    [
        ({"type": "string", "maxLength": 1}, [r'"\u00e9"', r'"\ud83d\ude00"', r'"\/"', r'"\u002F"', r'"\u0022"', '"\x7f"'],
         [r'"\u00e9a"', r'"\ud83d"', r'"\ude00"', r'"\ud83d\u0041"', r'"\u00g0"', r'"\x"', '"\n"']),
        ({"enum": ["no/é", 12, 1.5]}, [r'"no\/\u00E9"', r'"\u006eo/é"', "12", "12.0", "12.000", "1.5", "1.50"],
         [r'"\u006fo/é"', "12.", "12.01", "1.05", "120", "1.2e1"]),
        ({"type": "string", "pattern": "^[a-c]+$"}, [r'"\u0061b"'], [r'"\u0064"', r'"\/"']),
        ({"type": "string", "format": "date"}, [r'"2024-02\u002d29"'], [r'"2023-02\u002d29"']),
        ({"type": "integer", "minimum": 5}, ["5.0", "12.00"], ["4.0", "5.5", "5.0.0", "05.0", "5.0e0"]),
        ({"type": "array", "items": {"type": "integer"}}, ["[1.0, 2,3.00]", "[-0.0]"], ["[1., 2]", "[1.02]", "[1.0 2]"]),
        ({"type": "number", "multipleOf": 0.5}, ["1.50", "2.0"], ["1.51"]),
        ({"type": "number"}, ["1.0e5", "1.50e-3", "1.0", "0.10"], ["1.e5", "1e"]),
        (FREE, [r'{"a\nb": 1}', r'{"\u0061\u000ab": 1.0, "c": "x"}', r'{"\u0063": "x"}'],
         [r'{"a\nb": "x"}', r'{"a\u000ab": "x"}', r'{"\u0061\u000Ab": "x"}', r'{"a\u000ab": 1.5}']),
    ],
)  # fmt: skip
def test_a_text_belongs_in_every_spelling(schema: Any, texts: list[str], others: list[str]) -> None:
    assert [text for text in texts if not admits(text, schema)] == []
    assert [text for text in others if admits(text, schema)] == []


TOKENS = [
    b"", *BYTES[1:], b'"a', b'": ', b"\\u", b"\\u00", b"61", b"e9", b"00e", b"\\ud83d", b"\\ude", b'\\"', b"1.0", b".0",
    b"n1.0", b'b": 1.0}', b"/a", b"u006", b"e5", b"0e", b"\xc3\xa9", b"\xf0\x9f", b"\x98\x80", b", ", b"a\\", b"\\\\",
    b"1.05", b"0,", b"00]",
]  # fmt: skip
SCHEMAS = [
    {"type": "object", "properties": {"ab": {"type": "integer"}, "é": {"enum": ["a/", "😀", 1.5]}}},
    {"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[0-9a]*$"}]}},
]
BEGUN = [
    "", "{", '{"a', '{"\\', '{"\\u', '{"\\u0', '{"\\u006', '{"\\u00e', '{"ab": ', '{"ab": 1', '{"ab": 1.', '{"ab": 1.0',
    '{"ab": -', '{"é": "', '{"é": "\\', '{"é": "\\ud83d', '{"é": "\\ud83d\\u', '{"é": "\\ud83d\\ude0', '{"é": "a\\',
    '{"é": 1', '{"é": 1.', '{"é": 1.5', '{"é": 1.50', '{"é": 1.50}', "[", "[1.", "[1.0", "[1.5", "[1.50", "[1e", '["',
    '["\\u', '["\\u00', '["\\ud', '["\\ud8', "[1.0]",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_mask_has_the_tokens_that_some_text_goes_on_from(schema: Any) -> None:
    """And no other: a token stands for its bytes, and what is begun can be ended."""
    constraint = json_schema(schema, TOKENS, 0)
    for begun in map(str.encode, BEGUN):
        leads_on = [any(asked(constraint, begun + token)) for token in TOKENS[1:]]
        assert asked(constraint, begun)[0] == [index for index, leads in enumerate(leads_on, start=1) if leads], begun


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
