"""Potentials on the form of a sequence, its length and its repetitions, and on the class that a classifier sees in it."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Flag, Int, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.potentials.factor import AtEnd, EveryStep, Factor
from smcinfer.language.potentials.functions import on_tokens
from smcinfer.language.process import TokenState


class _Length(eqx.Module):
    """Whether the length is in a range, and a reward for every token."""

    shortest: int = eqx.field(static=True)
    longest: int | None = eqx.field(static=True)
    log_per_token: float = eqx.field(static=True)

    def __call__(self, state: TokenState, wanted: Flag) -> Scalar:
        """log phi of the whole sequence."""
        del wanted
        inside = state.length >= self.shortest
        if self.longest is not None:
            inside = inside & (state.length <= self.longest)
        return jnp.where(inside, self.log_per_token * state.length.astype(jnp.result_type(float)), -jnp.inf)


class _Repeats(eqx.Module):
    """Whether the last n tokens occurred before."""

    size: int = eqx.field(static=True)
    log_penalty: float = eqx.field(static=True)

    def __call__(self, state: TokenState, wanted: Flag, ended: Flag) -> Scalar:
        """log phi_t: the penalty where they did."""
        del wanted, ended
        total = state.tokens.shape[0]
        if total <= self.size:
            return jnp.zeros(())
        starts = jnp.arange(total - self.size + 1)
        last = state.length - self.size
        same = starts < last
        for offset in range(self.size):
            token = state.tokens[jnp.clip(last + offset, 0, total - 1)]
            same = same & (state.tokens[offset : offset + starts.shape[0]] == token)
        return jnp.where(jnp.any(same), self.log_penalty, 0.0)


def length(shortest: int = 1, longest: int | None = None, *, log_per_token: float = 0.0) -> Factor:
    """A length in a range, and a reward or a penalty for every token.

    Args:
        shortest, longest: tokens, EOS included; ``None`` for no limit.
        log_per_token: nats a token; below zero it asks for short sequences.

    Returns:
        A terminal factor.
    """
    if shortest < 0 or (longest is not None and longest < max(shortest, 1)):
        raise ArgumentError("no length is in this range", expected="0 <= shortest <= longest", got=(shortest, longest))
    bound = None
    if log_per_token <= 0:
        bound = log_per_token * shortest
    elif longest is not None:
        bound = log_per_token * longest
    return AtEnd(_Length(shortest, longest, float(log_per_token)), bound)


def repetition(log_penalty: float, size: int = 3) -> Factor:
    """A penalty for every token that completes a run of tokens which the sequence already has.

    Args:
        log_penalty: nats each time, at most 0; minus infinity forbids it.
        size: tokens of a run.

    Returns:
        A factor paid at every step.
    """
    if not log_penalty <= 0 or size < 1:
        raise ArgumentError("no such penalty", expected="log_penalty <= 0, size >= 1", got=(log_penalty, size))
    return EveryStep(_Repeats(size, float(log_penalty)), 0.0)


class _Label(eqx.Module):
    """The log probability of one class."""

    log_probabilities: Callable[[Array, Array], Array]
    label: int = eqx.field(static=True)

    def __call__(self, tokens: Int[Array, " max_tokens"], length: Int[Array, ""]) -> Scalar:
        """log p(label | tokens)."""
        return self.log_probabilities(tokens, length)[self.label]


def classifier(log_probabilities: Callable[[Array, Array], Array], label: int) -> Factor:
    """The probability that a classifier, written in JAX on tokens, gives to one class.

    Args:
        log_probabilities: ``(tokens, length) -> Float["classes"]``, normalised, nats.
        label: the class.

    Returns:
        A terminal factor of at most one: it can be negated, raised to a power, thresholded.
    """
    return on_tokens(_Label(log_probabilities, label), largest=0.0)
