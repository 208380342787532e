"""Sets of texts, and beginnings of texts, as automata over tokens: allowed however a text is cut into tokens."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from smcinfer.ground.errors import ArgumentError
from smcinfer.language.constraints.automaton import DEAD, LARGEST_TABLE, Automaton, automaton
from smcinfer.language.constraints.vocabulary import fingerprint, read_vocabulary

_Tree = list[dict[int, int]]
"""Children of each node by byte (or by token); node 0 is the root."""


def allowed_texts(texts: Iterable[str | bytes], vocabulary: Any, eos_id: int | None = None) -> Automaton:
    """Exactly these texts, a dictionary or a corpus say.

    Args:
        texts: at least one.
        vocabulary, eos_id: as in `regex`.

    Raises:
        ArgumentError: for no text, or so many that the table would be too large.
    """
    words, eos_id = read_vocabulary(vocabulary, eos_id)
    spelled = [text.encode() if isinstance(text, str) else text for text in texts]
    if not spelled:
        raise ArgumentError("no text is allowed", expected="at least one", got="none")
    tree, ends = _tree(spelled)
    _check_size(len(tree), len(words))
    table = np.full((len(tree), len(words)), DEAD, np.int32)
    by_bytes, at = _tree(words)
    tokens: dict[int, list[int]] = {}
    for token, node in enumerate(at):
        if node:
            tokens.setdefault(node, []).append(token)
    for state in range(len(tree)):
        # Both trees are walked together: only tokens that agree with the texts are ever looked at.
        walk = [(state, 0)]
        while walk:
            reached, place = walk.pop()
            table[state, tokens.get(place, [])] = reached
            for byte, child in tree[reached].items():
                if byte in by_bytes[place]:
                    walk.append((child, by_bytes[place][byte]))
    made = automaton(table, np.isin(np.arange(len(tree)), ends), eos_id)
    return dataclasses.replace(made, vocabulary=fingerprint(vocabulary))


def starts_with(text: str | bytes, vocabulary: Any, eos_id: int | None = None) -> Automaton:
    """Texts that begin with the given bytes: a prompt that may end anywhere, also inside a token.

    Args:
        text: what must come first; the last token that spells it may reach beyond.
        vocabulary, eos_id: as in `regex`.
    """
    words, eos_id = read_vocabulary(vocabulary, eos_id)
    wanted = text.encode() if isinstance(text, str) else text
    _check_size(len(wanted) + 1, len(words))
    table = np.full((len(wanted) + 1, len(words)), DEAD, np.int32)
    for token, word in enumerate(words):
        if not word:
            continue
        table[-1, token] = len(wanted)
        for place in range(len(wanted)):
            rest = wanted[place : place + len(word)]
            if word.startswith(rest):
                table[place, token] = place + len(rest)
    accepting = np.arange(len(wanted) + 1) == len(wanted)
    return Automaton(jnp.asarray(table), jnp.asarray(accepting), len(words), eos_id, fingerprint(vocabulary))


def _tree(texts: Iterable[bytes]) -> tuple[_Tree, list[int]]:
    """The prefix tree of some texts, and the node where each ends."""
    tree: _Tree = [{}]
    ends = []
    for text in texts:
        node = 0
        for byte in text:
            if byte not in tree[node]:
                tree[node][byte] = len(tree)
                tree.append({})
            node = tree[node][byte]
        ends.append(node)
    return tree, ends


def _check_size(states: int, vocab_size: int) -> None:
    if states * vocab_size > LARGEST_TABLE:
        raise ArgumentError(
            "the texts are too many for a table on the device",
            expected=f"at most {LARGEST_TABLE // vocab_size} different prefixes with {vocab_size} tokens",
            got=states,
            hint="lark with one rule of alternatives keeps them on the host",
        )
