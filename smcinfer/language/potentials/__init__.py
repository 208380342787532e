"""Potentials of sequences, and how they compose: ``a * b``, ``a ** beta``, ``~a``, ``a.at_least(c)``."""

from smcinfer.language.potentials.factor import (
    AtEnd,
    Complement,
    EveryStep,
    Factor,
    Plain,
    Power,
    Product,
    Threshold,
    as_factor,
)
from smcinfer.language.potentials.functions import on_text, on_tokens
from smcinfer.language.potentials.shapes import classifier, length, repetition
from smcinfer.language.potentials.words import avoids, contains

__all__ = [
    "AtEnd",
    "Complement",
    "EveryStep",
    "Factor",
    "Plain",
    "Power",
    "Product",
    "Threshold",
    "as_factor",
    "avoids",
    "classifier",
    "contains",
    "length",
    "on_text",
    "on_tokens",
    "repetition",
]
