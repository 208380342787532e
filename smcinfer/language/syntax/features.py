"""What a network sees of a word: its number where the training knew it, and its beginning, ending and shape, hashed.

Any word has features, those that a language model makes up too. They are numbers of rows of one table, whose sum is the word's
vector.
"""

import dataclasses
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from smcinfer.ground.arrays import Int

_SUFFIX3, _SUFFIX2, _PREFIX, _SHAPE = 1024, 512, 512, 128


@dataclasses.dataclass(frozen=True)
class WordFeatures:
    """The features of words.

    Attributes:
        words: the words known by number, lower case; a word's place here is one less than its row.
    """

    words: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        """Rows of the table."""
        return 1 + len(self.words) + _SUFFIX3 + _SUFFIX2 + _PREFIX + _SHAPE

    def __call__(self, words: Sequence[str]) -> Int[np.ndarray, "words kinds"]:
        """Int["words 5"]: row of the word itself (0 if unknown), its last three and two letters, first three, and shape."""
        places = {word: number + 1 for number, word in enumerate(self.words)}
        first = 1 + len(self.words)
        rows = np.zeros((len(words), 5), np.int32)
        for at, word in enumerate(words):
            small = word.lower()
            rows[at, 0] = places.get(small, 0)
            rows[at, 1] = first + _hashed(small[-3:], _SUFFIX3)
            rows[at, 2] = first + _SUFFIX3 + _hashed(small[-2:], _SUFFIX2)
            rows[at, 3] = first + _SUFFIX3 + _SUFFIX2 + _hashed(small[:3], _PREFIX)
            rows[at, 4] = first + _SUFFIX3 + _SUFFIX2 + _PREFIX + _hashed(shape(word), _SHAPE)
        return rows


def word_features(words: Iterable[str], min_count: int = 2) -> WordFeatures:
    """Features that know the words occurring at least so often."""
    counts = Counter(word.lower() for word in words)
    return WordFeatures(tuple(sorted(word for word, count in counts.items() if count >= min_count)))


def either(first: WordFeatures, second: WordFeatures) -> WordFeatures:
    """Features that know the words of both."""
    return WordFeatures(tuple(sorted({*first.words, *second.words})))


def shape(word: str) -> str:
    """Capitals, small letters and digits as ``X``, ``x`` and ``d``, runs as one: ``"McNally-2"`` is ``"XxXx-d"``."""
    letters = "".join("X" if c.isupper() else "x" if c.isalpha() else "d" if c.isdigit() else c for c in word)
    return re.sub(r"(.)\1+", r"\1", letters)


def _hashed(text: str, size: int) -> int:
    return zlib.crc32(text.encode()) % size
