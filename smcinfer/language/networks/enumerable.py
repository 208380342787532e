r"""A language model small enough to enumerate: an n-gram law given by a table.

.. math:: p(s_t \mid s_{1:t-1}) = \mathrm{softmax}(\theta[s_{t-k}, \dots, s_{t-1}])

Its hidden state is the one-hot code of the context, so that a linear head can say anything that depends on it. Tests compare
everything that is written for language models with the sum over all its strings.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Int, KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.lm import CausalLM, Output


class TableLM(CausalLM):
    """An n-gram model (made by `table_lm`).

    Attributes:
        table: Float["C V"], logits of the next token in each of C = (V + 1)^k contexts; the symbol V stands for "before
            the start". A context is read as a number in base V + 1, its last token the units.
        order: k, tokens that the next one depends on.
    """

    table: Float[Array, "contexts vocab"]
    order: int = eqx.field(static=True)
    vocab_size: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    max_positions: int | None = eqx.field(static=True, default=None)

    def _output(self, window: Int[Array, "*tokens order"]) -> Output:
        place = (self.vocab_size + 1) ** jnp.arange(self.order - 1, -1, -1, dtype=jnp.int32)
        context = jnp.sum(window * place, axis=-1)
        return Output(self.table[context], jax.nn.one_hot(context, self.dim, dtype=self.table.dtype))

    def prefill(self, tokens: Int[Array, " prompt"]) -> tuple[Output, Int[Array, " order"]]:
        """The prompt's last tokens are all that counts."""
        before = jnp.full((self.order,), self.vocab_size, jnp.int32)
        window = jnp.concatenate([before, tokens.astype(jnp.int32)])[-self.order :]
        return self._output(window), window

    def empty(self, length: int) -> Int[Array, " length"]:
        """The generated tokens themselves."""
        return jnp.zeros((length,), jnp.int32)

    def step(
        self, token: Int[Array, ""], slot: Int[Array, ""], cache: Int[Array, " length"], prefix: Int[Array, " order"]
    ) -> tuple[Output, Int[Array, " length"]]:
        """Write the token into its slot and read the window that ends there."""
        cache = jax.lax.dynamic_update_index_in_dim(cache, token.astype(jnp.int32), slot, 0)
        window = jax.lax.dynamic_slice_in_dim(jnp.concatenate([prefix, cache]), slot + 1, self.order)
        return self._output(window), cache

    def forward(self, tokens: Int[Array, " length"]) -> Output:
        """All windows at once."""
        before = jnp.full((self.order - 1,), self.vocab_size, jnp.int32)
        padded = jnp.concatenate([before, tokens.astype(jnp.int32)])
        return self._output(jnp.stack([padded[lag : lag + tokens.shape[0]] for lag in range(self.order)], axis=-1))


def table_lm(key: KeyArray, vocab_size: int = 5, order: int = 2, scale: float = 1.0) -> TableLM:
    """An n-gram model with normal logits.

    Args:
        key: of the table.
        vocab_size: V.
        order: k, at least 1; the table has (V + 1)^k rows.
        scale: standard deviation of the logits, nats.
    """
    if vocab_size < 2 or order < 1:
        raise ArgumentError("no such model", expected="vocab_size >= 2, order >= 1", got=(vocab_size, order))
    contexts = (vocab_size + 1) ** order
    table = scale * jax.random.normal(key, (contexts, vocab_size), jnp.result_type(float))
    return TableLM(table, order, vocab_size, contexts)
