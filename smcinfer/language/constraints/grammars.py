"""Regular expressions, JSON Schema and context-free grammars, matched by llguidance.

The grammar is over bytes of text, whatever the tokens it is cut into; a token is allowed where all its bytes are. Left to
itself the engine would choose the tokens of bytes that a grammar forces, as serving systems want it: one cut instead of all.
"""

import json
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import llguidance
import numpy as np
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.language.constraints.engine import Engine, Memo
from smcinfer.language.constraints.patterns import UnknownSyntaxError, as_grammar, is_misread
from smcinfer.language.constraints.schemas import as_read
from smcinfer.language.constraints.spelled import ByteMatcher, Spelled, Tokens
from smcinfer.language.constraints.vocabulary import Vocabulary, fingerprint, read_vocabulary

BYTES = [bytes([code]) for code in range(256)]
"""Tokens by which a text is read whatever the vocabulary; none of them is ever drawn."""

ANY_CUT = '%llguidance {"no_forcing": true}'
"""Declares that a text may be cut into any tokens; the last such declaration of a grammar counts."""


class _RefusedError(ArgumentError):
    """What the engine refuses."""


class _Words:
    """The vocabulary in the form that llguidance reads."""

    bos_token_id = None

    def __init__(self, tokens: Vocabulary, eos_id: int) -> None:
        self.eos_token_id = eos_id
        self.special_token_ids = [index for index, word in enumerate(tokens) if not word]
        self.tokens = [word or f"<special {index}>".encode() for index, word in enumerate(tokens)]

    def __call__(self, text: bytes | str) -> list[int]:
        """Never asked: it is the engine's way to choose the tokens of forced bytes, which `ANY_CUT` takes from it."""
        raise AssertionError("a grammar's text is cut into tokens in every way")


class _Grammar(ByteMatcher):
    """llguidance's state after a prefix."""

    def __init__(self, inner: Any, vocab_size: int, special: frozenset[int]) -> None:
        """The state of an engine whose tokenizer has every single byte once more, beyond the vocabulary."""
        self._inner = inner
        self._vocab_size = vocab_size
        self._special = special

    def fork(self, token: int) -> "_Grammar | None":
        """A copy that has read the token."""
        if token in self._special or self._inner.is_stopped() or not self._inner.validate_tokens([token]):
            return None
        return self._after([token])

    def spells(self, text: bytes) -> bool:
        """Whether the engine takes a text, byte by byte."""
        return not text or (
            not self._inner.is_stopped() and self._inner.validate_tokens(self._single(text)) == len(text)
        )

    def read(self, text: bytes) -> "_Grammar":
        """A copy that has read the text."""
        return self._after(self._single(text))

    def _single(self, text: bytes) -> list[int]:
        return [self._vocab_size + code for code in text]

    def _after(self, tokens: list[int]) -> "_Grammar":
        copy = self._inner.deep_copy()
        copy.consume_tokens(tokens)
        return _Grammar(_working(copy), self._vocab_size, self._special)

    def mask(self) -> np.ndarray:
        """The engine's own bits; nothing once it has stopped."""
        bits = allocate_token_bitmask(1, self._vocab_size + len(BYTES))
        if self._inner.is_stopped():
            bits[:] = 0
        else:
            fill_next_token_bitmask(self._inner, bits, 0)
            _working(self._inner)
        return bits.view(np.uint8)[0, : -(-self._vocab_size // 8)].copy()

    def complete(self) -> bool:
        """Whether the grammar is satisfied."""
        return bool(self._inner.is_accepting())


def _working(inner: Any) -> Any:
    """The engine, unless it gave up: it allows nothing then, which must not pass for an answer."""
    # "No extension" is an answer, no token goes on, though the engine counts it among its errors.
    if inner.is_error() and not inner.get_error().startswith("NoExtension"):
        raise TargetError(
            "the grammar is too complex for its engine",
            got=inner.get_error().strip().split("\n")[0],
            hint="a simpler pattern or grammar for the same texts",
        )
    return inner


def regex(pattern: str, vocabulary: Any, eos_id: int | None = None) -> Engine:
    r"""Texts that a regular expression matches as a whole.

    Args:
        pattern: in the syntax of Rust's ``regex`` crate, and beyond it in that of Perl's family as far as it comes to a finite
            automaton: look-around, word boundaries, atomic groups, possessive quantifiers, conditions, calls of groups and
            references to groups of few texts (`smcinfer.language.constraints.patterns`). It must match all that is generated;
            ``^`` and ``$`` around it change nothing.
        vocabulary: what `language.load` returned; or the bytes of every token, ``[b"a", b"ab", ...]``.
        eos_id: the token that ends a sequence; the loaded model's own by default.

    Raises:
        ArgumentError: for a pattern that cannot be read, with the place, or is not regular, with the reason.
        TargetError: for one that is too complex for the engine.
    """
    refused: _RefusedError | None = None
    if not is_misread(pattern):
        try:
            return _engine("regex", _of_regex, _unanchored(pattern), vocabulary, eos_id)
        except _RefusedError as error:
            refused = error
    try:
        grammar = as_grammar(pattern)
    except UnknownSyntaxError as error:
        raise (error if error.hint or refused is None else refused) from None
    return _engine("regex", _of_lark, grammar, vocabulary, eos_id)


def json_schema(
    schema: str | dict[str, Any],
    vocabulary: Any,
    eos_id: int | None = None,
    *,
    compact: bool = True,
) -> Engine:
    r"""JSON texts that a schema allows, keys in the schema's order, letters and whole numbers in any spelling.

    A letter of a string, of a key as of a value, may be written as ``\uXXXX``, and a slash as ``\/``; an integer may be written
    as ``1.0``, as JSON Schema has it. What a schema says of a string or a key, it says of the letters that are meant.

    Args:
        schema: JSON Schema, as text or as a dict.
        vocabulary, eos_id: as in `regex`.
        compact: whether at most one space is allowed, after a colon or a comma, as ``json.dumps`` writes and most models do;
            else any number of spaces and lines anywhere, with which a model may go on for ever.

    Raises:
        ArgumentError: for a schema that is no JSON or that the engine cannot hold to, with the reason.

    Exponents are those of numbers without bounds, ``{"type": "number"}``. Whether ``15...0e-20`` is a whole number, or below a
    bound, is not told before its end.
    """
    spaces = {"item_separator": ", ?", "key_separator": ": ?", "whitespace_flexible": False}
    options = spaces if compact else {"whitespace_flexible": True}

    def compile_(text: str) -> list[dict[str, Any]]:
        compiled = json.loads(llguidance.LLMatcher.grammar_from_json_schema(text, overrides=options))
        return [*_of_lark("start: @json"), compiled["grammars"][0] | {"name": "json"}]

    source = as_read(schema)
    return _engine("JSON schema", compile_, source, vocabulary, eos_id, variant=repr(options), spelled=True)


def lark(grammar: str, vocabulary: Any, eos_id: int | None = None) -> Engine:
    """Texts of a context-free grammar.

    Args:
        grammar: in Lark's syntax; the rule ``start`` is the whole text. Terminals (quoted texts and patterns) are read as long
            as they can be, as Lark's lexers do: ``"a" "b" "c" | "ab" "d"`` has only the text abd. One terminal that is a
            pattern has all texts of the pattern.
        vocabulary, eos_id: as in `regex`.

    Raises:
        ArgumentError: for a grammar that cannot be read, with the place and the reason.
    """
    return _engine("grammar", _of_lark, grammar, vocabulary, eos_id)


def _unanchored(pattern: str) -> str:
    """The pattern without anchors around it: it matches from end to end anyhow, and anchors make the engine refuse it."""
    if pattern.startswith("^"):
        pattern = pattern[1:]
    escapes = len(pattern) - len(pattern[:-1].rstrip("\\")) - 1
    return pattern[:-1] if pattern.endswith("$") and escapes % 2 == 0 else pattern


def _of_regex(pattern: str) -> list[dict[str, Any]]:
    return json.loads(llguidance.LLMatcher.grammar_from_regex(pattern))["grammars"]


def _of_lark(grammar: str) -> list[dict[str, Any]]:
    return [{"lark_grammar": grammar}]


def _engine(
    kind: str,
    compile_: Callable[[Any], list[dict[str, Any]]],
    source: str,
    vocabulary: Any,
    eos_id: int | None,
    variant: str = "",
    spelled: bool = False,
) -> Engine:
    """An engine that holds to a grammar, whatever the door it came through.

    Args:
        kind: in words, for errors.
        compile_: turns the source into the engine's grammars, the first of them in Lark's syntax and the one to start with.
        variant: what besides the source tells the grammar.
        spelled: whether texts are JSON, and belong to the grammar in any spelling.
    """
    words, eos_id = read_vocabulary(vocabulary, eos_id)
    tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Words([*words, *BYTES], eos_id)))
    try:
        first, *others = compile_(source)
    except ValueError as error:
        raise _RefusedError(f"the {kind} cannot be read", got=str(error).strip()) from error
    held = {"lark_grammar": f"{first['lark_grammar']}\n{ANY_CUT}"}
    compiled = json.dumps({"grammars": [first | held, *others]})
    trouble = llguidance.LLMatcher.validate_grammar(compiled, tokenizer)
    if trouble and not trouble.startswith("WARNING"):
        lines = [line for line in trouble.strip().splitlines() if ANY_CUT not in line]
        raise _RefusedError(f"the {kind} cannot be held to", got="\n".join(lines))
    special = frozenset(index for index, word in enumerate(words) if not word)
    root = _Grammar(_working(llguidance.LLMatcher(tokenizer, compiled, log_level=0)), len(words), special)
    memo = Memo(Spelled(root, Tokens(words)) if spelled else root, repr((kind, variant, source, words, eos_id)))
    return Engine(memo, jnp.asarray(memo.digest), len(words), eos_id, fingerprint(vocabulary))
