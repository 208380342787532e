r"""One plain spelling for all that JSON has of a text.

JSON writes a letter in two ways or three (``é`` and ``\u00e9``, ``/`` and ``\/``) and a number in many (``1``, ``1.0``). The
plain spelling has letters as they are, control characters, ``"`` and ``\`` as ``json.dumps`` escapes them, and fractions
without zeros at their end. A text is rewritten byte by byte; what does not tell yet, an escape that has begun or zeros that a
digit may follow, waits.
"""

import re
from enum import Enum, auto
from typing import NamedTuple

BACKSLASH = b"\\"
UNIT = 6
"""Bytes of an escape of one unit of 16 bits; letters beyond have two."""

_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
_UNICODE = re.compile(rb"\\u([0-9a-fA-F]{0,4})")
SPECIAL = {ord(letter): f"\\{short}".encode() for short, letter in _SHORT.items() if short != "/"}
SPECIAL |= {code: f"\\u{code:04x}".encode() for code in (*range(32), 127) if code not in SPECIAL}
"""Letters that are escaped in the plain spelling too, by their code points."""

_DELETE = SPECIAL[127]

Ranges = list[tuple[int, int]]
"""Code points that an escape may still become, ends included."""


class Place(Enum):
    """Where in a JSON text its reader is."""

    VALUE = auto()
    STRING = auto()
    WHOLE = auto()
    FRACTION = auto()
    EXPONENT = auto()


class Read(NamedTuple):
    """A text read so far.

    Attributes:
        plain: what the engine is to see of it.
        place: where it ended.
        waiting: read, and not told yet: the beginning of an escape, or a point and zeros.
    """

    plain: bytes
    place: Place
    waiting: bytes


def rewritten(text: bytes, place: Place = Place.VALUE, waiting: bytes = b"") -> Read | None:
    """A text in its plain spelling, from where the last one ended; ``None`` where it is no JSON in any spelling.

    Args:
        text: what is read.
        place, waiting: as in `Read`, of what came before.
    """
    plain = b""
    for code in text:
        byte = bytes([code])
        if place is Place.FRACTION and not byte.isdigit():
            if waiting == b".":
                return None
            place, plain = (Place.WHOLE, plain + waiting) if byte in b"eE" else (Place.VALUE, plain)
            waiting = b""
        if place is Place.STRING and (waiting or byte == BACKSLASH):
            escape = _unescaped(waiting + byte)
            if escape is None:
                return None
            byte, waiting = escape
        elif place is Place.STRING:
            place, byte = (Place.VALUE, byte) if byte == b'"' else (place, _DELETE if code == 127 else byte)
        elif byte == b'"':
            place = Place.STRING
        elif place is Place.FRACTION:
            byte, waiting = (b"", waiting + byte) if byte == b"0" else (waiting + byte, b"")
        elif place is Place.WHOLE and byte == b".":
            place, byte, waiting = Place.FRACTION, b"", byte
        elif place is Place.WHOLE and byte in b"eE":
            place = Place.EXPONENT
        elif not (byte.isdigit() or (place is Place.EXPONENT and byte in b"+-")):
            place = Place.VALUE
        elif place is Place.VALUE:
            place = Place.WHOLE
        plain += byte
    return Read(plain, place, waiting)


def _unescaped(escape: bytes) -> tuple[bytes, bytes] | None:
    """The plain letter and nothing, or nothing and an escape to go on with; ``None`` where it is none."""
    if len(escape) == 2 and chr(escape[1]) in _SHORT:
        letter = ord(_SHORT[chr(escape[1])])
        return _plain(letter), b""
    spans = may_become(escape)
    if not spans:
        return None
    [(low, high), *more] = spans
    return (_plain(low), b"") if low == high and not more and len(escape) in (UNIT, 2 * UNIT) else (b"", escape)


def may_become(escape: bytes) -> Ranges:
    r"""What an escape that has begun may become: the half of a pair, ``\ud83d``, is the beginning of the whole."""
    first, second = escape[:UNIT], escape[UNIT:]
    units = _units(first)
    if units is None:
        return []
    if second:
        lower = _units(second)
        if lower is None or not 0xD800 <= units[0] <= 0xDBFF:
            return []
        low, high = max(lower[0], 0xDC00), min(lower[1], 0xDFFF)
        base = 0x10000 + ((units[0] - 0xD800) << 10) - 0xDC00
        return [(base + low, base + high)] if low <= high else []
    low, high = units
    pairs = max(low, 0xD800), min(high, 0xDBFF)
    spans = [(low, min(high, 0xD7FF)), (max(low, 0xE000), high)]
    spans.append((0x10000 + ((pairs[0] - 0xD800) << 10), 0x10000 + ((pairs[1] - 0xD800) << 10) + 0x3FF))
    return [(low, high) for low, high in spans if low <= high]


def _units(escape: bytes) -> tuple[int, int] | None:
    """First and last code unit that an escape of one unit may become."""
    found = _UNICODE.fullmatch(escape)
    if found is None:
        return (0, 0xFFFF) if escape == BACKSLASH else None
    digits = found[1].decode()
    return int(digits.ljust(4, "0"), 16), int(digits.ljust(4, "f"), 16)


def _plain(code: int) -> bytes:
    return SPECIAL.get(code) or chr(code).encode()
