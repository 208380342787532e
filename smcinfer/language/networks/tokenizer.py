"""Text to tokens and back, with the ids that begin and end a sequence."""

import functools
import hashlib
import itertools
import json
from typing import Any

import tokenizers

from smcinfer.ground.errors import ArgumentError


class Tokenizer:
    """A `tokenizers.Tokenizer` that compares by content, so that a compiled program can depend on it.

    Attributes:
        bos_id, eos_id: tokens that begin and end a sequence, or ``None``.
    """

    def __init__(self, inner: tokenizers.Tokenizer, bos_id: int | None = None, eos_id: int | None = None) -> None:
        self._inner = inner
        self.bos_id = bos_id
        self.eos_id = eos_id
        text = f"{bos_id} {eos_id} {inner.to_str()}"
        self._digest = hashlib.sha256(text.encode()).hexdigest()

    @functools.cached_property
    def fingerprint(self) -> str:
        """What tells this vocabulary from any other: its tokens in order, and which of them are no text."""
        text = json.dumps([self.tokens(), sorted(self.special_ids())])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return self._inner.get_vocab_size()

    @property
    def largest_id(self) -> int:
        """The largest id that encoding can give."""
        return max(self._inner.get_vocab().values())

    def ids_from(self, first: int) -> list[int]:
        """All ids of tokens from one on."""
        return sorted(token for token in self._inner.get_vocab().values() if token >= first)

    def tokens(self) -> list[str | None]:
        """Every token as the vocabulary writes it, by its id; ``None`` for an id without a token."""
        return [self._inner.id_to_token(token) for token in range(self.largest_id + 1)]

    def added_ids(self) -> frozenset[int]:
        """Tokens that were added to the vocabulary: they are written as they are, whatever spells the others."""
        return frozenset(self._inner.get_added_tokens_decoder())

    @functools.cached_property
    def parts(self) -> frozenset[str]:
        """Kinds of its model, pre-tokenizer and decoder, as ``tokenizer.json`` names them, sequences taken apart."""
        whole = json.loads(self._inner.to_str())
        model = whole["model"]
        found = {model["type"]} | ({"EndOfWord"} if model.get("end_of_word_suffix") else set())
        waiting = [whole["pre_tokenizer"], whole["decoder"]]
        while waiting:
            part = waiting.pop()
            if part is not None:
                found.add(part["type"])
                waiting += part.get("decoders", []) + part.get("pretokenizers", [])
        return frozenset(found)

    def has_decoder(self) -> bool:
        """Whether it says how tokens are put together, other than by a space between any two."""
        return self._inner.decoder is not None

    def special_ids(self) -> frozenset[int]:
        """Tokens that are no text: the beginning, the end, and the like."""
        return frozenset(id for id, token in self._inner.get_added_tokens_decoder().items() if token.special)

    def encode(self, text: str) -> list[int]:
        """Tokens of a prompt: what the tokenizer itself puts in front of a text, nothing after it; BOS alone for no text."""
        ids = self._ids(text)
        if ids[-1:] == [self.eos_id]:
            ids = ids[:-1]
        return ids or ([] if self.bos_id is None else [self.bos_id])

    def encode_continuation(self, before: str, text: str) -> list[int]:
        """Tokens of a text that follows another.

        Raises:
            ArgumentError: where the two together are not the tokens of the first and then others: the border lies inside
                a token.
        """
        head, whole = self.encode(before), self.encode(before + text)
        if whole[: len(head)] != head:
            raise ArgumentError(
                "the continuation does not start at the border of a token",
                expected=f"a text that goes on after {before[-20:]!r}",
                got=text[:40],
                hint="move the space or the cut word to the other side, or give the tokens themselves",
            )
        return whole[len(head) :]

    def encode_plain(self, text: str) -> list[int]:
        """Tokens of a text, nothing put around it."""
        return self._ids(text, add_special_tokens=False)

    def _ids(self, text: str, **options: bool) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ArgumentError(
                "the text has half a character in it, a lone surrogate",
                expected="text that UTF-8 can hold",
                got=f"{text[error.start]!r} at {error.start}",
                hint='text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") puts a sign in its place',
            ) from error
        return list(self._inner.encode(text, **options).ids)

    def decode(self, tokens: list[int]) -> str:
        """The text of some tokens, special ones left out."""
        if self._as_written.isdisjoint(tokens):
            return self._inner.decode(tokens, skip_special_tokens=True)
        runs = itertools.groupby(tokens, lambda token: token if token in self._as_written else None)
        return "".join(
            self._inner.decode(list(run), skip_special_tokens=True)
            if added is None
            else (self._inner.id_to_token(added) or "") * len(list(run))
            for added, run in runs
        )

    @functools.cached_property
    def _as_written(self) -> frozenset[int]:
        """Added tokens whose letters a byte-level decoder would take for bytes."""
        added = self._inner.get_added_tokens_decoder().items() if "ByteLevel" in self.parts else ()
        return frozenset(id for id, token in added if not token.special and not token.content.isascii())

    def decode_after(self, before: list[int], tokens: list[int]) -> str:
        """The text that tokens add to what came before them."""
        head, whole = self.decode(before), self.decode(before + tokens)
        return whole[len(head) :] if whole.startswith(head) else self.decode(tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)


def as_tokenizer(source: Any) -> Tokenizer:
    """The tokenizer itself, or that of a loaded model.

    Raises:
        ArgumentError: where there is none.
    """
    found = source if isinstance(source, Tokenizer) else getattr(source, "tokenizer", None)
    if not isinstance(found, Tokenizer):
        raise ArgumentError(
            "no tokenizer", expected="a Tokenizer, or a loaded model that has one", got=type(source).__name__
        )
    return found
