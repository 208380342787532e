"""Names for the arrays the engine passes around: what a signature says, in one place."""

from typing import Any, TypeAlias

from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt

KeyArray: TypeAlias = Key[Array, ""] | UInt[Array, "2"] | UInt[Array, "4"]
"""One random key, of the new (typed) or the old (uint32) style."""

Particles: TypeAlias = PyTree[Any]
"""A pytree whose every leaf has the particle axis first."""

LogWeights: TypeAlias = Float[Array, " num_particles"]
"""Log weights in nats, one a particle; minus infinity is a particle of weight zero."""

Ancestors: TypeAlias = Int[Array, " num_ancestors"]
"""Indices of the particles that were copied, one a copy."""

Time: TypeAlias = Int[Array, ""]
"""A step, t: the same for all particles, so that a branch on it stays a branch."""

Point: TypeAlias = Float[Array, "*shape"]
"""One point of a space of any shape: an image, a sequence of frames."""

Scalar: TypeAlias = Float[Array, ""]
Flag: TypeAlias = Bool[Array, ""]
Count: TypeAlias = Int[Array, ""]

__all__ = [
    "Ancestors",
    "Array",
    "Bool",
    "Count",
    "Flag",
    "Float",
    "Int",
    "Key",
    "KeyArray",
    "LogWeights",
    "Particles",
    "Point",
    "PyTree",
    "Scalar",
    "Time",
    "UInt",
]
