"""Running text to the words of a treebank and back: clitics and punctuation stand alone."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_WORD = re.compile(
    r"""[A-Za-z]+(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|(?:Mr|Mrs|Ms|Dr|St)\.|[A-Za-z]+|\d+(?:[.,]\d+)*|\.\.\.|\S"""
)
_CURLY = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "—": "-", "–": "-"})
_NO_SPACE_BEFORE = frozenset(
    {".", ",", "!", "?", ";", ":", "'s", "n't", "'re", "'ve", "'ll", "'d", "'m", ")", "]", "%", "..."}
)
_NO_SPACE_AFTER = frozenset({"(", "[", "$"})
_ENDS = frozenset({".", "!", "?", "..."})


def split_words(text: str) -> list[str]:
    """``"She didn't."`` as ``["She", "did", "n't", "."]``."""
    return _WORD.findall(text.translate(_CURLY))


def split_sentences(text: str) -> Iterator[list[str]]:
    """Sentences of a text as words: one ends at a full stop, with the quotation mark that closes it, or at a line's end."""
    for line in text.splitlines():
        sentence: list[str] = []
        quoted, ended = False, False
        for word in split_words(line):
            closing = word == '"' and quoted
            if ended and not closing:
                yield sentence
                sentence = []
            sentence.append(word)
            quoted = quoted != (word == '"')
            ended = word in _ENDS or (closing and ended)
        if sentence:
            yield sentence


def read_stories(path: Path) -> list[list[str]]:
    """The sentences of a file of stories parted by ``<|endoftext|>``, as words."""
    return list(split_sentences(path.read_text(encoding="utf8").replace("<|endoftext|>", "\n")))


def join_words(words: Iterable[str]) -> str:
    """Words as one would write them."""
    text, glue, quoted = "", True, False
    for word in words:
        closing = word == '"' and quoted
        text += word if glue or closing or word in _NO_SPACE_BEFORE else f" {word}"
        glue = word in _NO_SPACE_AFTER or (word == '"' and not quoted)
        quoted = quoted != (word == '"')
    return text
