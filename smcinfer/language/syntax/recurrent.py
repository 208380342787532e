"""A long short-term memory that can be run over a whole packed sequence or one step at a time."""

from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Bool, Float, KeyArray

Memory: TypeAlias = tuple[Float[Array, " hidden"], Float[Array, " hidden"]]
"""Hidden state and cell."""


class LSTM(eqx.Module):
    """One layer; gates in the order input, forget, cell, output.

    Attributes:
        inward: Float["4*hidden inputs"], from the input.
        across: Float["4*hidden hidden"], from the last hidden state.
        bias: Float["4*hidden"].
    """

    inward: Float[Array, "gates inputs"]
    across: Float[Array, "gates hidden"]
    bias: Float[Array, " gates"]

    def __init__(self, key: KeyArray, num_inputs: int, num_hidden: int) -> None:
        keys = jax.random.split(key)
        init = jax.nn.initializers.orthogonal()
        self.inward = jax.nn.initializers.glorot_uniform()(keys[0], (4 * num_hidden, num_inputs))
        self.across = jnp.concatenate([init(k, (num_hidden, num_hidden)) for k in jax.random.split(keys[1], 4)])
        # A forget gate that starts open.
        self.bias = jnp.zeros((4 * num_hidden,)).at[num_hidden : 2 * num_hidden].set(1.0)

    @property
    def num_hidden(self) -> int:
        """Size of the hidden state."""
        return self.across.shape[1]

    def start(self) -> Memory:
        """The memory before anything was read."""
        return jnp.zeros((self.num_hidden,)), jnp.zeros((self.num_hidden,))

    def step(self, memory: Memory, x: Float[Array, " inputs"]) -> Memory:
        """The memory after one input."""
        return self._gated(memory, self.inward @ x + self.bias)

    def _gated(self, memory: Memory, projected: Float[Array, " gates"]) -> Memory:
        hidden, cell = memory
        gates = projected + self.across @ hidden
        let_in, keep, new, let_out = jnp.split(gates, 4)
        cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(let_in) * jnp.tanh(new)
        return jax.nn.sigmoid(let_out) * jnp.tanh(cell), cell

    def scan(
        self, xs: Float[Array, "length inputs"], restart: Bool[Array, " length"], *, reverse: bool = False
    ) -> Float[Array, "length hidden"]:
        """Hidden states after each input.

        Args:
            xs: Float["length inputs"].
            restart: Bool["length"], where memory is lost before reading: so several sequences share one row.
            reverse: read from the end.
        """

        def one(memory: Memory, step: tuple[Array, Array]) -> tuple[Memory, Array]:
            projected, fresh = step
            memory = jax.tree.map(lambda leaf: jnp.where(fresh, 0.0, leaf), memory)
            memory = self._gated(memory, projected)
            return memory, memory[0]

        # The inputs' share of the gates is one large product; only the hidden states' has to wait its turn.
        projected = xs @ self.inward.T + self.bias
        return jax.lax.scan(one, self.start(), (projected, restart), reverse=reverse)[1]
