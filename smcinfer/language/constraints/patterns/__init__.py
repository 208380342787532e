"""Patterns that are regular though they are not written as Rust's engine wants them."""

from smcinfer.language.constraints.patterns.language import as_grammar
from smcinfer.language.constraints.patterns.nodes import UnknownSyntaxError
from smcinfer.language.constraints.patterns.syntax import is_misread

__all__ = ["UnknownSyntaxError", "as_grammar", "is_misread"]
