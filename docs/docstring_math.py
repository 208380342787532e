"""The reference's docstrings write equations as reStructuredText; the site wants dollar signs."""

import re
import textwrap
from typing import Any

import griffe

BLOCK = re.compile(r"^(?P<indent>[ ]*)\.\. math::(?P<body>.*(?:\n(?:(?P=indent)[ ]+.*|[ ]*))*)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]*)`")
LITERAL = re.compile(r"``([^`]+)``")


def to_markdown(docstring: str) -> str:
    """The docstring with its equations between dollar signs and its literals between backticks."""

    def display(match: re.Match[str]) -> str:
        body = textwrap.dedent(match["body"]).strip()
        if ("&" in body or "\\\\" in body) and "\\begin" not in body:
            # The directive aligns its lines by itself.
            body = f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"
        return "\n" + textwrap.indent(f"$$\n{body}\n$$", match["indent"]) + "\n\n"

    text = BLOCK.sub(display, docstring)
    text = INLINE.sub(lambda match: "$" + " ".join(match[1].split()) + "$", text)
    return LITERAL.sub(r"`\1`", text)


class MathToMarkdown(griffe.Extension):
    """Rewrites every docstring as the package is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
