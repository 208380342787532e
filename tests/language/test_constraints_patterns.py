"""Patterns beyond Rust's syntax against Python's engine, on all texts of a few letters."""

import itertools
import re
from typing import Any

import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.language.constraints import lark, regex
from smcinfer.language.constraints.engine import Memo

LETTERS = "abc "
LENGTH = 5
WORDS = [b"", *(letter.encode() for letter in LETTERS)]
ROWS = [row for size in range(LENGTH + 1) for row in itertools.product(range(1, len(WORDS)), repeat=size)]
TEXTS = ["".join(LETTERS[token - 1] for token in row) for row in ROWS]

PATTERNS = [
    # What comes next, and what came before.
    r"a(?=b)[ab]+(?!b)", r"^(?!.*aa)[ab]*$", r"(?=a)[ab]+|c", r"[ab]+(?<=a)b", r"(?<!a)b(?!a)", r"(?<=^a)b|ab",
    r"(?:a|ab)(?<!b)c?", r"a(?:b(?!c)|c){0,2}c?", r"(?=[ab]+(?!b)c)[abc]+", r"(?!a(?=b))[ab]{2}", r"(?!(?!a)b)[abc]*",
    # Edges.
    r"\b(?!ab)\w+\b", r"[ab]+\b ?[ab]*", r"^a|b$", r"\Bab\B|(?!b)a", r"a$|^b ?",
    # One way to match, or none.
    r"(?>a|ab|abc)c", r"(?>ab|a)(?>b|bc)c?", r"(?>a+?)b", r"(?>a{1,2})ab", r"(?>(?:ab)+)a?b?", r"(?>a?)ab", r"(?>)a",
    r"(?>a|b(?>c|cb))b", r"[a-c]++ |a", r"a{2}+b", r"a{1,2}+ab?c?", r"(?>a*)b*+c",
    # Groups that others depend on.
    r"(a)?(?(1)b|c)", r"(?:(a)|b)(?(1)c|b)", r"(a|ab)(?(1)(?!c)|b)[bc]*", r"(a|b)c\1", r"([ab]{1,2}) \1", r"(a?)b\1",
    r"((a)|b)\1\2", r"(a)|b\1", r"(?P<x>[ab])c(?P=x)", r"([a-c])(?!\1)[abc]",
    # Flags, comments, counts from none.
    r"(?a)\w+ ?\w", r"(?a)(\w)\1", r"(?a:[^\W b]|\s)+", r"(?i)A(?=B)B", r"(?i:A)b++", r"(?x) a (?=b) b # c", r"(?s)(?=a)..",
    r"(?m)^a$", r"(?m:^[ab]+$)", r"a(?#b)b*", r"(?#a)(?=a)a(?#b)+", r"a{,2}b", r"(?=a)a{,3}", r"\Aab\Z|(?<!a)c\Z",
]  # fmt: skip
"""Some have a negative control in themselves: Perl's engines take back less than an automaton of the same symbols would."""


def members(constraint: Any) -> set[str]:
    memo: Memo = constraint.memo
    tokens = np.zeros((len(ROWS), LENGTH), np.int32)
    for place, row in enumerate(ROWS):
        tokens[place, : len(row)] = row
    _, complete = memo.ask(tokens, np.array([len(row) for row in ROWS], np.int32))
    return {text for text, is_member in zip(TEXTS, complete, strict=True) if is_member}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_matches_what_it_should(pattern: str) -> None:
    expected = {text for text in TEXTS if re.fullmatch(pattern, text)}
    assert expected and members(regex(pattern, WORDS, 0)) == expected


@pytest.mark.parametrize(
    ("pattern", "same"),
    [
        (r"(?(DEFINE)(?<x>a|b))(?&x)c(?&x)", "[ab]c[ab]"),
        (r"(?|(a)|(b))c\1", "aca|bcb"),
        (r"(?(?=a)ab|ca)", "ab|ca"),
        (r"(a|bc)(?1)", "(?:a|bc){2}"),
    ],
)
def test_what_python_does_not_know_is_spelt_out(pattern: str, same: str) -> None:
    assert members(regex(pattern, WORDS, 0)) == {text for text in TEXTS if re.fullmatch(same, text)}


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"\((?R)\)", r"calls itself[\s\S]*lark"),
        (r"(?U)a(?R)?b", "unknown group"),
        (r"(?i)a(?0)?", "calls itself"),
        (r"(\d)\1", r"\(\[0-9\]\)"),
        ("[:alpha:]", r"\[\[:alpha:\]\]"),
        ("a{,}", "count to some"),
        (r"\h", r"\[ \\t\]"),
        ("(?ai)a", "both cases"),
    ],
)
def test_what_is_not_read_says_the_way_out(pattern: str, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        regex(pattern, WORDS, 0)


def test_a_line_has_edges() -> None:
    words = [b"", b"a", b"b", b"\n"]
    constraint: Any = regex(r"(?m)a$\nb", words, 0)
    assert constraint.memo.ask(np.array([[1, 3, 2]], np.int32), np.array([3], np.int32))[1][0]
    nowhere: Any = regex(r"(?m)a$b", words, 0)
    assert not nowhere.memo.ask(np.array([[1, 2]], np.int32), np.array([2], np.int32))[1][0]


def test_an_engine_that_gives_up_says_so() -> None:
    with pytest.raises(TargetError, match="too complex"):
        lark("start: P\nP: /(a|b)*a(a|b){300}/ & ~/(a|b)*b(a|b){40}/", WORDS, 0)
