"""What every transformer here does alike: the sizes it is asked for, and how it reads a prompt or a whole sequence."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.language.networks.attention import KeysValues
from smcinfer.language.networks.lm import CausalLM, Output


class Transformer(CausalLM):
    """A causal language model that keeps the keys and values of each layer.

    Attributes:
        config: sizes, with ``vocab_size``, ``dim`` and ``max_positions`` among them.
    """

    config: eqx.AbstractVar[Any]

    @property
    def vocab_size(self) -> int:
        """V, the number of tokens."""
        return self.config.vocab_size

    @property
    def dim(self) -> int:
        """D, the length of a hidden state."""
        return self.config.dim

    @property
    def max_positions(self) -> int:
        """The longest sequence that the positions reach."""
        return self.config.max_positions

    def prefill(self, tokens: Int[Array, " prompt"]) -> tuple[Output, list[KeysValues]]:
        """Read the prompt; all particles share its keys and values."""
        hidden, prompt = self._read(tokens)
        return self._output(hidden[-1]), prompt

    def forward(self, tokens: Int[Array, " length"]) -> Output:
        """Read a whole sequence at once."""
        return self._output(self._read(tokens)[0])

    @abc.abstractmethod
    def _read(self, tokens: Int[Array, " length"]) -> tuple[Float[Array, "length dim"], list[KeysValues]]:
        """What the last layer says of every token, and every layer's keys and values."""

    @abc.abstractmethod
    def _output(self, x: Float[Array, "*tokens dim"]) -> Output:
        """Logits and hidden state from what the last layer says."""


def apply_rows(matrix: Float[Array, "out in"], x: Float[Array, "*tokens in"]) -> Float[Array, "*tokens out"]:
    """A matrix that is kept as (out, in) on each of several vectors.

    Said without a transpose: XLA makes ``x @ matrix.T`` of one vector copy the matrix at every step, which on a CPU takes
    longer than the product.
    """
    return jnp.einsum("...i,oi->...o", x, matrix)
