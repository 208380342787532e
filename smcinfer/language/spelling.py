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


UNREADABLE = {
    "WordPiece": "whose tokens have a space before them or not",
    "WordLevel": "whose words have a space between them",
    "EndOfWord": "whose last token of a word has a space after it or not",
}
"""Kinds of tokenizers whose text is not that of the tokens one after the other."""

NUM_CHECKED = 256
"""Sequences of tokens that are spelt in both ways before a spelling is used."""


class Spelling(eqx.Module):
    """Bytes of the tokens of one vocabulary (made by `spelling`).

    Attributes:
        table: UInt8["V W"], the bytes of each token, the rest zero.
        sizes: Int["V"], how many each has; special tokens have none.
        vocabulary: the tokenizer's fingerprint.
    """

    table: UInt[Array, "vocab width"]
    sizes: Int[Array, " vocab"]
    vocabulary: str | None = eqx.field(static=True, default=None)

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
    if unreadable := tokenizer.parts & UNREADABLE.keys():
        raise ArgumentError(
            "the tokens of this vocabulary are not bytes that follow each other",
            expected="byte-level BPE, or sentencepiece",
            got=", ".join(f"{kind}, {UNREADABLE[kind]}" for kind in sorted(unreadable)),
            hint="on_text reads whole texts, and runs of token ids need no spelling",
        )
    tokens, special, added = tokenizer.tokens(), tokenizer.special_ids(), tokenizer.added_ids()
    letters = _byte_letters() if "ByteLevel" in tokenizer.parts or _is_byte_level(tokens) else None
    spelled = [
        b"" if id in special or token is None else token.encode() if id in added else _bytes(token, letters)
        for id, token in enumerate(tokens)
    ]
    _check_spelled(tokenizer, [b"" if id in added else word for id, word in enumerate(spelled)])
    width = max(map(len, spelled))
    if width == 0:
        raise ArgumentError("the vocabulary has no text in it", expected="tokens that spell something", got=len(tokens))
    table = np.zeros((len(spelled), width), np.uint8)
    for row, word in zip(table, spelled, strict=True):
        row[: len(word)] = np.frombuffer(word, np.uint8)
    sizes = jnp.asarray([len(word) for word in spelled], jnp.int32)
    return Spelling(jnp.asarray(table), sizes, tokenizer.fingerprint)


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


def _check_spelled(tokenizer: Tokenizer, spelled: list[bytes]) -> None:
    """Raise where the tokenizer itself writes some tokens otherwise: it does what is not known here."""
    words = [token for token, word in enumerate(spelled) if word]
    if not tokenizer.has_decoder() or not words:
        return
    rows = np.random.default_rng(0).choice(words, (NUM_CHECKED, 3))
    for row in rows.tolist():
        try:
            text = b"".join(spelled[token] for token in row).decode()
        except UnicodeDecodeError:
            # Half a letter is shown in more ways than one.
            continue
        # Sentencepiece puts a space before a text, and takes it away again.
        if tokenizer.decode(row) not in (text, text.removeprefix(" ")):
            raise ArgumentError(
                "the tokens of this vocabulary are not spelt as they are written",
                expected=repr(text)[:60],
                got=repr(tokenizer.decode(row))[:60],
                hint="on_text reads whole texts, and runs of token ids need no spelling",
            )


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level vocabularies write each byte with: itself where it prints, else one from 256 up."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return letters | {chr(256 + rank): byte for rank, byte in enumerate(others)}


def _bytes(token: str, letters: dict[str, int] | None) -> bytes:
    if letters is not None:
        if not set(token) <= letters.keys():
            raise ArgumentError(
                "a token is no sequence of bytes", expected="letters of a byte-level alphabet", got=repr(token)[:40]
            )
        return bytes(letters[letter] for letter in token)
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace(SPACE, " ").encode()
