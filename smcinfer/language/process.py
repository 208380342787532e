r"""The base law of token sequences: a causal language model as a Feynman-Kac process.

.. math:: p_0(s_{1:T} \mid \text{prompt}) = \prod_{t=1}^{T} p(s_t \mid \text{prompt}, s_{1:t-1})

A sequence ends with the token EOS. It keeps its place among the particles afterwards and draws EOS with probability one, so
that :math:`p_0` counts what came before and nothing else. Readers (`smcinfer.language.reader`) read each token with the model.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.nouns import Process
from smcinfer.ground.arrays import Array, Bool, Float, Int, PyTree, Scalar, Time
from smcinfer.ground.errors import ArgumentError, surfacing
from smcinfer.language.networks.lm import Cache, CausalLM, Output, Prefix, prefill
from smcinfer.language.networks.symbols import TokenLaw
from smcinfer.language.reader import Reader, Reading


class TokenState(eqx.Module):
    """One sequence after step t.

    Attributes:
        tokens: Int["T"], what was generated so far; the rest is EOS (zero where there is none).
        length: Int[""], how many tokens were generated, EOS included: t until the sequence ends.
        finished: Bool[""], whether EOS was drawn.
        logits: Float["V"], of the next token as it is drawn: temperature and EOS rule applied, nats, unnormalised.
        hidden: Float["D"], the model's last hidden state after the last token.
        last_hidden: Float["D"], the one before that token, from which it was drawn.
        cache: what the model keeps of the generated tokens.
        readings: what each reader carries, by its name.
        log_p: Float[""], of the tokens under the model, nats; only where sequences count by a power of it.
    """

    tokens: Int[Array, " max_tokens"]
    length: Int[Array, ""]
    finished: Bool[Array, ""]
    logits: Float[Array, " vocab"]
    hidden: Float[Array, " dim"]
    last_hidden: Float[Array, " dim"]
    cache: Cache
    readings: dict[str, Reading] = eqx.field(default_factory=dict)
    log_p: Float[Array, ""] = eqx.field(default_factory=lambda: jnp.zeros(()))

    def just_read(self, t: Time) -> Bool[Array, ""]:
        """Whether step t added a token (or is the prompt's own, t = 0): false once the sequence has ended before t."""
        return self.length == t

    def just_ended(self, t: Time) -> Bool[Array, ""]:
        """Whether the sequence ends at step t, by EOS or at the limit: true at exactly one step."""
        return self.just_read(t) & (self.finished | (t == self.tokens.shape[0]))

    @property
    def last_token(self) -> Int[Array, ""]:
        """The last token generated (the first slot's value before there is any)."""
        return self.tokens[jnp.maximum(self.length - 1, 0)]


class Rules(eqx.Module):
    """How a sequence is drawn and ends.

    Attributes:
        max_tokens: T, tokens that may be generated.
        eos_id: the token that ends a sequence, or ``None`` where all have T tokens.
        temperature: the logits are divided by it; this is part of the base law.
        also_eos: tokens that end a sequence too: their probability is EOS's, which is what they are drawn and shown as.
        power: whole sequences count by their probability to this power. Token t is drawn by an `exponent` of its own, and
            `log_rise` is what such draws leave out.
    """

    max_tokens: int = eqx.field(static=True)
    eos_id: int | None = eqx.field(static=True)
    temperature: float = eqx.field(static=True)
    also_eos: tuple[int, ...] = eqx.field(static=True, default=())
    power: float = eqx.field(static=True, default=1.0)

    def exponent(self, t: Time) -> Scalar:
        r"""What a prefix of t tokens counts by, :math:`a_t = 1 + (\alpha - 1) (t - 1) / (T - 1)`, and token t is drawn by.

        Args:
            t: from 1, or anything below for the first.
        """
        passed = jnp.clip((t - 1) / max(self.max_tokens - 1, 1), 0.0, 1.0) if self.max_tokens > 1 else jnp.ones(())
        return 1.0 + (self.power - 1.0) * passed

    def logits(self, logits: Float[Array, " vocab"], finished: Bool[Array, ""], t: Time) -> Float[Array, " vocab"]:
        """A model's logits as token t is drawn from them: EOS alone after the end."""
        if self.temperature != 1.0:
            logits = logits / self.temperature
        if self.also_eos:
            ends = jnp.asarray((self.eos_id, *self.also_eos))
            logits = logits.at[ends].set(-jnp.inf).at[self.eos_id].set(jax.nn.logsumexp(logits[ends]))
        if self.power != 1.0:
            logits = (self.exponent(t) * logits).astype(logits.dtype)
        if self.eos_id is None:
            return logits
        only_eos = jnp.where(jnp.arange(logits.shape[0]) == self.eos_id, 0.0, -jnp.inf).astype(logits.dtype)
        return jnp.where(finished, only_eos, logits)

    def log_rise(self, t: Time, state: "TokenState") -> Scalar:
        r"""What step t + 1 weighs before its token is drawn, nats; zero at the end and where there is no power.

        .. math:: (a_{t+1} - a_t) \log p(s_{1:t}) + \log \sum_v p(v \mid s_{1:t})^{a_{t+1}}

        Args:
            t: from 0.
            state: after step t.
        """
        if self.power == 1.0:
            return jnp.zeros(())
        now, before = self.exponent(t + 1), jnp.where(t == 0, 1.0, self.exponent(t))
        logits = state.logits
        log_mass = jax.nn.logsumexp(logits) - now * jax.nn.logsumexp(logits / now)
        rise = jnp.where(t == 0, 0.0, (now - before) * state.log_p) + jnp.where(state.finished, 0.0, log_mass)
        return jnp.where(t < self.max_tokens, rise, 0.0)

    def log_probability(self, t: Time, state: "TokenState", x: Int[Array, ""]) -> Scalar:
        """log p of token t after the state of step t - 1, nats; only where a power asks for it, else zero."""
        if self.power == 1.0:
            return jnp.zeros((), state.logits.dtype)
        return jnp.where(
            state.finished, 0.0, jax.nn.log_softmax(state.logits / self.exponent(t).astype(state.logits.dtype))[x]
        )

    def first(self, output: Output, cache: Cache, readings: dict[str, Reading]) -> TokenState:
        """The state of a sequence of which only the prompt was read."""
        no = jnp.zeros((), bool)
        return TokenState(
            tokens=jnp.full((self.max_tokens,), 0 if self.eos_id is None else self.eos_id, jnp.int32),
            length=jnp.zeros((), jnp.int32),
            finished=no,
            logits=self.logits(output.logits, no, jnp.ones((), jnp.int32)),
            hidden=output.hidden,
            last_hidden=output.hidden,
            cache=cache,
            readings=readings,
            log_p=jnp.zeros((), output.logits.dtype),
        )

    def next(
        self,
        t: Time,
        state: TokenState,
        x: Int[Array, ""],
        output: Output,
        cache: Cache,
        readings: dict[str, Reading],
    ) -> TokenState:
        """The state after token x, which the model and the readers have read."""
        ended = jnp.zeros((), bool) if self.eos_id is None else x == self.eos_id
        finished = state.finished | ended
        return TokenState(
            tokens=jax.lax.dynamic_update_index_in_dim(state.tokens, x.astype(jnp.int32), t - 1, 0),
            length=state.length + jnp.where(state.finished, 0, 1).astype(jnp.int32),
            finished=finished,
            logits=self.logits(output.logits, finished, t + 1),
            hidden=output.hidden,
            last_hidden=state.hidden,
            cache=cache,
            readings=readings,
            log_p=state.log_p + self.log_probability(t, state, x),
        )


class LanguageProcess(Process):
    """A language model after a prompt (made by `language_process`).

    Attributes:
        lm: the model.
        prompt: Int["P"], the prompt's tokens.
        first: what the model says after the prompt.
        prefix: what the prompt left behind, shared by all particles.
        rules: how a sequence is drawn and ends.
        readers: what reads along, by name.
    """

    lm: CausalLM
    prompt: Int[Array, " prompt"]
    first: Output
    prefix: Prefix
    rules: Rules
    readers: dict[str, Reader] = eqx.field(default_factory=dict)

    @property
    def max_tokens(self) -> int:
        """T, tokens that may be generated."""
        return self.rules.max_tokens

    @property
    def eos_id(self) -> int | None:
        """The token that ends a sequence."""
        return self.rules.eos_id

    @property
    def temperature(self) -> float:
        """What the logits are divided by."""
        return self.rules.temperature

    def initial(self) -> None:
        """Every particle starts from the prompt."""
        return

    def transition(self, t: Time, state: PyTree[Any]) -> TokenLaw:
        """Law of the next token."""
        del t
        return TokenLaw(state.logits)

    def advance(self, t: Time, state: TokenState | None, x: Int[Array, ""] | None) -> TokenState:
        """The sequence with token x, which the model and each reader read once; at t = 0 the prompt's state."""
        if state is None or x is None:
            started = {name: reader.start(self.max_tokens) for name, reader in self.readers.items()}
            return self.rules.first(self.first, self.lm.empty(self.max_tokens), started)
        output, cache = self.lm.step(x, t - 1, state.cache, self.prefix)
        read = {name: reader.read(t, state.readings[name], x) for name, reader in self.readers.items()}
        return self.rules.next(t, state, x, output, cache, read)


def language_process(
    lm: CausalLM, prompt: Int[Array, " prompt"], rules: Rules, readers: Mapping[str, Reader] | None = None
) -> LanguageProcess:
    """The process of a model after a prompt, which the model and its readers read here, once.

    Args:
        lm: the model.
        prompt: Int["P"], its tokens.
        rules: how a sequence is drawn and ends.
        readers: what reads along, by name.

    Raises:
        ArgumentError: for a reader of another vocabulary, or one that cannot read as much.
    """
    for name, reader in (readers or {}).items():
        if reader.vocab_size != lm.vocab_size:
            raise ArgumentError(
                f"the reader {name!r} has another vocabulary than the model",
                expected=f"{lm.vocab_size} tokens",
                got=reader.vocab_size,
            )
    with surfacing():
        first, prefix = prefill(lm, prompt)
        begun = {name: reader.begin(prompt, rules.max_tokens) for name, reader in (readers or {}).items()}
    return LanguageProcess(lm, prompt, first, prefix, rules, begun)
