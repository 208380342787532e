r"""A second model as proposal: one with the same vocabulary, better informed or cheaper, draws; the first weighs.

.. math:: v \sim q(\cdot \mid s), \qquad w = p(v \mid s) / q(v \mid s)

The second model reads every token too: its cache, and what it says of the next token, travel with the particle.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from smcinfer.core.nouns import Time
from smcinfer.ground.arrays import Array, Float, Int, PyTree
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.lm import Cache, CausalLM, Output, Prefix
from smcinfer.language.networks.loading import Pretrained
from smcinfer.language.networks.tokenizer import as_tokenizer
from smcinfer.language.process import LanguageProcess
from smcinfer.language.proposals.filtered import LogitProposal


class _Both(eqx.Module):
    """What both models keep: of the prompt, or of the tokens of one particle.

    Attributes:
        first, second: each model's own.
        said: Float["V"], what the second model says of the next token.
    """

    first: PyTree[Any]
    second: PyTree[Any]
    said: Float[Array, " vocab"]


class CompanionLM(CausalLM):
    """A model and a companion that reads along (made by `with_companion`); as a language model it is the first.

    Attributes:
        lm: the model.
        companion: the second one.
        second_prompt: Int["P"] or ``None``, what the companion reads instead of the prompt: instructions, say, that the
            model itself is not to see.
    """

    lm: CausalLM
    companion: CausalLM
    second_prompt: Int[Array, " second_prompt"] | None
    vocab_size: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    max_positions: int | None = eqx.field(static=True)

    def prefill(self, tokens: Int[Array, " prompt"]) -> tuple[Output, Prefix]:
        """Both read their prompts."""
        output, first = self.lm.prefill(tokens)
        said, second = self.companion.prefill(tokens if self.second_prompt is None else self.second_prompt)
        return output, _Both(first, second, said.logits)

    def empty(self, length: int) -> Cache:
        """Both caches; what the companion says of the first token is in the prefix."""
        said = jnp.zeros((self.vocab_size,), jnp.result_type(float))
        return _Both(self.lm.empty(length), self.companion.empty(length), said)

    def step(self, token: Int[Array, ""], slot: Int[Array, ""], cache: Cache, prefix: Prefix) -> tuple[Output, Cache]:
        """Both read the token."""
        both: Any = cache
        output, first = self.lm.step(token, slot, both.first, prefix.first)
        said, second = self.companion.step(token, slot, both.second, prefix.second)
        return output, _Both(first, second, said.logits.astype(both.said.dtype))

    def forward(self, tokens: Int[Array, " length"]) -> Output:
        """The first model's."""
        return self.lm.forward(tokens)


class SecondModel(LogitProposal):
    """Draw from the companion of a `CompanionLM` (made by `second_model`)."""

    process: LanguageProcess
    temperature: float = eqx.field(static=True, default=1.0)
    includes_potential: bool = eqx.field(static=True, default=False)

    def logits(self, t: Time, state: PyTree[Any]) -> Float[Array, " vocab"]:
        """The companion's logits; after the end, the model's own, which are EOS and nothing else."""
        prefix: Any = self.process.prefix
        said = jnp.where(t == 1, prefix.said.astype(state.cache.said.dtype), state.cache.said)
        return jnp.where(state.finished, state.logits, (said / self.temperature).astype(state.logits.dtype))


def with_companion(lm: Any, companion: Any, second_prompt: Any = None) -> Any:
    """A model with a second one that reads along.

    Args:
        lm: the model that is the base law: a `CausalLM`, or what `smcinfer.language.load` returned.
        companion: a model with the same vocabulary, likewise.
        second_prompt: text or token ids that the companion reads instead of the prompt.

    Returns:
        A `CompanionLM`; where ``lm`` was loaded with its tokenizer, the same with the `CompanionLM` in its place.

    Raises:
        ArgumentError: for models of different vocabularies, or a prompt the companion cannot read.
    """
    first, second = (one.lm if isinstance(one, Pretrained) else one for one in (lm, companion))
    for one in (first, second):
        if not isinstance(one, CausalLM):
            raise ArgumentError("no language model", expected="a CausalLM, or a loaded model", got=type(one).__name__)
    marks = {one.tokenizer.fingerprint for one in (lm, companion) if isinstance(one, Pretrained) and one.tokenizer}
    if len(marks) > 1:
        raise ArgumentError(
            "the two models have different vocabularies", expected="the same tokens", got="tokenizers that differ"
        )
    if first.vocab_size != second.vocab_size:
        raise ArgumentError(
            "the two models have different vocabularies", expected=f"{first.vocab_size} tokens", got=second.vocab_size
        )
    if isinstance(second_prompt, str):
        source = companion if isinstance(companion, Pretrained) else lm
        second_prompt = as_tokenizer(source).encode(second_prompt)
    tokens = None if second_prompt is None else jnp.asarray(second_prompt, jnp.int32)
    if tokens is not None and (tokens.ndim != 1 or tokens.size == 0):
        raise ArgumentError("second_prompt is no sequence of tokens", expected="Int['P']", got=tokens.shape)
    limits = [limit for limit in (first.max_positions, second.max_positions) if limit is not None]
    both = CompanionLM(first, second, tokens, first.vocab_size, first.dim, min(limits, default=None))
    return dataclasses.replace(lm, lm=both) if isinstance(lm, Pretrained) else both


def second_model(temperature: float = 1.0) -> Callable[[LanguageProcess], SecondModel]:
    """What `generation` takes for ``proposal`` where the model is a `CompanionLM`: tokens come from the companion.

    Args:
        temperature: the companion's logits are divided by it.

    Raises:
        ArgumentError: when the generation is made, for a model without a companion.

    Properly weighted for: the model, where the companion gives every token a positive probability.
    """
    if not temperature > 0:
        raise ArgumentError("temperature is out of range", expected="above 0", got=temperature)

    def make(process: LanguageProcess) -> SecondModel:
        if not isinstance(process.lm, CompanionLM):
            raise ArgumentError(
                "the model has no companion",
                expected="a CompanionLM",
                got=type(process.lm).__name__,
                hint="with_companion(lm, second) makes one",
            )
        return SecondModel(process, temperature)

    return make
