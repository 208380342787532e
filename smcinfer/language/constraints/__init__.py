"""Constraints on what is generated: grammars, sets of texts, predicates; kept by masks or by rejection, weighed exactly."""

from smcinfer.language.constraints.allowed_texts import allowed_texts, starts_with
from smcinfer.language.constraints.automaton import Automaton, automaton
from smcinfer.language.constraints.awrs import (
    AdaptiveRejection,
    Draw,
    adaptive_rejection,
    draw_accepted,
    draws_accepted,
)
from smcinfer.language.constraints.constraint import Constraint
from smcinfer.language.constraints.engine import Engine
from smcinfer.language.constraints.grammars import json_schema, lark, regex
from smcinfer.language.constraints.lookahead import UnderConstraint, under_constraint
from smcinfer.language.constraints.masked import Allowed, constrained
from smcinfer.language.constraints.predicates import on_host

__all__ = [
    "AdaptiveRejection",
    "Allowed",
    "Automaton",
    "Constraint",
    "Draw",
    "Engine",
    "UnderConstraint",
    "adaptive_rejection",
    "allowed_texts",
    "automaton",
    "constrained",
    "draw_accepted",
    "draws_accepted",
    "json_schema",
    "lark",
    "on_host",
    "regex",
    "starts_with",
    "under_constraint",
]
