"""What a vocabulary spells: the bytes of every token, and the token that ends a sequence."""

from typing import Any

import numpy as np

from smcinfer.ground.errors import ArgumentError
from smcinfer.language.spelling import spelling

Vocabulary = list[bytes]
"""The bytes of every token; empty for special ones, which no text has."""


def read_vocabulary(source: Any, eos_id: int | None = None) -> tuple[Vocabulary, int]:
    """The bytes of every token, and EOS.

    Args:
        source: what `language.load` returned; or the bytes themselves, ``[b"a", b"ab", ...]``.
        eos_id: the token that ends a sequence; the loaded model's own by default.

    Raises:
        ArgumentError: where nothing ends a sequence, or the source is no such thing.
    """
    if isinstance(source, list):
        words = list(source)
        if not all(isinstance(word, bytes) for word in words):
            raise ArgumentError("a vocabulary is made of bytes", expected="list[bytes]", got=type(words[0]).__name__)
    elif getattr(source, "tokenizer", None) is not None:
        found = spelling(source.tokenizer)
        table, sizes = np.asarray(found.table), np.asarray(found.sizes)
        words = [row[:size].tobytes() for row, size in zip(table, sizes, strict=True)]
        # Rows of the output matrix beyond the tokenizer's tokens are never drawn, nor tokens beyond the rows.
        words = words[: source.lm.vocab_size] + [b""] * (source.lm.vocab_size - len(words))
        eos_id = source.eos_id if eos_id is None else eos_id
    else:
        raise ArgumentError(
            "no vocabulary", expected="a loaded model with a tokenizer, or list[bytes]", got=type(source).__name__
        )
    eos_id = check_vocabulary(len(words), eos_id)
    words[eos_id] = b""
    return words, eos_id


def fingerprint(source: Any) -> str | None:
    """What tells the vocabulary of a loaded model from any other; ``None`` where it is given as bytes."""
    tokenizer = getattr(source, "tokenizer", None)
    return None if tokenizer is None else tokenizer.fingerprint


def check_vocabulary(vocab_size: int, eos_id: int | None) -> int:
    """The id of EOS, which every constraint needs.

    Raises:
        ArgumentError: where nothing ends a sequence.
    """
    if eos_id is None or not 0 <= eos_id < vocab_size:
        raise ArgumentError(
            "a constraint needs a token that ends a sequence", expected=f"eos_id in 0 .. {vocab_size - 1}", got=eos_id
        )
    return eos_id
