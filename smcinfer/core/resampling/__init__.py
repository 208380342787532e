"""Resampling: from log weights to ancestor indices, in linear time and without loss at a million particles."""

from collections.abc import Callable

from smcinfer.core.resampling.conditional import (
    conditional_killing,
    conditional_multinomial,
    conditional_residual,
    conditional_ssp,
    conditional_stratified,
    conditional_systematic,
)
from smcinfer.core.resampling.unconditional import killing, multinomial, residual, ssp, stratified, systematic
from smcinfer.ground.arrays import Ancestors, KeyArray, LogWeights
from smcinfer.ground.errors import ArgumentError

Scheme = Callable[[KeyArray, LogWeights, int], Ancestors]
"""``(key, log_weights, num) -> ancestors``."""

_UNCONDITIONAL: dict[str, Scheme] = {
    "multinomial": multinomial,
    "stratified": stratified,
    "systematic": systematic,
    "residual": residual,
    "ssp": ssp,
    "killing": killing,
}
_CONDITIONAL: dict[str, Scheme] = {
    "multinomial": conditional_multinomial,
    "stratified": conditional_stratified,
    "systematic": conditional_systematic,
    "residual": conditional_residual,
    "ssp": conditional_ssp,
    "killing": conditional_killing,
}

SCHEMES: tuple[str, ...] = tuple(_UNCONDITIONAL)
"""Names of the schemes, each with a conditional version."""

EVEN: frozenset[str] = frozenset({"stratified", "systematic", "ssp"})
"""Schemes in which the copies of neighbours make up for each other: a block of them gets what it weighs, to a few copies."""


def by_name(name: str, conditional: bool = False) -> Scheme:
    """The scheme of that name, or its conditional version.

    Raises:
        ArgumentError: there is none.
    """
    schemes = _CONDITIONAL if conditional else _UNCONDITIONAL
    if name not in schemes:
        raise ArgumentError(
            "unknown resampling scheme",
            expected="one of " + ", ".join(SCHEMES),
            got=repr(name),
            hint='pass one of these names, for example "systematic"',
        )
    return schemes[name]


def resample(scheme: str | Scheme) -> Scheme:
    """A scheme from its name; a function ``(key, log_weights, num) -> ancestors`` is taken as it is."""
    return by_name(scheme) if isinstance(scheme, str) else scheme


__all__ = [
    "EVEN",
    "SCHEMES",
    "Scheme",
    "by_name",
    "conditional_killing",
    "conditional_multinomial",
    "conditional_residual",
    "conditional_ssp",
    "conditional_stratified",
    "conditional_systematic",
    "killing",
    "multinomial",
    "resample",
    "residual",
    "ssp",
    "stratified",
    "systematic",
]
