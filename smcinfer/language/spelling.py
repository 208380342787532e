"""The bytes of every token, so that text can be read inside a compiled program, whatever the tokens it was cut into."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Int, UInt
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.letters import in_words
from smcinfer.language.networks.tokenizer import Tokenizer

SPACE = "▁"
"""What stands for a space inside the tokens of sentencepiece vocabularies."""


class Spelling(eqx.Module):
    """Bytes of the tokens of one vocabulary (made by `spelling`).

    Attributes:
        table: UInt8["V W"], the bytes of each token, the rest zero.
        sizes: Int["V"], how many each has; special tokens have none.
    """

    table: UInt[Array, "vocab width"]
    sizes: Int[Array, " vocab"]

    def read(
        self, tokens: Int[Array, " tokens"], length: Int[Array, ""]
    ) -> tuple[UInt[Array, " bytes"], Int[Array, ""]]:
        """The bytes of a sequence, those of its first ``length`` tokens.

        Returns:
            UInt8["T W"], zero after the end; and how many there are.
        """
        width = self.table.shape[1]
        # A token beyond the vocabulary's (models pad theirs) spells nothing.
        known = self.sizes.at[tokens].get(mode="fill", fill_value=0)
        sizes = jnp.where(jnp.arange(tokens.shape[0]) < length, known, 0)
        ends = jnp.cumsum(sizes)
        place = jnp.arange(width)
        # Bytes of no token go one past the end, where they are dropped.
        target = jnp.where(place < sizes[:, None], (ends - sizes)[:, None] + place, tokens.shape[0] * width)
        text = jnp.zeros((tokens.shape[0] * width,), jnp.uint8)
        return text.at[target].set(self.table[tokens], mode="drop"), ends[-1].astype(jnp.int32)


def spelling(tokenizer: Tokenizer) -> Spelling:
    """The bytes of every token of a vocabulary.

    Args:
        tokenizer: of byte-level BPE (GPT-2, Llama 3, Qwen) or sentencepiece style (Llama 2).

    Raises:
        ArgumentError: for a vocabulary whose tokens are not bytes that follow each other.
    """
    tokens = tokenizer.tokens()
    special = tokenizer.special_ids()
    letters = _byte_letters() if _is_byte_level(tokens) else None
    spelled = [b"" if id in special or token is None else _bytes(token, letters) for id, token in enumerate(tokens)]
    width = max(map(len, spelled))
    if width == 0:
        raise ArgumentError("the vocabulary has no text in it", expected="tokens that spell something", got=len(tokens))
    table = np.zeros((len(spelled), width), np.uint8)
    for row, word in zip(table, spelled, strict=True):
        row[: len(word)] = np.frombuffer(word, np.uint8)
    return Spelling(jnp.asarray(table), jnp.asarray([len(word) for word in spelled], jnp.int32))


def lower_case(text: UInt[Array, "*bytes"]) -> UInt[Array, "*bytes"]:
    """ASCII letters in lower case."""
    return jnp.where((text >= ord("A")) & (text <= ord("Z")), text + 32, text)


def is_word(text: UInt[Array, "*bytes"]) -> Bool[Array, "*bytes"]:
    """Which bytes belong to words as features count them: letters, digits, the apostrophe, everything beyond ASCII."""
    low = lower_case(text)
    letter = (low >= ord("a")) & (low <= ord("z"))
    digit = (text >= ord("0")) & (text <= ord("9"))
    return letter | digit | (text == ord("'")) | (text >= 128)


def occurs(
    text: UInt[Array, " bytes"],
    size: Int[Array, ""],
    word: bytes,
    *,
    ignore_case: bool = False,
    whole: bool = False,
    ended: Bool[Array, ""] | bool = True,
) -> Bool[Array, ""]:
    """Whether a word occurs in a text.

    Args:
        text, size: as `Spelling.read` returns them.
        word: what to look for, at least one byte.
        ignore_case: of ASCII letters.
        whole: whether only an occurrence that is no part of a longer word counts.
        ended: whether the text is complete: where it is not, the last word of it may still grow.
    """
    if text.shape[0] < len(word):
        return jnp.zeros((), bool)
    pattern = word.lower() if ignore_case else word
    seen = lower_case(text) if ignore_case else text
    starts = jnp.arange(text.shape[0] - len(word) + 1)
    match = starts + len(word) <= size
    for offset, byte in enumerate(pattern):
        match = match & (jax.lax.dynamic_slice_in_dim(seen, offset, starts.shape[0]) == byte)
    if whole:
        inside = jnp.concatenate([jnp.zeros(1, bool), in_words(text, size, ended), jnp.zeros(1, bool)])
        before, after = inside[: starts.shape[0]], inside[len(word) + 1 :][: starts.shape[0]]
        at_end = starts + len(word) == size
        match = match & ~before & jnp.where(at_end, ended, ~after)
    return jnp.any(match)


def _is_byte_level(tokens: list[str | None]) -> bool:
    """Whether the vocabulary spells bytes as letters, as GPT-2's does: it then has one token for each, and Ġ for a space."""
    return set(_byte_letters()) <= {token for token in tokens if token is not None}


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level vocabularies write each byte with: itself where it prints, else one from 256 up."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return letters | {chr(256 + rank): byte for rank, byte in enumerate(others)}


def _bytes(token: str, letters: dict[str, int] | None) -> bytes:
    if letters is not None:
        return bytes(letters[letter] for letter in token) if set(token) <= letters.keys() else token.encode()
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace(SPACE, " ").encode()
