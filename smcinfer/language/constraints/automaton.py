r"""Finite automata over tokens, their tables on the device.

.. math:: q' = \delta(q, v), \qquad \mathrm{allowed}(v) = 1\{\delta(q, v) \ne \varnothing\}

A step is one row of a table: no host, no search.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Int, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.constraints.constraint import Constraint, only
from smcinfer.language.constraints.vocabulary import check_vocabulary

DEAD = -1
"""Where no state follows."""

LARGEST_TABLE = 100_000_000
"""Entries of a transition table, states times tokens, that are still kept on the device."""


class Automaton(Constraint):
    """A deterministic automaton over tokens (made by `automaton`, `allowed_texts`, `starts_with`).

    Attributes:
        table: Int["S V"], the state after each token, `DEAD` for none; state 0 is the first.
        accepting: Bool["S"], states in which what was written is complete.
    """

    table: Int[Array, "states vocab"]
    accepting: Bool[Array, " states"]
    vocab_size: int = eqx.field(static=True)
    eos_id: int = eqx.field(static=True)
    vocabulary: str | None = eqx.field(static=True, default=None)

    def start(self, max_tokens: int) -> Int[Array, ""]:
        """State 0, before any token."""
        del max_tokens
        return jnp.zeros((), jnp.int32)

    def read(self, t: Time, carried: Int[Array, ""], token: Int[Array, ""]) -> Int[Array, ""]:
        """The state after one more token; EOS changes nothing."""
        del t
        after = jnp.where(carried == DEAD, DEAD, self.table[jnp.maximum(carried, 0), token])
        return jnp.where(token == self.eos_id, carried, after).astype(jnp.int32)

    def allowed(self, carried: Int[Array, ""]) -> Bool[Array, " vocab"]:
        """Tokens with a transition, and EOS in an accepting state."""
        row = (self.table[jnp.maximum(carried, 0)] != DEAD) & (carried != DEAD)
        return row | only(self.eos_id, self.vocab_size, self.complete(carried))

    def complete(self, carried: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether the state accepts."""
        return self.accepting[jnp.maximum(carried, 0)] & (carried != DEAD)


def automaton(
    table: np.ndarray | Sequence[Sequence[int]], accepting: np.ndarray | Sequence[bool], eos_id: int
) -> Automaton:
    """An automaton from its tables; states that cannot reach an accepting one are cut off.

    Args:
        table: Int["S V"], the state after each token, -1 for none; state 0 is the first. The column of EOS must be -1.
        accepting: Bool["S"].
        eos_id: the token that ends a sequence.

    Raises:
        ArgumentError: for tables of the wrong shape, or states that do not exist.
    """
    delta, final = np.array(table, np.int32), np.array(accepting, bool)
    if delta.ndim != 2 or final.shape != delta.shape[:1] or delta.size == 0:
        raise ArgumentError(
            "the tables do not fit together", expected="table (S, V), accepting (S,)", got=(delta.shape, final.shape)
        )
    eos_id = check_vocabulary(delta.shape[1], eos_id)
    if delta.min() < DEAD or delta.max() >= len(delta) or (delta[:, eos_id] != DEAD).any():
        raise ArgumentError(
            "the table names states that do not exist, or goes on after EOS",
            expected=f"-1 .. {len(delta) - 1}, and -1 in column {eos_id}",
            got=f"{delta.min()} .. {delta.max()}",
        )
    alive = final.copy()
    while True:
        reaches = alive | (np.where(delta == DEAD, False, alive[delta])).any(axis=1)
        if (reaches == alive).all():
            break
        alive = reaches
    delta[(delta != DEAD) & ~alive[delta]] = DEAD
    return Automaton(jnp.asarray(delta), jnp.asarray(final), delta.shape[1], eos_id)
