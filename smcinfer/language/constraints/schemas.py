r"""JSON Schemas as the engine takes them: what it would read too wide or too narrow is spelt out, or refused.

The order of keys is the schema's own, in ``properties``, ``const`` and ``enum`` alike, wherever in it they stand.
"""

import json
from collections.abc import Iterator
from typing import Any

from smcinfer.ground.errors import ArgumentError

Schema = dict[str, Any]

LARGEST_BOUND = 2**53
"""Bounds of integers beyond it are not held exactly: the engine reads them in double precision."""

_LEAP = r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29"
_DAY = r"(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8])"
CALENDAR = rf"(?:\d{{4}}-(?:{_DAY})|{_LEAP})"
"""Days that there are: February 29 in leap years only, which the engine's own format does not see to."""
_FORMATS = {"date": f"^{CALENDAR}$", "date-time": f"^{CALENDAR}[Tt]"}

_ONE = ("items", "additionalItems", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else")
_SEVERAL = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def as_read(schema: str | Schema) -> str:
    """A schema as JSON that the engine holds to.

    Args:
        schema: JSON Schema, as text or as a dict.

    Raises:
        ArgumentError: for a schema that is no JSON object, or has bounds that the engine would not hold to.
    """
    if isinstance(schema, str):
        schema = _parsed(schema)
    if not isinstance(schema, dict):
        raise ArgumentError("the schema is no JSON object", expected='{"type": ...}', got=repr(schema)[:60])
    try:
        copied = json.loads(json.dumps(schema, allow_nan=False))
        for part in _parts(copied):
            _check(part)
            _spell_out(part)
        return json.dumps(copied)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            "the schema is no JSON", expected="what json.dumps takes, no more than some hundred deep", got=str(error)
        ) from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ArgumentError(
            "the schema is no JSON", expected="JSON", got=f"line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise ArgumentError(
            "the schema is nested too deep", expected="some hundred levels at most", got=str(error)
        ) from error


def _parts(schema: Any) -> Iterator[Schema]:
    """The schema and all schemas in it, not the values and names that it has too."""
    if not isinstance(schema, dict):
        return
    yield schema
    for name in _ONE:
        yield from _parts(schema.get(name))
    for name in _SEVERAL:
        for part in schema[name] if isinstance(schema.get(name), list) else []:
            yield from _parts(part)
    for name in _NAMED:
        for part in schema[name].values() if isinstance(schema.get(name), dict) else []:
            yield from _parts(part)


def _check(part: Schema) -> None:
    kinds = part.get("type", [])
    for name in _BOUNDS if "integer" in (kinds if isinstance(kinds, list) else [kinds]) else ():
        bound = part.get(name)
        if isinstance(bound, int | float) and abs(bound) > LARGEST_BOUND:
            raise ArgumentError(
                "the schema cannot be held to: the bound of an integer is too large",
                expected=f"{name} between -2^53 and 2^53",
                got=bound,
                hint='a string with a pattern, or {"type": "integer"} without the bound',
            )


def _spell_out(part: Schema) -> None:
    pattern = _FORMATS.get(part.get("format", "")) if isinstance(part.get("format", ""), str) else None
    if pattern is None:
        return
    if "pattern" in part:
        part["allOf"] = [*part.get("allOf", []), {"pattern": pattern}]
    else:
        part["pattern"] = pattern
