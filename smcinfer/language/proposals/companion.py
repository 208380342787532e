r"""A second model as proposal: one with the same vocabulary, better informed or cheaper, draws; the first weighs.

.. math:: v \sim q(\cdot \mid s), \qquad w = p(v \mid s) / q(v \mid s)

The second model is a reader: it reads every token too; its cache, and what it says of the next token, travel with the particle.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, PyTree, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.lm import Cache, CausalLM, Prefix, as_model, prefill
from smcinfer.language.networks.tokenizer import as_tokenizer
from smcinfer.language.process import LanguageProcess
from smcinfer.language.proposals.filtered import LogitProposal
from smcinfer.language.reader import Reader

COMPANION = "companion"
"""The name that the second model has among a generation's readers."""


class Said(eqx.Module):
    """What a companion carries with one particle.

    Attributes:
        cache: what it keeps of the generated tokens.
        logits: Float["V"], what it says of the next token, nats, unnormalised.
    """

    cache: Cache
    logits: Float[Array, " vocab"]


class Companion(Reader):
    """A second model that reads along (made by `companion`).

    Attributes:
        lm: the model.
        prompt: Int["P"] or ``None``, what it reads instead of the first model's prompt.
        said: Float["V"], its logits after the prompt; ``None`` before it has read one.
        prefix: what the prompt left behind, shared by all particles.
        vocabulary: the fingerprint of its tokens, ``None`` where it came without a tokenizer.
    """

    lm: CausalLM
    prompt: Int[Array, " prompt"] | None
    said: Float[Array, " vocab"] | None = None
    prefix: Prefix = None
    vocabulary: str | None = eqx.field(static=True, default=None)

    @property
    def vocab_size(self) -> int:
        """V, of its model."""
        return self.lm.vocab_size

    def begin(self, prompt: Int[Array, " prompt"], max_tokens: int) -> "Companion":
        """The companion after the prompt, or after its own where it has one."""
        tokens = prompt if self.prompt is None else self.prompt
        limit = self.lm.max_positions
        if limit is not None and tokens.shape[0] + max_tokens > limit:
            raise ArgumentError(
                "prompt and generation do not fit into the companion's context",
                expected=f"at most {limit} tokens",
                got=f"a prompt of {tokens.shape[0]} and up to {max_tokens} more",
            )
        output, prefix = prefill(self.lm, tokens)
        return dataclasses.replace(self, prompt=tokens, said=output.logits, prefix=prefix)

    def start(self, max_tokens: int) -> Said:
        """An empty cache, and what the companion says after the prompt."""
        assert self.said is not None, "a process begins its readers"
        return Said(self.lm.empty(max_tokens), self.said)

    def read(self, t: Time, carried: Said, token: Int[Array, ""]) -> Said:
        """One step of the companion."""
        output, cache = self.lm.step(token, t - 1, carried.cache, self.prefix)
        return Said(cache, output.logits)


class SecondModel(LogitProposal):
    """Draw from the companion that reads along (made by `second_model`)."""

    process: LanguageProcess
    temperature: float = eqx.field(static=True, default=1.0)
    includes_potential: bool = eqx.field(static=True, default=False)

    def logits(self, t: Time, state: PyTree[Any]) -> Float[Array, " vocab"]:
        """The companion's logits; after the end the first model's, which are EOS and nothing else."""
        del t
        said = state.readings[COMPANION].logits.astype(state.logits.dtype)
        return jnp.where(state.finished, state.logits, said / self.temperature)


def companion(lm: Any, prompt: Any = None) -> Companion:
    """A second model that reads along, for ``readers`` of `generation`: ``{"companion": companion(lm)}``.

    Args:
        lm: a model with the same vocabulary as the first: a `CausalLM`, or what `smcinfer.language.load` returned.
        prompt: text or token ids that the companion reads instead of the first model's prompt: instructions, say, that
            the first model is not to see.

    Raises:
        ArgumentError: for no language model, or a prompt that it cannot read.
    """
    model = as_model(lm)
    if isinstance(prompt, str):
        prompt = as_tokenizer(lm).encode(prompt)
    tokens = None if prompt is None else jnp.asarray(prompt, jnp.int32)
    if tokens is not None and (tokens.ndim != 1 or tokens.size == 0):
        raise ArgumentError("the companion's prompt is no sequence of tokens", expected="Int['P']", got=tokens.shape)
    tokenizer = getattr(lm, "tokenizer", None)
    return Companion(model, tokens, vocabulary=None if tokenizer is None else tokenizer.fingerprint)


def second_model(temperature: float = 1.0) -> Callable[[LanguageProcess], SecondModel]:
    """What `generation` takes for ``proposal`` where a `companion` reads along: tokens come from the companion.

    Args:
        temperature: the companion's logits are divided by it.

    Raises:
        ArgumentError: when the generation is made, where no companion reads along.

    Properly weighted for: the first model, where the companion gives every token a positive probability.
    """
    validate.number("temperature", temperature, above=0.0)

    def make(process: LanguageProcess) -> SecondModel:
        if not isinstance(process.readers.get(COMPANION), Companion):
            raise ArgumentError(
                "no companion reads along",
                expected=f"a companion among the readers, under the name {COMPANION!r}",
                got=sorted(process.readers),
                hint='generation(..., readers={"companion": language.companion(second)})',
            )
        return SecondModel(process, temperature)

    return make
