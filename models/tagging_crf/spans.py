"""Entities as spans, and how well they were found."""

from collections.abc import Iterable, Sequence

Span = tuple[int, int, str]
"""First word, one past the last word, type."""


def spans(tags: Sequence[str]) -> list[Span]:
    """Entities of one sentence; an ``I-`` that continues nothing of its type starts an entity."""
    found: list[Span] = []
    for place, tag in enumerate(tags):
        kind = tag[2:]
        if not kind:
            continue
        if tag.startswith("I-") and found and found[-1][1] == place and found[-1][2] == kind:
            found[-1] = (found[-1][0], place + 1, kind)
        else:
            found.append((place, place + 1, kind))
    return found


def entity_f1(predicted: Iterable[Sequence[str]], truth: Iterable[Sequence[str]]) -> float:
    """F1 of entities over all sentences: right where words and type agree exactly."""
    hits = guessed = real = 0
    for guess, gold in zip(predicted, truth, strict=True):
        ours, theirs = set(spans(guess)), set(spans(gold))
        hits += len(ours & theirs)
        guessed += len(ours)
        real += len(theirs)
    return 2 * hits / max(guessed + real, 1)
