"""A text is a text however it is cut into tokens: masks against the enumeration of all cuts, for every kind of grammar."""

import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from smcinfer.cli import main
from smcinfer.ground.errors import TargetError
from smcinfer.language.constraints import allowed_texts, constrained, grammars, json_schema, lark, regex
from smcinfer.language.constraints.vocabulary import read_vocabulary
from smcinfer.models import stories
from smcinfer.run.runner import run
from tests.exact_language import EOS, LENGTH, PROMPT, Strings, small_lm, strings
from tests.statistics import assert_mean, assert_weighted_mean, assert_within

WORDS = [b"", b"a", b"b", b"ab", b"bab"]
"""All texts of a and b have several cuts."""

NUM_GRAMMARS = 40


@cache
def everything() -> Strings:
    return strings(lambda string: 0.0)


def text_of(tokens: tuple[int, ...], words: list[bytes]) -> bytes:
    return b"".join(words[token] for token in tokens)


def masked(constraint: Any, max_tokens: int) -> set[tuple[int, ...]]:
    """All sequences that the masks lead to and that may end, EOS left out."""
    found: set[tuple[int, ...]] = set()
    level: list[tuple[int, ...]] = [()]
    for size in range(max_tokens + 1):
        if not level:
            break
        tokens = np.array([row + (0,) * (max_tokens - size + 1) for row in level], np.int32)
        masks, complete = constraint.memo.ask(tokens, np.full(len(level), size, np.int32))
        found |= {row for row, whole in zip(level, complete, strict=True) if whole}
        bits = np.unpackbits(masks, axis=-1, bitorder="little")[:, : constraint.vocab_size]
        bits[:, constraint.eos_id] = 0
        level = [(*row, int(token)) for row, mask in zip(level, bits, strict=True) for token in np.flatnonzero(mask)]
    return found


def cuts(text: bytes, words: list[bytes]) -> Iterator[tuple[int, ...]]:
    """All ways to cut a text into tokens."""
    if not text:
        yield ()
    for token, word in enumerate(words):
        if word and text.startswith(word):
            yield from ((token, *rest) for rest in cuts(text[len(word) :], words))


def assert_law(constraint: Any, member: Callable[[str], bool]) -> None:
    """log Z and every text's share, through the masks, are those of the sum over all strings."""
    exact = everything()
    tails = [tuple(row[: row.index(EOS)]) if EOS in row else None for row in exact.strings.tolist()]
    reached = masked(constraint, LENGTH - 1)
    shares: list[dict[bytes, float]] = [{}, {}]
    for tail, log_p in zip(tails, exact.log_base, strict=True):
        if tail is None:
            continue
        text = text_of(tail, WORDS)
        for share, counts in zip(shares, (member(text.decode()), tail in reached), strict=True):
            if counts:
                share[text] = share.get(text, 0.0) + float(np.exp(log_p))
    assert shares[0].keys() == shares[1].keys()
    for text, share in shares[0].items():
        assert shares[1][text] == pytest.approx(share, rel=1e-12), text


def random_pattern(rng: random.Random, depth: int = 3) -> str:
    """A regular expression over a and b that forces bytes now and then."""
    kind = rng.choice(["word", "word", "class"] if depth == 0 else ["word", "join", "join", "or", "repeat", "group"])
    if kind == "word":
        return "".join(rng.choices("ab", k=rng.randint(1, 3)))
    if kind == "class":
        return "[ab]"
    inner = [random_pattern(rng, depth - 1) for _ in range(2)]
    if kind == "join":
        return "".join(inner)
    if kind == "or":
        return f"(?:{'|'.join(inner)})"
    return f"({inner[0]}){rng.choice(['*', '+', '?', '{0,2}', '{2}'])}" if kind == "repeat" else f"({inner[0]})"


@pytest.mark.parametrize("seed", range(NUM_GRAMMARS))
def test_a_regex_has_the_law_of_its_texts(seed: int) -> None:
    pattern = random_pattern(random.Random(seed))
    assert_law(regex(pattern, WORDS, EOS), lambda text: re.fullmatch(pattern, text) is not None)


@pytest.mark.parametrize("pattern", ["abab", "(?=a)[ab]ba?b", r"(ab)b?\1", "(?>ab|a)bab", "(?:(a)|b)(?(1)bab|ab)"])
def test_a_forced_text_has_all_its_cuts(pattern: str) -> None:
    """Patterns as they stand, and such as are spelt out first."""
    assert_law(regex(pattern, WORDS, EOS), lambda text: re.fullmatch(pattern, text) is not None)


def random_rule(rng: random.Random, depth: int = 3) -> tuple[str, set[str]]:
    """A rule in Lark's syntax, and all its texts."""
    if depth == 0 or rng.random() < 0.15:
        letter = rng.choice("ab")
        return f'"{letter}"', {letter}
    first, last = random_rule(rng, depth - 1), random_rule(rng, depth - 1)
    kind = rng.choice(["join", "join", "or", "maybe"])
    if kind == "join":
        return f"{first[0]} {last[0]}", {a + b for a in first[1] for b in last[1]}
    if kind == "or":
        return f"({first[0]} | {last[0]})", first[1] | last[1]
    return f"({first[0]})?", first[1] | {""}


@pytest.mark.parametrize("seed", range(NUM_GRAMMARS))
def test_a_grammar_has_the_law_of_its_texts(seed: int) -> None:
    rule, texts = random_rule(random.Random(seed))
    assert_law(lark(f"start: {rule}", WORDS, EOS), texts.__contains__)


def test_a_grammar_cannot_ask_for_one_cut() -> None:
    header = '%llguidance {"no_forcing": false}'
    for grammar in (f'{header}\nstart: "abab"', f'start: "abab"\n{header}', 'start: "ab" rest\nrest: "a" "b"'):
        assert_law(lark(grammar, WORDS, EOS), "abab".__eq__)


JSON_WORDS = [b"", *(bytes([byte]) for byte in b'{}[],:"abe1 '), b'{"', b'":', b'a"', b"ab", b'":1']
"""Cuts across what a schema forces."""


def random_schema(rng: random.Random, depth: int = 2) -> tuple[dict[str, Any], list[Any]]:
    """A schema, and all values that it allows."""
    kind = rng.choice(["const", "enum"] if depth == 0 else ["const", "object", "object", "array", "any"])
    if kind == "const":
        value = rng.choice(["a", "ab", 1, 11])
        return {"const": value}, [value]
    if kind == "enum":
        values = rng.sample(["a", "b", "ab", 1, 11], 2)
        return {"enum": values}, values
    first, last = random_schema(rng, depth - 1), random_schema(rng, 0)
    if kind == "array":
        schema = {"type": "array", "prefixItems": [first[0]], "items": last[0], "minItems": 1, "maxItems": 2}
        return schema, [[a] for a in first[1]] + [[a, b] for a in first[1] for b in last[1]]
    if kind == "any":
        return {"anyOf": [first[0], last[0]]}, first[1] + [value for value in last[1] if value not in first[1]]
    optional = rng.random() < 0.5
    schema = {
        "type": "object",
        "properties": {"a": first[0], "b": last[0]},
        "required": ["a"] if optional else ["a", "b"],
        "additionalProperties": False,
    }
    return schema, [{"a": a} for a in first[1] if optional] + [{"a": a, "b": b} for a in first[1] for b in last[1]]


def written(value: Any) -> list[str]:
    """All ways to write a value with at most one space after colons and commas."""
    spots = re.split(r"(?<=[,:])", json.dumps(value, separators=(",", ":")))
    return ["".join(ways) for ways in itertools.product(*[[spot, f"{spot} "] for spot in spots[:-1]], spots[-1:])]


@pytest.mark.dealt
@pytest.mark.parametrize("seed", range(NUM_GRAMMARS // 2))
def test_a_schema_has_all_cuts_of_its_texts(seed: int) -> None:
    schema, values = random_schema(random.Random(seed), 1)
    texts = {text.encode() for value in values for text in written(value)}
    expected = {cut for text in texts for cut in cuts(text, JSON_WORDS)}
    assert masked(json_schema(schema, JSON_WORDS, EOS), max(map(len, texts))) == expected


def greedy(self: Any, text: bytes | str) -> list[int]:
    """The longest tokens first: what an engine that chooses by itself would do."""
    rest, found = text.encode() if isinstance(text, str) else text, []
    while fits := [token for token, word in enumerate(self.tokens) if rest.startswith(word)]:
        found.append(max(fits, key=lambda token: len(self.tokens[token])))
        rest = rest[len(self.tokens[found[-1]]) :]
    return found


@pytest.mark.parametrize(
    "build",
    [
        lambda: regex("abab", WORDS, EOS),
        lambda: regex("(?=a)abab", WORDS, EOS),
        lambda: lark('start: "abab"', WORDS, EOS),
    ],
)
def test_control_an_engine_that_chooses_the_cut_has_another_law(
    build: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammars, "ANY_CUT", "")
    monkeypatch.setattr(grammars._Words, "__call__", greedy)
    with pytest.raises(AssertionError):
        assert_law(build(), "abab".__eq__)


def test_control_for_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars, "ANY_CUT", "")
    monkeypatch.setattr(grammars._Words, "__call__", greedy)
    assert len(masked(json_schema({"const": "ab"}, JSON_WORDS, EOS), 4)) < len(list(cuts(b'"ab"', JSON_WORDS)))


def test_an_engine_that_would_choose_is_not_left_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars, "ANY_CUT", "")
    with pytest.raises(TargetError, match="cut into tokens"):
        masked(regex("abab", WORDS, EOS), LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regex", "texts"])
def test_samples_of_a_forced_text_have_its_normaliser(kind: str, x64: None) -> None:
    build = {
        "regex": lambda: regex("ab(abb)?", WORDS, EOS),
        "texts": lambda: allowed_texts(["ab", "ababb"], WORDS, EOS),
    }
    exact = strings(
        lambda string: 0.0 if string[-1:] == (EOS,) and text_of(string, WORDS) in (b"ab", b"ababb") else -np.inf
    )
    model = constrained(small_lm(), PROMPT, build[kind](), max_tokens=LENGTH)
    done = run(jax.random.key(0), model, 16, num_runs=256)
    assert_mean(np.exp(np.asarray(done.log_z) - exact.log_z), 1.0)


@pytest.mark.slow
def test_an_adjective_has_its_share_in_a_story() -> None:
    """Greedy cuts gave " confused" a log Z of -37.98, and "upset" no share at all of its tenth."""
    lm = stories.load()
    assert lm.tokenizer is not None
    period, prompt = lm.tokenizer.encode_plain(".")[-1], "Lily was very"
    words, _ = read_vocabulary(lm, period)
    start, max_tokens = lm.tokenizer.encode(prompt), 8
    forward = jax.jit(jax.vmap(lambda row: jax.nn.log_softmax(lm.lm.forward(row).logits)))

    def log_share(word: str) -> float:
        """log of a word's probability, all its cuts summed."""
        rows = [(*cut, period) for cut in cuts(f" {word}".encode(), words) if len(cut) < max_tokens]
        assert {row[:-1] for row in rows} == masked(regex(f" {word}", lm, period), max_tokens - 1)
        padded = np.array([[*start, *row] + [period] * (max_tokens - len(row)) for row in rows], np.int32)
        log_p = np.asarray(forward(padded), np.float64)[:, len(start) - 1 :]
        return float(np.logaddexp.reduce([log_p[place, range(len(row)), row].sum() for place, row in enumerate(rows)]))

    exact = {word: log_share(word) for word in ("confused", "nervous", "happy", "upset")}
    assert exact["confused"] == pytest.approx(-7.029, abs=1e-3)
    log_z = float(np.logaddexp.reduce(list(exact.values())))
    assert np.exp(exact["upset"] - log_z) == pytest.approx(0.1028, abs=1e-4)

    target = constrained(lm, prompt, regex(f" ({'|'.join(exact)})", lm, period), max_tokens=max_tokens, eos_id=period)
    done = run(jax.random.key(0), target, 64, num_runs=32)
    assert_mean(np.exp(np.asarray(done.log_z, np.float64) - log_z), 1.0)
    # Run by run: the same texts under the weights of one run alone.
    states: Any = done.particles.state
    upset = [
        ["upset" in lm.tokenizer.decode(row[:length].tolist()) for row, length in zip(*one, strict=True)]
        for one in zip(np.asarray(states.tokens), np.asarray(states.length), strict=True)
    ]
    assert_weighted_mean(
        done.log_z, log_z, (np.exp(done.log_weights) * upset).sum(axis=1), np.exp(exact["upset"] - log_z)
    )


@pytest.mark.slow
def test_the_command_line_has_the_same_law(tmp_path: Path) -> None:
    out = tmp_path / "texts.json"
    command = ["generate", "--prompt", "Lily was very", "--regex", " confused", "--stop", ".", "--max-tokens", "8"]
    assert main([*command, "--num-particles", "256", "--no-progress", "--seed", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert_within(found["log_z"], -7.029, found["log_z_se"], bias=1e-3)
