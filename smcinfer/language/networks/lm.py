r"""What the engine needs of a causal language model, for one particle.

The prompt is read once (`CausalLM.prefill`) and what it leaves behind, the `Prefix`, is shared by all particles. What a
particle generates is its own: a `Cache` of static shape, of which one step writes one slot and copies nothing else.
"""

import abc
from typing import Any, TypeAlias

import equinox as eqx

from smcinfer.ground.arrays import Array, Float, Int, PyTree
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.programs import compiled

Prefix: TypeAlias = PyTree[Any]
"""What the prompt left behind: its keys and values, for a transformer. No particle axis."""

Cache: TypeAlias = PyTree[Any]
"""What one particle's generated tokens left behind, of static shape."""


class Output(eqx.Module):
    """What a model says after reading a token, or after each of several.

    Attributes:
        logits: Float["*tokens vocab"], unnormalised log probabilities of the next token, nats.
        hidden: Float["*tokens dim"], the last hidden state, after the final norm: the input of learned heads.
    """

    logits: Float[Array, "*tokens vocab"]
    hidden: Float[Array, "*tokens dim"]


class CausalLM(eqx.Module):
    """A causal language model, written for one sequence; the engine adds the particle axis.

    Attributes:
        vocab_size: V, number of tokens.
        dim: D, size of the hidden state.
        max_positions: the most tokens that prompt and generation may have together, ``None`` for any number.
    """

    vocab_size: eqx.AbstractVar[int]
    dim: eqx.AbstractVar[int]
    max_positions: eqx.AbstractVar[int | None]

    @abc.abstractmethod
    def prefill(self, tokens: Int[Array, " prompt"]) -> tuple[Output, Prefix]:
        """Read the prompt: what is said after its last token, and what all particles share of it.

        Args:
            tokens: Int["prompt"], at least one.
        """

    @abc.abstractmethod
    def empty(self, length: int) -> Cache:
        """One particle's cache with room for ``length`` generated tokens."""

    @abc.abstractmethod
    def step(self, token: Int[Array, ""], slot: Int[Array, ""], cache: Cache, prefix: Prefix) -> tuple[Output, Cache]:
        """Read one generated token.

        Args:
            token: Int[""], the token.
            slot: Int[""], how many were generated before it; the same for all particles, so that writing the cache stays
                one slice of one array.
            cache: the particle's, up to ``slot``.
            prefix: the prompt's.

        Returns:
            What is said of the next token, and the cache with this one.
        """

    @abc.abstractmethod
    def forward(self, tokens: Int[Array, " length"]) -> Output:
        """Read a whole sequence at once, to score it or to learn from it: what is said after each of its tokens."""


@compiled
def prefill(lm: CausalLM, tokens: Int[Array, " prompt"]) -> tuple[Output, Prefix]:
    """`CausalLM.prefill`, compiled: one program for all prompts of a length."""
    return lm.prefill(tokens)


def as_model(lm: Any) -> CausalLM:
    """The language model itself, or that of what was loaded with its tokenizer.

    Raises:
        ArgumentError: where there is none.
    """
    found = lm if isinstance(lm, CausalLM) else getattr(lm, "lm", None)
    if not isinstance(found, CausalLM):
        raise ArgumentError(
            "lm is no language model",
            expected="a CausalLM, or what language.load or language.from_transformers returned",
            got=type(lm).__name__,
        )
    return found
