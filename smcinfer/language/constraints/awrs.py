r"""Adaptive weighted rejection sampling: a token that a predicate accepts, with an unbiased weight, from few calls.

Tokens are drawn without replacement until one is accepted: it has the law :math:`p(v) / Z` on the accepted set A, whatever was
rejected on the way. What is left is to estimate :math:`Z = p(A)` without looking at the rest of the vocabulary:

- ``"two_rounds"``: a second round over what is left, with :math:`m_1` the mass rejected in the first and n the rejects of both,
  :math:`\hat Z = (1 - m_1) / (n + 1)`. Below a head that is rejected, part of Z is left to draws that miss the head, which are
  as rare as Z is small: the other two have no such tail.
- ``"recursive"``: :math:`Z = q + (1 - q) Z_{\text{rest}}` for an accepted token of remaining share q and
  :math:`Z = (1 - q) Z_{\text{rest}}` for a rejected one, whichever came; after the first accepted one, v, the rest is judged by
  one token more. The product comes to :math:`\hat Z = 1 - m_1` where that one is accepted too and to :math:`p(v)` where not.
- ``"geometric"``: r rounds; rejects that drawing *with* replacement would have met again are added by geometric draws, and the
  count of all gives :math:`\hat Z = (r - 1) / (n + r - 1)`.

In all, :math:`E[\hat Z \mid v] = Z`, so :math:`E[\hat Z\, 1\{v\}] = p(v) 1\{v \in A\}`, token by token.

Source: Lipkin et al. (2025).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.nouns import Proposal
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Count, Flag, Float, Int, KeyArray, LogWeights, Particles, PyTree, Scalar, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.constraints.without_replacement import Remaining, everything
from smcinfer.language.process import LanguageProcess

VARIANTS = ("two_rounds", "recursive", "geometric")

Accept = Callable[[Int[Array, ""], Flag], Any]
"""``(token, active) -> Bool[""]``; where not ``active`` the answer is not used."""

AcceptGiven = Callable[[PyTree[Any], Int[Array, ""], Flag], Any]
"""``(given, token, active) -> Bool[""]``."""

_SHARE = 8
"""Of the lanes of a search, those that may still wait for the others."""


class Draw(eqx.Module):
    """One token and what it weighs.

    Attributes:
        token: Int[""]; meaningless where the weight is zero.
        log_weight: Float[""], nats.
        num_calls: Int[""], predicate calls made.
    """

    token: Int[Array, ""]
    log_weight: Scalar
    num_calls: Count


class _Search(eqx.Module):
    """Where a search stands.

    Attributes:
        left: tokens that may still be visited.
        token: Int[""], the first one accepted.
        log_p: Float[""], its logit.
        log_value: Float[""], what it is worth before the search goes on: the log mass left when it was accepted.
        num_accepted: Int[""].
        num_rejected: Float[""], phantoms included.
        num_calls: Int[""].
        ended: Bool[""].
    """

    left: Remaining
    token: Int[Array, ""]
    log_p: Scalar
    log_value: Scalar
    num_accepted: Count
    num_rejected: Scalar
    num_calls: Count
    ended: Flag


class _Lane(eqx.Module):
    """What a search goes by."""

    key: KeyArray
    logits: Float[Array, " vocab"]
    log_mass: Scalar
    given: PyTree[Any]


def _start(lane: _Lane, left: Remaining) -> _Search:
    nothing, none = jnp.full((), -jnp.inf, lane.logits.dtype), jnp.zeros((), jnp.int32)
    return _Search(left, none, nothing, nothing, none, jnp.zeros_like(nothing), none, jnp.zeros((), bool))


def _search(lanes: _Lane, states: _Search, visit: Callable[[_Lane, _Search], _Search]) -> _Search:
    """Visit tokens in all lanes until all have ended.

    Lanes run in step, and some need many more visits than most: where no more than a share of them goes on, it goes on alone.
    """
    few = states.ended.shape[0] // _SHARE
    states = jax.lax.while_loop(
        lambda states: jnp.sum(~states.ended) > few, lambda s: jax.vmap(visit)(lanes, s), states
    )
    if few == 0:
        return states
    places = jnp.argsort(states.ended, stable=True)[:few]
    rest = _search(*jax.tree.map(lambda array: array[places], (lanes, states)), visit)
    return jax.tree.map(lambda array, part: array.at[places].set(part), states, rest)


def _visit(lane: _Lane, state: _Search, accept: AcceptGiven, variant: str, rounds: int, limit: int) -> _Search:
    """Draw one token, ask about it, and go on without it or end; a lane that has ended stays as it is."""
    visit_key, phantom_key = jax.random.split(jax.random.fold_in(lane.key, state.num_calls))
    drawn = state.left.draw(visit_key, lane.logits)
    found = state.num_accepted > 0
    there = (state.left.log_mass > -jnp.inf) & (found | (state.num_calls < limit)) & ~state.ended
    accepted = accept(lane.given, drawn.token, there) & there
    rejected, first = there & ~accepted, accepted & ~found
    value, phantoms = state.log_value, jnp.zeros_like(state.num_rejected)
    if variant == "recursive":
        # What is left after the accepted token is judged by one more: all of it is accepted, or none.
        value, removed, enough = jnp.where(found & rejected, state.log_p, value), there, found
    else:
        removed, enough = rejected, state.num_accepted + accepted >= rounds
    if variant == "geometric":
        phantoms = jnp.where(there, _phantoms(phantom_key, state.left.log_mass - lane.log_mass), phantoms)
    return _Search(
        left=state.left.without(drawn, removed),
        token=jnp.where(first, drawn.token, state.token),
        log_p=jnp.where(first, drawn.log_p, state.log_p),
        log_value=jnp.where(first, state.left.log_mass, value),
        num_accepted=state.num_accepted + accepted,
        num_rejected=state.num_rejected + phantoms + rejected,
        num_calls=state.num_calls + there,
        ended=enough | ~there,
    )


def _phantoms(key: KeyArray, log_left: Scalar) -> Scalar:
    """How often drawing with replacement would meet rejected tokens again before a new one, of share ``exp(log_left)``."""
    log_again = jnp.log1p(-jnp.exp(jnp.minimum(log_left, 0.0)))
    return jnp.floor(jax.random.exponential(key, (), log_left.dtype) / -log_again)


def draw_accepted(
    key: KeyArray,
    logits: Float[Array, " vocab"],
    accept: Accept,
    *,
    variant: str = "recursive",
    rounds: int = 2,
    max_calls: int | None = None,
) -> Draw:
    """One accepted token and its unbiased weight (module docstring).

    Args:
        key: of the visits.
        logits: Float["V"], nats, unnormalised; tokens of minus infinity are never visited.
        accept: the predicate, a JAX function, called for one token after another.
        variant: of `VARIANTS`.
        rounds: r of the geometric variant, at least 2.
        max_calls: calls after which a search that has found nothing gives up, with weight zero: this loses what the token
            would have weighed, and is meant against predicates that accept nothing. ``None`` visits all.

    Returns:
        `Draw`.

    Raises:
        ArgumentError: for an unknown variant, or numbers out of range.

    Properly weighted for: ``p(v) 1{v accepted}`` with p the softmax of the logits, where ``max_calls`` is ``None``.
    """
    keys, alone = key[None], logits[None]
    drawn = draws_accepted(
        keys, alone, lambda _, token, active: accept(token, active), variant=variant, rounds=rounds, max_calls=max_calls
    )
    return jax.tree.map(lambda array: array[0], drawn)


def draws_accepted(
    keys: Array,
    logits: Float[Array, "lanes vocab"],
    accept: AcceptGiven,
    given: PyTree[Any] = None,
    *,
    variant: str = "recursive",
    rounds: int = 2,
    max_calls: int | None = None,
) -> Draw:
    """`draw_accepted` for many lanes at once: faster than `jax.vmap` of it, for lanes that are through do not wait.

    Args:
        keys: one a lane.
        logits: Float["lanes V"].
        accept: ``(given, token, active) -> Bool[""]``, for one lane.
        given: what the predicate goes by, a pytree with the lanes first.
        variant, rounds, max_calls: as there.

    Returns:
        `Draw` with the lanes first.
    """
    if variant not in VARIANTS:
        raise ArgumentError("unknown variant", expected=" | ".join(VARIANTS), got=variant)
    validate.count("rounds", rounds, at_least=2)
    if max_calls is not None:
        validate.count("max_calls", max_calls)
    limit = jnp.iinfo(jnp.int32).max if max_calls is None else max_calls
    needed = rounds if variant == "geometric" else 2
    left = jax.vmap(everything)(logits)
    lanes = jax.vmap(_Lane)(keys, logits, left.log_mass, given)
    done = _search(
        lanes,
        jax.vmap(_start)(lanes, left),
        lambda lane, state: _visit(lane, state, accept, variant, needed, limit),
    )
    if variant == "geometric":
        log_weight = jnp.log(rounds - 1.0) - jnp.log(done.num_rejected + rounds - 1.0)
    else:
        log_weight = jnp.minimum(done.log_value - left.log_mass, 0.0)
    if variant == "two_rounds":
        log_weight -= jnp.log(done.num_rejected + 1.0)
    log_weight = jnp.where(done.num_accepted > 0, log_weight, -jnp.inf)
    log_weight = jnp.where(jnp.isnan(left.log_mass), jnp.nan, log_weight).astype(logits.dtype)
    return jax.vmap(Draw)(done.token, log_weight, done.num_calls)


class AdaptiveRejection(Proposal):
    """Draw tokens that a predicate accepts (made by `adaptive_rejection`).

    Attributes:
        process: the base law.
        accept: ``(t, state, token, active) -> Bool[""]``, for one particle.
        variant, rounds, max_calls: as in `draw_accepted`.
    """

    process: LanguageProcess
    accept: Callable[[Time, PyTree[Any], Int[Array, ""], Flag], Any]
    variant: str = eqx.field(static=True)
    rounds: int = eqx.field(static=True)
    max_calls: int | None = eqx.field(static=True)
    includes_potential: bool = eqx.field(static=True, default=False)

    def __call__(self, key: KeyArray, t: Time, state: PyTree[Any]) -> tuple[PyTree[Any], Scalar]:
        """An accepted token and its weight; EOS, weight one, after the end."""
        states = jax.tree.map(lambda array: array[None], state)
        token, log_weight = self._draw(key[None], t, states)
        return token[0], log_weight[0]

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """One search for all particles."""
        return self._draw(jax.random.split(key, size), t, states)

    def _draw(self, keys: Array, t: Time, states: Any) -> tuple[Particles, LogWeights]:
        drawn = draws_accepted(
            keys,
            states.logits,
            lambda state, token, active: self.accept(t, state, token, active & ~state.finished) | state.finished,
            states,
            variant=self.variant,
            rounds=self.rounds,
            max_calls=self.max_calls,
        )
        return drawn.token, jnp.where(states.finished, 0.0, drawn.log_weight)


def adaptive_rejection(
    accept: Callable[[Time, PyTree[Any], Int[Array, ""], Flag], Any],
    *,
    variant: str = "recursive",
    rounds: int = 2,
    max_calls: int | None = None,
) -> Callable[[LanguageProcess], AdaptiveRejection]:
    """What `generation` takes for ``proposal`` where tokens must pass a predicate that is too dear for the whole vocabulary.

    Args:
        accept: ``(t, state, token, active) -> Bool[""]``: whether ``token`` may be token t after the state of t - 1. A JAX
            function of one particle; `on_host` makes one of a Python function of text. Where not ``active`` the answer is not
            used.
        variant, rounds, max_calls: as in `draw_accepted`.

    Properly weighted for: the model's sequences whose every token is accepted, ``p0(s) prod_t 1{accept}``; a potential of the
    generation comes on top. The weight of a draw is random given the draw, so that a path cannot be conditioned on.

    Source: Lipkin et al. (2025).
    """
    if variant not in VARIANTS:
        raise ArgumentError("unknown variant", expected=" | ".join(VARIANTS), got=variant)
    return lambda process: AdaptiveRejection(process, accept, variant, rounds, max_calls)
