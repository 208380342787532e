"""Patterns that are regular though they are not written as Rust's engine wants them."""

from smcinfer.language.constraints.patterns.language import as_grammar
from smcinfer.language.constraints.patterns.syntax import UnknownSyntaxError, is_possessive

__all__ = ["UnknownSyntaxError", "as_grammar", "is_possessive"]
