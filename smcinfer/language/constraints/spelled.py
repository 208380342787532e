r"""A grammar of JSON texts that holds for every spelling of them, around an engine that knows one of each (`spellings`).

A text belongs to the set where its plain spelling does: what is read is rewritten before the engine sees it, and what waits is
alive as long as something that it may become is.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np

from smcinfer.language.constraints.engine import Matcher
from smcinfer.language.constraints.spellings import BACKSLASH, SPECIAL, UNIT, Place, may_become, rewritten
from smcinfer.language.constraints.vocabulary import Vocabulary

_ENDS = (b",", b"]", b"}", b" ", b"\n", b"\r", b"\t", b":")


class ByteMatcher(Matcher):
    """A matcher that reads single bytes beside its tokens."""

    @abstractmethod
    def spells(self, text: bytes) -> bool:
        """Whether a text may come next, however it is cut."""

    @abstractmethod
    def read(self, text: bytes) -> Self:
        """The state after a text that may come next."""


class Tokens:
    """The tokens of a vocabulary by what a spelling can make of them.

    Attributes:
        words: bytes of every token.
        first: Int["V"], the first byte; -1 of special tokens.
        escaped: Bool["V"], that have a backslash, or a letter that JSON has escaped only.
        fractions: Bool["V"], that have a point in a number, as far as the token alone tells.
        zeros: Bool["V"], that have zeros at the end of digits, with which they begin.
        closing: Bool["V"], that have a quote.
        hexes: Int["V"], hexadecimal digits that a token begins with.
        all_hex: Bool["V"], that have nothing else.
    """

    def __init__(self, words: Vocabulary) -> None:
        self.words = words
        self.first = np.array([word[0] if word else -1 for word in words])
        self.escaped = self._that(rb"[\\\x7f]")
        self.fractions = self._that(rb"(^|\d)\.(\d|$)")
        self.zeros = self._that(rb"^\d*0(\D|$)")
        self.closing = self._that(rb'"')
        self.hexes = np.array([len(word) - len(word.lstrip(b"0123456789abcdefABCDEF")) for word in words])
        self.all_hex = self._that(rb"^[0-9a-fA-F]+$")

    def starting(self, letters: bytes) -> np.ndarray:
        """Bool["V"], whose first byte is one of these."""
        return np.isin(self.first, list(letters))

    def _that(self, pattern: bytes) -> np.ndarray:
        found = re.compile(pattern)
        return np.array([bool(word) and found.search(word) is not None for word in self.words])


class Spelled(Matcher):
    """A matcher of JSON texts in any spelling.

    Args:
        inner: the engine after the plain spelling of what was read.
        tokens: the vocabulary.
        place, waiting: as in `Read`.
    """

    def __init__(self, inner: ByteMatcher, tokens: Tokens, place: Place = Place.VALUE, waiting: bytes = b"") -> None:
        self._inner, self._tokens, self._place, self._waiting = inner, tokens, place, waiting

    def fork(self, token: int) -> "Spelled | None":
        """The state after one token more, where some text goes on from there."""
        word = self._tokens.words[token] if token < len(self._tokens.words) else b""
        read = rewritten(word, self._place, self._waiting) if word else None
        if read is None or not self._inner.spells(read.plain):
            return None
        after = Spelled(self._inner.read(read.plain), self._tokens, read.place, read.waiting)
        return after if after._goes_on() else None

    def mask(self) -> np.ndarray:
        """The engine's own bits of tokens that it takes as they are; those that a rewriting may help are tried one by one."""
        tokens, waiting, inside = self._tokens, self._waiting, self._place is Place.STRING
        tried = tokens.escaped | (tokens.fractions & tokens.closing if inside else tokens.fractions)
        if self._place is Place.FRACTION:
            numeric = tokens.starting(b"0123456789eE.")
            bits = self._bits(waiting, numeric) | self._bits(b"", ~numeric & (waiting != b"."))
            tried |= tokens.zeros
        elif waiting == BACKSLASH:
            bits = self._bits(waiting, tokens.starting(b'"bfnrt'))
            tried |= tokens.starting(b"u/")
        elif waiting:
            missing = -len(waiting) % UNIT
            tried = (tokens.hexes >= missing) | tokens.all_hex if missing < 5 else tokens.starting(b"u")
            tried, bits = tried if missing else tokens.starting(BACKSLASH), np.zeros_like(tried)
        else:
            bits = self._bits(b"", np.True_)
        for token in np.flatnonzero(tried & ~bits):
            bits[token] = self.fork(int(token)) is not None
        return np.packbits(bits, bitorder="little")

    def _bits(self, before: bytes, which: np.ndarray | np.bool) -> np.ndarray:
        """Bool["V"], those of some tokens without escapes that the engine takes after this much more."""
        size = len(self._tokens.words)
        if not self._inner.spells(before):
            return np.zeros(size, bool)
        inner = self._inner.read(before) if before else self._inner
        return np.unpackbits(inner.mask(), bitorder="little")[:size].astype(bool) & which & ~self._tokens.escaped

    def complete(self) -> bool:
        """Whether the plain spelling belongs to the set, and nothing waits that must go on."""
        return (self._place is Place.FRACTION or not self._waiting) and self._waiting != b"." and self._inner.complete()

    def _goes_on(self) -> bool:
        """Whether what waits can still become something that the engine takes."""
        if not self._waiting:
            return True
        if self._place is Place.FRACTION:
            ends = self._inner.complete() or any(map(self._inner.spells, _ENDS))
            return ends or self._inner.spells(self._waiting)
        return any(_some_letter(self._inner, *span) for span in may_become(self._waiting))


def _some_letter(inner: ByteMatcher, low: int, high: int) -> bool:
    """Whether the engine takes any letter of a range of code points."""
    special = [spelt for code, spelt in SPECIAL.items() if low <= code <= high]
    return any(map(inner.spells, special)) or _some_bytes(inner.spells, b"", low, high)


def _some_bytes(spells: Callable[[bytes], bool], begun: bytes, low: int, high: int) -> bool:
    """The same of letters that stand for themselves and begin with these bytes; what leads nowhere is left at once."""
    for code in _next_bytes(begun):
        longer = begun + bytes([code])
        first, last = _span(longer)
        if first > high or last < low or not spells(longer):
            continue
        if len(longer) == _length(longer[0]) or _some_bytes(spells, longer, low, high):
            return True
    return False


def _next_bytes(begun: bytes) -> Iterator[int]:
    """Bytes that may follow in UTF-8."""
    if begun:
        yield from range(0x80, 0xC0)
        return
    yield from (code for code in range(0x20, 0x7F) if code not in SPECIAL)
    yield from range(0xC2, 0xF5)


def _length(lead: int) -> int:
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def _span(begun: bytes) -> tuple[int, int]:
    """First and last code point whose bytes begin in this way."""
    length = _length(begun[0])
    value = begun[0] & (0x7F if length == 1 else 0xFF >> (length + 1))
    for code in begun[1:]:
        value = value << 6 | (code & 0x3F)
    rest = 6 * (length - len(begun))
    return value << rest, (value << rest) + (1 << rest) - 1
