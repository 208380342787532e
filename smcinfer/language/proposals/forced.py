r"""Tokens that are given: a continuation that must follow, and the end that must come at the length limit.

A token v that step t must have is drawn with probability one, and weighs what the base law gives it,

.. math:: w_t = p(v \mid s_{1:t-1}),

the properly weighted way to ask for it: the sampler never spends a particle on another token.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.nouns import Process, Proposal
from smcinfer.ground.arrays import Array, Int, KeyArray, LogWeights, Particles, PyTree, Scalar, Time
from smcinfer.ground.errors import TargetError
from smcinfer.ground.slices import each
from smcinfer.language.process import TokenState

FREE = -1
"""Stands for "no token is asked for"."""


class Given(eqx.Module):
    """Which token each step must have.

    Attributes:
        tokens: Int["T"], `FREE` where any will do; the given ones come last. ``None`` where none is given.
        end: the EOS that an unfinished sequence must have at step T, or ``None`` where it need not end.
    """

    tokens: Int[Array, " max_tokens"] | None
    end: int | None = eqx.field(static=True)

    def token(self, t: Time, state: TokenState) -> Int[Array, ""]:
        """The token that step t must have after the state of step t - 1; `FREE` for any, and once the sequence has ended."""
        last = state.tokens.shape[0]
        wanted = jnp.full((), FREE, jnp.int32)
        if self.tokens is not None:
            wanted = self.tokens[jnp.clip(t - 1, 0, last - 1)].astype(jnp.int32)
        if self.end is not None:
            wanted = jnp.where(t == last, self.end, wanted)
        return jnp.where(state.finished, FREE, wanted)

    def allows(self, t: Time, state: TokenState) -> Array:
        """Whether the state after step t, which added a token, has what was given up to t and can still have the rest."""
        last = state.tokens.shape[0]
        fine = jnp.asarray(True)
        if self.tokens is not None:
            wanted = self.tokens[jnp.clip(t - 1, 0, last - 1)]
            kept = (t == 0) | (wanted == FREE) | (state.last_token == wanted)
            fine = kept & ~(state.finished & jnp.any((jnp.arange(last) >= t) & (self.tokens != FREE)))
        if self.end is not None:
            fine = fine & ((t < last) | state.finished)
        return fine

    def put_into(self, process: Process, proposal: Proposal) -> Proposal:
        """The proposal with the given tokens in their places; the proposal itself where none is given."""
        if self.tokens is None and self.end is None:
            return proposal
        return Forced(process, proposal.inner if isinstance(proposal, Forced) else proposal, self)

    def any_at(self, t: Time, last: int) -> Array:
        """Whether step t has a given token at all: known from t alone."""
        ends = jnp.asarray(self.end is not None) & (t == last)
        return ends if self.tokens is None else ends | (self.tokens[jnp.clip(t - 1, 0, last - 1)] != FREE)


class Forced(Proposal):
    """Another proposal, but for the tokens that are given: those come with probability one and weigh p.

    Attributes:
        process: the base law.
        inner: how the other tokens are drawn.
        given: which are given.
    """

    process: Process
    inner: Proposal
    given: Given
    includes_potential: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        if self.inner.includes_potential:
            raise TargetError(
                "a proposal that accounts for the potential cannot have tokens put in its place",
                expected="includes_potential is False",
                got=type(self.inner).__name__,
                hint='leave continuation out, and end="open"',
            )

    def __call__(self, key: KeyArray, t: Time, state: PyTree[Any]) -> tuple[PyTree[Any], Scalar]:
        """The given token with its log probability, or the inner proposal's draw."""
        return self._force(t, state, *self.inner(key, t, state))

    def _force(self, t: Time, state: TokenState, x: Int[Array, ""], log_w: Scalar) -> tuple[Int[Array, ""], Scalar]:
        wanted = self.given.token(t, state)
        law: Any = self.process.transition(t, state)
        # p(v) takes a pass over the vocabulary: only at steps that have a given token.
        log_p = jax.lax.cond(
            self.given.any_at(t, state.tokens.shape[0]),
            lambda: law.log_prob(jnp.maximum(wanted, 0)).astype(log_w.dtype),
            lambda: jnp.zeros((), log_w.dtype),
        )
        free = wanted == FREE
        return jnp.where(free, x, wanted.astype(x.dtype)), jnp.where(free, log_w, log_p)

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """The inner proposal's batched draw, the given tokens put in."""
        x, log_w = self.inner.propose(key, t, states, size)
        return each(lambda state, x, log_w: self._force(t, state, x, log_w))(states, x, log_w)

    def log_weight(self, t: Time, state: PyTree[Any], x: PyTree[Any]) -> Scalar:
        """The log probability of the given token, minus infinity for another; else the inner proposal's."""
        log_w = self.inner.log_weight(t, state, x)
        wanted, forced = self._force(t, state, x, log_w)
        return jnp.where(wanted == x, forced, -jnp.inf)

    def look_ahead(self, t: Time, state: PyTree[Any]) -> Scalar | None:
        """What the inner proposal knows of the step's weight before the draw, nats."""
        return self.inner.look_ahead(t, state)
