r"""Adaptive weighted rejection sampling: a token that a predicate accepts, with an unbiased weight, from few calls.

Tokens are visited in Gumbel order, which is drawing without replacement, until one is accepted: it has the law
:math:`p(v) / Z` on the accepted set A, whatever was rejected on the way. What is left is to estimate :math:`Z = p(A)` without
looking at the rest of the vocabulary:

- ``"two_rounds"``: a second round over what is left, with :math:`m_1` the mass rejected in the first and n the rejects of both,
  :math:`\hat Z = (1 - m_1) / (n + 1)`.
- ``"recursive"``: :math:`Z = q + (1 - q) Z_{\text{rest}}` for an accepted token of remaining share q and
  :math:`Z = (1 - q) Z_{\text{rest}}` for a rejected one, whichever came; after the first accepted one the rest is judged by one
  token more.
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

from smcinfer.arrays import Array, Bool, Count, Flag, Float, Int, KeyArray, PyTree, Scalar
from smcinfer.errors import ArgumentError
from smcinfer.language.process import LanguageProcess
from smcinfer.nouns import Proposal, Time

VARIANTS = ("two_rounds", "recursive", "geometric")

Accept = Callable[[Int[Array, ""], Flag], Any]
"""``(token, active) -> Bool[""]``; where not ``active`` the answer is not used."""


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


class _Round(eqx.Module):
    """Where one round of visits stands.

    Attributes:
        order: Float["V"], perturbed log probabilities; minus infinity for tokens visited.
        token: Int[""], the last one visited.
        accepted, exhausted: Bool[""], how the round ended.
        rejected: Bool["V"], in this round and those before.
        mass: Float[""], of all rejected tokens.
        num_rejected: Float[""], rejects of all rounds, phantoms included.
        log_left: Float[""], log of what the rejected tokens left, factor by factor.
        num_calls: Int[""].
    """

    order: Float[Array, " vocab"]
    token: Int[Array, ""]
    accepted: Bool[Array, ""]
    exhausted: Bool[Array, ""]
    rejected: Bool[Array, " vocab"]
    mass: Scalar
    num_rejected: Scalar
    log_left: Scalar
    num_calls: Int[Array, ""]


def _visits(
    key: KeyArray, log_p: Float[Array, " vocab"], accept: Accept, so_far: _Round | None, limit: int, phantoms: bool
) -> _Round:
    """One round: tokens in Gumbel order, those rejected before left out, until one is accepted."""
    order_key, phantom_key = jax.random.split(key)
    gumbel = jax.random.gumbel(order_key, log_p.shape, log_p.dtype)
    zero, none, no = jnp.zeros((), log_p.dtype), jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    if so_far is None:
        so_far = _Round(log_p, none, no, no, jnp.zeros(log_p.shape, bool), zero, zero, zero, none)
    start = eqx.tree_at(
        lambda state: (state.order, state.accepted),
        so_far,
        (jnp.where(so_far.rejected, -jnp.inf, log_p + gumbel), so_far.exhausted),
    )

    def visit(state: _Round) -> _Round:
        token = jnp.argmax(state.order).astype(jnp.int32)
        exhausted = (state.order[token] == -jnp.inf) | (state.num_calls >= limit)
        accepted = accept(token, ~exhausted) & ~exhausted
        rejected = ~accepted & ~exhausted
        mass = jnp.where(rejected, jnp.exp(log_p[token]), 0.0)
        again = _geometric(jax.random.fold_in(phantom_key, state.num_calls), state.mass) if phantoms else zero
        return _Round(
            order=state.order.at[token].set(-jnp.inf),
            token=token,
            accepted=accepted,
            exhausted=exhausted,
            rejected=state.rejected.at[token].set(state.rejected[token] | rejected),
            mass=state.mass + mass,
            num_rejected=state.num_rejected + again + rejected.astype(log_p.dtype),
            log_left=state.log_left + jnp.log1p(-_share(mass, state.mass)),
            num_calls=state.num_calls + (~exhausted).astype(jnp.int32),
        )

    return jax.lax.while_loop(lambda state: ~(state.accepted | state.exhausted), visit, start)


def _share(mass: Array, gone: Array) -> Array:
    """A token's share of what the rejected ones left."""
    return jnp.clip(mass / jnp.maximum(1.0 - gone, jnp.finfo(mass.dtype).tiny), 0.0, 1.0)


def _geometric(key: KeyArray, mass: Scalar) -> Scalar:
    """How often drawing with replacement would meet rejected tokens again before a new one."""
    waited = jax.random.exponential(key, (), mass.dtype)
    return jnp.where(mass > 0, jnp.floor(waited / -jnp.log(jnp.clip(mass, 1e-37, 1 - jnp.finfo(mass.dtype).eps))), 0.0)


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
    if variant not in VARIANTS:
        raise ArgumentError("unknown variant", expected=" | ".join(VARIANTS), got=variant)
    if rounds < 2:
        raise ArgumentError("rounds is out of range", expected="at least 2", got=rounds)
    if max_calls is not None and max_calls < 1:
        raise ArgumentError("max_calls is out of range", expected="at least 1", got=max_calls)
    log_p = jax.nn.log_softmax(logits)
    everything = jnp.iinfo(jnp.int32).max
    keys = jax.random.split(key, rounds)
    geometric = variant == "geometric"
    first = _visits(keys[0], log_p, accept, None, max_calls or everything, geometric)
    if variant == "recursive":
        return _judge_rest(log_p, first, accept)
    last = first
    for round_key in keys[1 : rounds if geometric else 2]:
        last = _visits(round_key, log_p, accept, last, everything, geometric)
    if geometric:
        log_weight = jnp.log(rounds - 1.0) - jnp.log(last.num_rejected + rounds - 1.0)
    else:
        log_weight = jnp.log1p(-jnp.minimum(first.mass, 1.0)) - jnp.log(last.num_rejected + 1.0)
    return Draw(first.token, _if_found(first, log_weight), last.num_calls)


def _judge_rest(log_p: Float[Array, " vocab"], first: _Round, accept: Accept) -> Draw:
    """The recursive estimate: the accepted token's share of what was left, or all of it where the next one is accepted too."""
    following = jnp.argmax(first.order).astype(jnp.int32)
    there = (first.order[following] > -jnp.inf) & first.accepted
    both = accept(following, there) & there
    share = jnp.log(_share(jnp.exp(log_p[first.token]), first.mass))
    # Where nothing is left, the accepted token was all of it.
    log_weight = first.log_left + jnp.where(both | ~there, 0.0, share)
    return Draw(first.token, _if_found(first, log_weight), first.num_calls + there.astype(jnp.int32))


def _if_found(first: _Round, log_weight: Scalar) -> Scalar:
    return jnp.where(first.accepted, log_weight, -jnp.inf).astype(first.mass.dtype)


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
        drawn = draw_accepted(
            key,
            state.logits,
            lambda token, active: self.accept(t, state, token, active & ~state.finished) | state.finished,
            variant=self.variant,
            rounds=self.rounds,
            max_calls=self.max_calls,
        )
        return drawn.token, jnp.where(state.finished, 0.0, drawn.log_weight)


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
