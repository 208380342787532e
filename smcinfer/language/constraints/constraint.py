r"""What a constraint is: which token may follow what was written, and whether what was written is complete.

A constraint is a set L of token sequences. What is carried with a particle is enough to tell, after any prefix s,

.. math:: \mathrm{allowed}(v) = 1\{\exists u : s\,v\,u \in L\}, \qquad \mathrm{complete} = 1\{s \in L\}.

EOS is allowed exactly where s is complete. Two kinds are here: finite automata whose tables are on the device (`Automaton`) and
engines on the host that are asked once a step for all particles (`Engine`); ``a & b`` asks for both.
"""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Bool, Int, PyTree, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.reader import Reader


class Constraint(Reader):
    """A set of token sequences that may be written: a reader for which EOS, and what comes after it, changes nothing.

    Attributes:
        eos_id: the token that ends a sequence.
        vocabulary: the fingerprint of the tokens' spelling, ``None`` where it was given as bytes or not at all.
    """

    eos_id: eqx.AbstractVar[int]
    vocabulary: eqx.AbstractVar[str | None]

    @abc.abstractmethod
    def allowed(self, carried: PyTree[Any]) -> Bool[Array, " vocab"]:
        """Which tokens may come next; EOS exactly where what was written is complete."""

    @abc.abstractmethod
    def complete(self, carried: PyTree[Any]) -> Bool[Array, ""]:
        """Whether what was written belongs to the set."""

    def __and__(self, other: "Constraint") -> "Both":
        """Sequences that belong to both sets.

        A token is allowed where both allow it. Prefixes that each can be continued but not together are dead ends, found
        when nothing is allowed any more.
        """
        marks = {self.vocabulary, other.vocabulary} - {None}
        if (self.vocab_size, self.eos_id) != (other.vocab_size, other.eos_id) or len(marks) > 1:
            raise ArgumentError(
                "the constraints are over different vocabularies",
                expected=f"{self.vocab_size} tokens, EOS {self.eos_id}",
                got=f"{other.vocab_size} tokens, EOS {other.eos_id}" + ", spelt in another way" * (len(marks) > 1),
            )
        return Both(self, other, self.vocab_size, self.eos_id, self.vocabulary or other.vocabulary)


class Both(Constraint):
    """The intersection of two constraints (made by ``a & b``)."""

    first: Constraint
    second: Constraint
    vocab_size: int = eqx.field(static=True)
    eos_id: int = eqx.field(static=True)
    vocabulary: str | None = eqx.field(static=True, default=None)

    def start(self, max_tokens: int) -> PyTree[Any]:
        """What each of the two carries, as a pair."""
        return self.first.start(max_tokens), self.second.start(max_tokens)

    def read(self, t: Time, carried: PyTree[Any], token: Int[Array, ""]) -> PyTree[Any]:
        """Both read the token."""
        return self.first.read(t, carried[0], token), self.second.read(t, carried[1], token)

    def allowed(self, carried: PyTree[Any]) -> Bool[Array, " vocab"]:
        """The tokens that both allow."""
        return self.first.allowed(carried[0]) & self.second.allowed(carried[1])

    def complete(self, carried: PyTree[Any]) -> Bool[Array, ""]:
        """Whether it is complete for both."""
        return self.first.complete(carried[0]) & self.second.complete(carried[1])


def only(eos_id: int, vocab_size: int, condition: Bool[Array, ""]) -> Bool[Array, " vocab"]:
    """A mask of the vocabulary with EOS where a condition holds, and no other token.

    Args:
        eos_id: the token that ends a sequence.
        vocab_size: V, the length of the mask.
        condition: Bool[""], whether EOS is allowed.
    """
    return (jnp.arange(vocab_size) == eos_id) & condition
