"""Reads sentences with entity tags from CoNLL columns."""

from pathlib import Path
from typing import NamedTuple

from smcinfer.ground.errors import ArgumentError


class Sentence(NamedTuple):
    """Words and their tags, ``O`` or ``B-type`` or ``I-type``."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


def read_conll(path: str | Path) -> list[Sentence]:
    """Sentences of a file with a word and a tag a line, separated by a tab, and an empty line after each sentence.

    Raises:
        ArgumentError: there is no such file, a line has no tag, or a tag is neither ``O`` nor ``B-`` or ``I-`` of a type.
    """
    path = Path(path)
    if not path.is_file():
        raise ArgumentError(f"there is no file {path}", expected="a file in CoNLL columns", got="nothing")
    sentences, words, tags = [], [], []
    for number, line in enumerate([*path.read_text(encoding="utf8").split("\n"), ""], 1):
        word, _, rest = line.partition("\t")
        if line.strip():
            tag = rest.split("\t")[0].strip()
            if tag != "O" and tag[:2] not in ("B-", "I-"):
                raise ArgumentError(
                    f"line {number} of {path.name} has no tag",
                    expected="word, tab, O or B-type or I-type",
                    got=repr(line),
                )
            words.append(word)
            tags.append(tag)
        elif words:
            sentences.append(Sentence(tuple(words), tuple(tags)))
            words, tags = [], []
    return sentences
