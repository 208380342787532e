"""What the tagger sees of a word: spellings, shapes and neighbours, each feature known by its hash."""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from smcinfer.ground.arrays import Int, UInt

EDGE = "\x00"
"""Stands where a neighbour is missing."""

ALWAYS = "always="
"""A feature that every word has."""

LEAST = 2
"""Features seen less often in training have no weight."""


def shape(word: str) -> str:
    """Letters by class: ``Mc42-x`` is ``Xx00-x``."""
    return re.sub(r"\d", "0", re.sub(r"[^\W\d_]", lambda letter: "X" if letter[0].isupper() else "x", word))


def short_shape(word: str) -> str:
    """The shape with runs cut to one letter: ``Mc42-x`` is ``Xx0-x``."""
    return re.sub(r"(.)\1+", r"\1", shape(word))


def key(feature: str) -> int:
    """CRC-32: the same on every machine."""
    return zlib.crc32(feature.encode())


def spelling(word: str) -> str:
    """The feature that a word is spelt just so."""
    return f"0={word}"


def describe(words: Sequence[str], place: int, is_common: Callable[[str], bool]) -> list[str]:
    """The features of one word, always as many, each under a name of its own.

    Args:
        words: the sentence.
        place: of the word.
        is_common: whether a spelling was seen in training more than once: a capitalised word whose lower-case spelling was
            not is likelier to be a name.
    """

    def near(offset: int) -> str:
        return words[place + offset] if 0 <= place + offset < len(words) else EDGE

    def seen(offset: int) -> str:
        word = near(offset)
        return f"{is_common(word.lower())}{word[:1].isupper()}"

    word, lower = words[place], words[place].lower()
    cased = [other for other in words if other[:1].isalpha()]
    loud = round(4 * sum(other[0].isupper() for other in cased) / max(len(cased), 1))
    rough, kind = short_shape(word), f"{is_common(lower)}{short_shape(word)}"
    parts = [
        word,
        lower,
        *(lower[:size] for size in (1, 2, 3, 4)),
        *(lower[-size:] for size in (1, 2, 3, 4)),
        shape(word),
        rough,
        f"{word[:1].isupper()}{place == 0}{loud}",
        f"{rough}{loud}",
        *(near(offset).lower() for offset in (-2, -1, 1, 2)),
        *(short_shape(near(offset)) for offset in (-1, 1)),
        f"{near(-1).lower()} {lower}",
        f"{lower} {near(1).lower()}",
        f"{short_shape(near(-1))} {rough} {short_shape(near(1))}",
        f"{near(-1)[-3:].lower()} {rough}",
        f"{rough} {near(1)[-3:].lower()}",
        kind,
        f"{kind}{loud}",
        f"{seen(-1)} {seen(0)} {seen(1)}",
        f"{kind}{place == 0}",
        f"{near(-1).lower()} {kind}",
        f"{near(1).lower()} {kind}",
        f"{lower[-3:]} {seen(0)}",
        f"{lower[-2:]} {seen(0)}",
        f"{min(len(word), 10)} {seen(0)}",
    ]
    return [*(f"{name}={part}" for name, part in enumerate(parts)), ALWAYS]


NUM_FEATURES = len(describe(["a"], 0, lambda _: True))


def learn_keys(sentences: Iterable[Sequence[str]], least: int = LEAST) -> UInt[np.ndarray, " rows"]:
    """Hashes of the features seen at least ``least`` times, in order."""
    sentences = list(sentences)
    spelt = Counter(key(spelling(word)) for words in sentences for word in words)
    common = np.array(sorted(found for found, count in spelt.items() if count >= least), np.uint32)
    counts = Counter(value for words in sentences for value in _keys(words, common).ravel().tolist())
    return np.array(sorted(value for value, count in counts.items() if count >= least), np.uint32)


def rows(words: Sequence[str], keys: UInt[np.ndarray, " rows"]) -> Int[np.ndarray, "words features"]:
    """Where the features of every word are in ``keys``; their number where a feature has no weight."""
    found = _keys(words, keys)
    place = np.minimum(np.searchsorted(keys, found), max(len(keys) - 1, 0))
    return np.where(keys[place] == found, place, len(keys)).astype(np.int32)


def _keys(words: Sequence[str], common: UInt[np.ndarray, " rows"]) -> UInt[np.ndarray, "words features"]:
    def is_common(word: str) -> bool:
        value = key(spelling(word))
        place = int(np.searchsorted(common, np.uint32(value)))
        return place < len(common) and int(common[place]) == value

    known = {word: is_common(word) for word in {word.lower() for word in words} | {EDGE}}
    found = [[key(part) for part in describe(words, place, known.__getitem__)] for place in range(len(words))]
    return np.array(found, np.uint32).reshape(len(words), NUM_FEATURES)


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
