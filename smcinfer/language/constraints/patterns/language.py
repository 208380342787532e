r"""Conditions on what comes before and after, as intersections and complements of plain patterns.

.. math:: \text{A(?=B)C} = A\,(B\Sigma^* \cap C), \qquad \text{A(?!B)C} = A\,(\overline{B\Sigma^*} \cap C), \qquad
    \text{A(?<=B)C} = (A \cap \Sigma^* B)\,C

where a pattern matches a whole text, and C reaches to its end. The engine for grammars takes both operations.
"""

from smcinfer.ground.errors import ArgumentError
from smcinfer.language.constraints.patterns.expansion import Condition, Plain, Way, ways
from smcinfer.language.constraints.patterns.syntax import parse

_ANYTHING = Plain("(?s:.*)", True)


def as_grammar(pattern: str) -> str:
    """A pattern as a grammar in Lark's syntax, whose texts are exactly those that the pattern matches as a whole.

    Look-around, anchors and word boundaries, atomic groups and possessive quantifiers, conditions, calls of groups that do not
    call themselves, and references back to groups of few texts are taken, as far as they come to a finite automaton.

    Raises:
        ArgumentError: for a pattern that cannot be read, or that is not regular, or comes to too many plain ones.
    """
    found = [text for way in ways(parse(pattern)) if (text := _language(way, True, True))]
    if not found:
        raise ArgumentError("the regex cannot be held to", got="no text matches it")
    return f"start: PATTERN\nPATTERN: {' | '.join(dict.fromkeys(found))}"


def _language(way: Way, at_start: bool, at_end: bool) -> str | None:
    """The texts of a way; ``None`` for none.

    Args:
        way: what is matched as a whole.
        at_start, at_end: whether nothing comes before, or after.
    """
    for place, part in enumerate(way):
        if not isinstance(part, Condition):
            continue
        first, last = not any(_is_plain(way[:place])), not any(_is_plain(way[place + 1 :]))
        rest = way[:place] + way[place + 1 :]
        if at_end and last if part.ahead else at_start and first:
            # Nothing is there to look at.
            return _language(rest, at_start, at_end) if _fits_nothing(part) != part.negative else None
        if at_end and first if part.ahead else at_start and last:
            return _under(_language(rest, at_start, at_end), part, at_start, at_end)
    ahead = [place for place, part in enumerate(way) if isinstance(part, Condition) and part.ahead]
    behind = [place for place, part in enumerate(way) if isinstance(part, Condition) and not part.ahead]
    if (ahead and not at_end) or (behind and not at_start) or (ahead and behind and ahead[0] < behind[-1]):
        raise ArgumentError(
            "the regex cannot be held to by a finite automaton", got="look-arounds that reach across one another"
        )
    if not ahead and not behind:
        source = "".join(part.source for part in way if isinstance(part, Plain))
        return f"/{_quoted(source)}/" if source else '""'
    cut = behind[-1] + 1 if behind else ahead[0]
    parts = _language(way[:cut], at_start, False), _language(way[cut:], False, at_end)
    return None if None in parts else f"({parts[0]} {parts[1]})"


def _under(texts: str | None, condition: Condition, at_start: bool, at_end: bool) -> str | None:
    """Those of some texts that fulfil a condition on how they begin (or end)."""
    longer = [(*way, _ANYTHING) if condition.ahead else (_ANYTHING, *way) for way in condition.ways]
    found = [text for way in longer if (text := _language(way, at_start, at_end))]
    if not found or texts is None:
        return texts if condition.negative else None
    return f"({texts} & {'~' * condition.negative}({' | '.join(found)}))"


def _fits_nothing(condition: Condition) -> bool:
    """Whether a condition, taken for a positive one, is met at the edge of the text that it looks at."""
    if any(isinstance(part, Condition) and part.ahead != condition.ahead for way in condition.ways for part in way):
        raise ArgumentError(
            "the regex cannot be held to by a finite automaton", got="look-arounds that reach across one another"
        )
    return any(
        all(
            _fits_nothing(part) != part.negative if isinstance(part, Condition) else part.empty
            for part in way
            if isinstance(part, Condition | Plain)
        )
        for way in condition.ways
    )


def _is_plain(way: Way) -> list[bool]:
    return [isinstance(part, Plain) for part in way]


def _quoted(source: str) -> str:
    """A source between slashes, none of its own left bare."""
    found, escaped = [], False
    for sign in source:
        bare = sign == "/" and not escaped
        found.append({"\n": r"\n"}.get(sign, "\\/" if bare else sign))
        escaped = sign == "\\" and not escaped
    return "".join(found)
