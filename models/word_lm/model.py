r"""A recurrent language model whose tokens are words: small, and its step costs the same however much was read.

.. math:: p(w_{t+1} \mid w_{1:t}) \propto \exp(E\, P h_t + b), \qquad h_t = \mathrm{LSTM}(h_{t-1}, E_{w_t})

The table E is both ends of the model.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray
from smcinfer.language.networks.lm import CausalLM, Output
from smcinfer.language.syntax.recurrent import LSTM, Memory

UNKNOWN, BOS, EOS = 0, 1, 2
"""Tokens that are no words; the unknown word is learned from and never generated."""


class WordLM(CausalLM):
    """The model.

    Attributes:
        table: Float["V dim"], a vector each word.
        bias: Float["V"].
        memory: the recurrence.
        project: from hidden state to the table's dimension.
    """

    table: Float[Array, "vocab width"]
    bias: Float[Array, " vocab"]
    memory: LSTM
    project: eqx.nn.Linear
    vocab_size: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    max_positions: int | None = eqx.field(static=True, default=None)

    def output(self, hidden: Float[Array, " dim"]) -> Output:
        """What is said after a hidden state; the unknown word and BOS have probability zero."""
        logits = self.scores(hidden).at[jnp.array([UNKNOWN, BOS])].set(-jnp.inf)
        return Output(logits, hidden)

    def scores(self, hidden: Float[Array, " dim"]) -> Float[Array, " vocab"]:
        """Logits of all tokens, those included that are never generated: what training sees."""
        return self.table @ self.project(hidden) + self.bias

    def prefill(self, tokens: Int[Array, " prompt"]) -> tuple[Output, Memory]:
        """Read the prompt, BOS first."""
        memory, _ = jax.lax.scan(
            lambda memory, token: (self.memory.step(memory, self.table[token]), None), self.memory.start(), tokens
        )
        return self.output(memory[0]), memory

    def empty(self, length: int) -> Memory:
        """The memory; whatever the length."""
        del length
        return self.memory.start()

    def step(self, token: Int[Array, ""], slot: Int[Array, ""], cache: Memory, prefix: Memory) -> tuple[Output, Memory]:
        """Read one word; the first goes on from the prompt's memory."""
        before = jax.tree.map(lambda own, shared: jnp.where(slot == 0, shared, own), cache, prefix)
        after = self.memory.step(before, self.table[token])
        return self.output(after[0]), after

    def forward(self, tokens: Int[Array, " length"]) -> Output:
        """What is said after each of some tokens."""
        return jax.vmap(self.output)(self.states(self.table[tokens], jnp.arange(tokens.shape[0]) == 0))

    def states(
        self, vectors: Float[Array, "length width"], first: Bool[Array, " length"]
    ) -> Float[Array, "length dim"]:
        """Hidden states after each vector; ``first`` marks where sentences begin."""
        return self.memory.scan(vectors, first)


def build(key: KeyArray, vocab_size: int, width: int = 128, hidden: int = 256) -> WordLM:
    """A model with weights as they are before training.

    Args:
        key: one random key, for the initial weights.
        vocab_size: words that have a number.
        width: length of a word's embedding, which is read and predicted with the same table.
        hidden: units of the LSTM.
    """
    keys = jax.random.split(key, 3)
    table = 0.1 * jax.random.normal(keys[0], (vocab_size, width))
    memory, project = LSTM(keys[1], width, hidden), eqx.nn.Linear(hidden, width, key=keys[2])
    return WordLM(table, jnp.zeros((vocab_size,)), memory, project, vocab_size, hidden)
