"""What the tagger sees of a word: spellings, shapes and neighbours, hashed into one table."""

import re
import zlib
from collections.abc import Sequence

import numpy as np

from smcinfer.arrays import Int

EDGE = "\x00"
"""Stands where a neighbour is missing."""


def shape(word: str) -> str:
    """Letters by class: ``Mc42-x`` is ``Xx00-x``."""
    return re.sub(r"\d", "0", re.sub(r"[^\W\d_]", lambda letter: "X" if letter[0].isupper() else "x", word))


def short_shape(word: str) -> str:
    """The shape with runs cut to one letter: ``Mc42-x`` is ``Xx0-x``."""
    return re.sub(r"(.)\1+", r"\1", shape(word))


def describe(words: Sequence[str], place: int) -> list[str]:
    """The features of one word, always as many, each under a name of its own."""

    def near(offset: int) -> str:
        return words[place + offset] if 0 <= place + offset < len(words) else EDGE

    word, lower = words[place], words[place].lower()
    cased = [other for other in words if other[:1].isalpha()]
    loud = round(4 * sum(other[0].isupper() for other in cased) / max(len(cased), 1))
    parts = [
        word,
        lower,
        *(lower[:size] for size in (1, 2, 3, 4)),
        *(lower[-size:] for size in (1, 2, 3, 4)),
        shape(word),
        short_shape(word),
        f"{word[:1].isupper()}{place == 0}{loud}",
        f"{short_shape(word)}{loud}",
        *(near(offset).lower() for offset in (-2, -1, 1, 2)),
        *(short_shape(near(offset)) for offset in (-1, 1)),
        f"{near(-1).lower()} {lower}",
        f"{lower} {near(1).lower()}",
        f"{short_shape(near(-1))} {short_shape(word)} {short_shape(near(1))}",
        f"{near(-1)[-3:].lower()} {short_shape(word)}",
        f"{short_shape(word)} {near(1)[-3:].lower()}",
    ]
    return [f"{name}={part}" for name, part in enumerate(parts)]


NUM_FEATURES = len(describe(["a"], 0))


def hashed(words: Sequence[str], num_rows: int) -> Int[np.ndarray, "words features"]:
    """Rows of a table of ``num_rows`` for every feature of every word, by CRC-32: the same on every machine."""
    rows = [[zlib.crc32(part.encode()) % num_rows for part in describe(words, place)] for place in range(len(words))]
    return np.array(rows, np.int32).reshape(len(words), NUM_FEATURES)


def repeated(words: Sequence[str]) -> list[tuple[int, int]]:
    """Places of neighbouring occurrences of one capitalised word of at least two letters: the skip edges."""
    last: dict[str, int] = {}
    pairs = []
    for place, word in enumerate(words):
        if len(word) > 1 and word[0].isupper():
            if word in last:
                pairs.append((last[word], place))
            last[word] = place
    return pairs
