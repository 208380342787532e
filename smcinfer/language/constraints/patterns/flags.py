"""Characters, classes and escapes under the flags of Perl's family, in Rust's syntax."""

import re

ASCII = {"d": "0-9", "w": "0-9A-Za-z_", "s": r" \t\n\r\f\v"}
"""What the classes of letters hold where the flag ``a`` is on."""

KNOWN = frozenset("aimsux")
"""ASCII classes, any case, edges at lines, dots for line ends, Unicode classes (which are the rule), free spacing."""

SETTING = re.compile(r"\(\?([a-z]*)(?:-([a-z]+))?([:)])")
"""Flags on, flags off, and whether for a group or for the rest of the one around."""

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def under(flags: frozenset[str], source: str) -> str:
    """A character, class or escape, such that the flags need not be said any more."""
    if "a" in flags:
        inside = source.startswith("[")
        source = _ESCAPED.sub(lambda found: _of_ascii(found[0], found[1], inside), source)
    if "i" in flags:
        return f"(?i:{source})"
    return "(?s:.)" if source == "." and "s" in flags else source


def letter_of_words(flags: frozenset[str]) -> str:
    """The class of letters that word boundaries are between."""
    return under(flags - {"i"}, r"\w")


def _of_ascii(escape: str, sign: str, inside: bool) -> str:
    letters = ASCII.get(sign.lower())
    if letters is None:
        return escape
    return f"[^{letters}]" if sign.isupper() else letters if inside else f"[{letters}]"
