r"""Infilling: the tokens between a prompt and a continuation that is given.

.. math:: \sigma(s_{1:T} \mid o) \propto p_0(s_{1:T} \mid \text{prompt})\; p_0(o \mid \text{prompt}, s_{1:T})

The continuation's probability is the potential of the last step. Drawn together, :math:`(s, o) \sim p_0` makes s an exact draw
of the target given o: a `Family` to learn one twist for all continuations, with exact positives and exact upper bounds.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.compose import Composed, compose
from smcinfer.ground.arrays import Array, Int, KeyArray, Scalar, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.programs import compiled
from smcinfer.language.networks.lm import CausalLM
from smcinfer.language.process import LanguageProcess, Rules, TokenState, language_process
from smcinfer.twists.family import Family
from smcinfer.twists.heads import NetworkHead, network_head


class ReplayedProcess(LanguageProcess):
    """A language process that reads a given path at once."""

    def replay(self, path: Int[Array, " T"]) -> TokenState:
        """The states after the prompt and after each token, without their caches."""
        length = path.shape[0]
        read = self.lm.forward(jnp.concatenate([self.prompt, path.astype(jnp.int32)]))
        logits, hidden = read.logits[-length - 1 :], read.hidden[-length - 1 :]

        def after(count: Int[Array, ""], logits: Array, hidden: Array, last_hidden: Array) -> TokenState:
            tokens = jnp.where(jnp.arange(length) < count, path, 0).astype(jnp.int32)
            return TokenState(tokens, count, jnp.zeros((), bool), logits, hidden, last_hidden, None)

        counts = jnp.arange(length + 1, dtype=jnp.int32)
        return jax.vmap(after)(counts, logits, hidden, jnp.concatenate([hidden[:1], hidden[:-1]]))


class Continues(eqx.Module):
    """log probability of the given tokens after step T, zero before.

    Attributes:
        process: the base law, with room for the continuation.
        tokens: Int["C"], the continuation.
        last: T.
    """

    process: LanguageProcess
    tokens: Int[Array, " given"]
    last: int = eqx.field(static=True)

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """log phi_t, nats; the model runs on the continuation at step T alone."""

        def read(carry: tuple[Array, TokenState], token: Array) -> tuple[tuple[Array, TokenState], Scalar]:
            t, state = carry
            log_p = jax.nn.log_softmax(state.logits)[token]
            return (t + 1, self.process.advance(t + 1, state, token)), log_p

        def total(state: TokenState) -> Scalar:
            return jnp.sum(jax.lax.scan(read, (t, state), self.tokens)[1])

        # The step is the same for all particles, so this stays a branch.
        return jax.lax.cond(t == self.last, total, lambda state: jnp.zeros((), state.logits.dtype), state)


class _Build(eqx.Module):
    process: LanguageProcess
    last: int = eqx.field(static=True)

    def __call__(self, context: Int[Array, " given"]) -> Composed:
        return compose(self.process, Continues(self.process, context, self.last), num_steps=self.last)


class _Simulate(eqx.Module):
    process: LanguageProcess
    last: int = eqx.field(static=True)

    def __call__(self, key: KeyArray) -> tuple[Int[Array, " given"], Int[Array, " T"]]:
        start = self.process.advance(jnp.zeros((), jnp.int32), None, None)

        def step(carry: tuple[Array, TokenState], key: Any) -> tuple[tuple[Array, TokenState], Array]:
            t, state = carry
            token = self.process.transition(t, state).sample(key)
            return (t + 1, self.process.advance(t, state, token)), token

        keys = jax.random.split(key, self.process.max_tokens)
        _, tokens = jax.lax.scan(step, (jnp.ones((), jnp.int32), start), keys)
        return tokens[self.last :], tokens[: self.last]


def infilling(lm: CausalLM, prompt: Int[Array, " prompt"], *, num_tokens: int, num_given: int) -> Family:
    """All infilling targets after a prompt.

    For one continuation of your own, `smcinfer.language.generation` with ``continuation`` takes the same twist.

    Args:
        lm: the model.
        prompt: Int["P"], its tokens.
        num_tokens: T, tokens to be filled in.
        num_given: C, tokens of the continuation, which is the context.

    Returns:
        A `Family`.

    Raises:
        ArgumentError: for sizes that the model cannot hold.
    """
    prompt = _checked(lm, prompt, num_tokens, num_given)
    read = language_process(lm, prompt, Rules(num_tokens + num_given, None, 1.0))
    process = ReplayedProcess(lm, read.prompt, read.first, read.prefix, read.rules)
    return Family(_Simulate(process, num_tokens), _Build(process, num_tokens))


def infilling_head(
    key: KeyArray, lm: CausalLM, prompt: Int[Array, " prompt"], *, num_tokens: int, num_given: int, **options: Any
) -> NetworkHead:
    r"""A head for `infilling` that starts from what the model itself says of two tokens that meet.

    Whether the continuation can follow at all is decided at the seam, by the last free token and the first given one. There
    the head starts as the bigram law

    .. math:: \log \chi_T(v) = \log p_0(o_1 \mid \text{prompt}, v),

    the model's logits being inner products of a hidden state and an embedding; everywhere else it starts flat.

    Args:
        key: of the network's first weights.
        lm: a model that has an ``embedding`` with as many numbers as its hidden state, and no other output matrix.
        prompt: Int["P"], its tokens.
        num_tokens, num_given: as for `infilling`.
        **options: ``width``, ``depth``, ``level`` and ``bounded`` of `smcinfer.twists.network_head`.

    Raises:
        ArgumentError: for a model without such an embedding, or sizes that it cannot hold.
    """
    prompt = _checked(lm, prompt, num_tokens, num_given)
    embedding: Any = getattr(lm, "embedding", None)
    if getattr(embedding, "shape", None) != (lm.vocab_size, lm.dim) or getattr(lm, "head", None) is not None:
        raise ArgumentError(
            "the model's output is not its embedding",
            expected=f"lm.embedding of shape {(lm.vocab_size, lm.dim)}, tied",
            got=getattr(embedding, "shape", None),
            hint="network_head(..., num_steps=, context_size=) starts flat and needs neither",
        )
    flat = network_head(
        key,
        lm.dim,
        lm.vocab_size,
        embedding=embedding,
        num_steps=num_tokens,
        context_size=num_given,
        **options,
    )
    assert flat.pairs is not None
    hidden, tokens = (leaf.astype(jnp.result_type(float)) for leaf in (_after_each(lm, prompt), embedding))
    return dataclasses.replace(flat, pairs=flat.pairs.starting(hidden, tokens))


def _checked(lm: CausalLM, prompt: Int[Array, " prompt"], num_tokens: int, num_given: int) -> Int[Array, " prompt"]:
    """The prompt, where the model can hold it with what follows."""
    prompt = jnp.asarray(prompt, jnp.int32)
    total = prompt.shape[0] + num_tokens + num_given
    if num_tokens < 1 or num_given < 1 or (lm.max_positions is not None and total > lm.max_positions):
        raise ArgumentError(
            "no such infilling",
            expected=f"num_tokens, num_given >= 1 and at most {lm.max_positions} tokens with the prompt",
            got=(num_tokens, num_given, total),
        )
    return prompt


@compiled
def _after_each(lm: CausalLM, prompt: Int[Array, " prompt"]) -> Array:
    """Float["V D"], the hidden state after the prompt and one token, for each token."""

    def one(token: Array) -> Array:
        return lm.forward(jnp.concatenate([prompt, token[None]])).hidden[-1]

    return jax.lax.map(one, jnp.arange(lm.vocab_size, dtype=jnp.int32), batch_size=128)
