"""Any function from tokens to logits as a language model: no cache, the whole sequence is read again at every step."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Int
from smcinfer.ground.errors import TargetError, call_on_host, calling
from smcinfer.language.networks.lm import CausalLM, Output


class CallableLM(CausalLM):
    """A function as a model (made by `from_callable`); it has no hidden state.

    Attributes:
        next_logits: ``(tokens, length) -> logits``.
        vocab_size, max_positions: as of any model; ``dim`` is 0.
    """

    next_logits: Callable[[Int[Array, " L"], Int[Array, ""]], Array]
    vocab_size: int = eqx.field(static=True)
    max_positions: int | None = eqx.field(static=True)
    dim: int = eqx.field(static=True, default=0)

    def _output(self, tokens: Int[Array, " L"], length: Int[Array, ""]) -> Output:
        logits = self.next_logits(tokens, length)
        if logits.shape != (self.vocab_size,):
            raise TargetError(
                "next_logits returned the wrong shape",
                expected=f"({self.vocab_size},), one logit a token",
                got=logits.shape,
            )
        return Output(logits, jnp.zeros((0,), logits.dtype))

    def prefill(self, tokens: Int[Array, " prompt"]) -> tuple[Output, Int[Array, " prompt"]]:
        """The prompt itself is what is kept."""
        return self._output(tokens, jnp.asarray(tokens.shape[0], jnp.int32)), tokens

    def empty(self, length: int) -> Int[Array, " length"]:
        """Room for the generated tokens, which is all that the function reads."""
        return jnp.zeros((length,), jnp.int32)

    def step(
        self, token: Int[Array, ""], slot: Int[Array, ""], cache: Int[Array, " length"], prefix: Int[Array, " prompt"]
    ) -> tuple[Output, Int[Array, " length"]]:
        """Write the token and read everything."""
        cache = jax.lax.dynamic_update_index_in_dim(cache, token.astype(jnp.int32), slot, 0)
        return self._output(jnp.concatenate([prefix, cache]), prefix.shape[0] + slot + 1), cache

    def forward(self, tokens: Int[Array, " length"]) -> Output:
        """Every prefix read by itself."""
        lengths = jnp.arange(1, tokens.shape[0] + 1, dtype=jnp.int32)
        return jax.lax.map(lambda length: self._output(tokens, length), lengths)


class HostFunction(eqx.Module):
    """A Python function of several sequences, called from inside the compiled program."""

    function: Callable[[list[list[int]]], Any] = eqx.field(static=True)
    vocab_size: int = eqx.field(static=True)

    def __call__(self, tokens: Int[Array, " L"], length: Int[Array, ""]) -> Array:
        """Logits of one sequence; under `jax.vmap` one call for all of them."""
        shape = jax.ShapeDtypeStruct((self.vocab_size,), jnp.float32)
        return jax.pure_callback(self._call, shape, tokens, length, vmap_method="broadcast_all")

    def _call(self, tokens: Any, length: Any) -> np.ndarray:
        return call_on_host(self._rows, np.asarray(tokens), np.asarray(length))

    def _rows(self, tokens: np.ndarray, length: np.ndarray) -> np.ndarray:
        flat = zip(tokens.reshape(-1, tokens.shape[-1]), length.ravel(), strict=True)
        rows = [row[:size].tolist() for row, size in flat]
        with calling("next_logits", expected="an array of one row of logits a sequence"):
            logits = np.asarray(self.function(rows), np.float32)
        if logits.shape != (len(rows), self.vocab_size):
            raise TargetError(
                "next_logits returned the wrong shape", expected=(len(rows), self.vocab_size), got=logits.shape
            )
        return logits.reshape(*tokens.shape[:-1], self.vocab_size)


def from_callable(
    next_logits: Callable[..., Any], vocab_size: int, *, host: bool = False, max_positions: int | None = None
) -> CallableLM:
    """A language model from a function that says what comes next.

    Args:
        next_logits: ``(tokens, length) -> logits``, a JAX function of one sequence: tokens Int["L"], of which the first
            ``length`` count (L is static), to Float["V"]. With ``host`` a plain Python function of a list of token lists,
            called once a step for all particles, to an array of one row of V each.
        vocab_size: V.
        host: see above.
        max_positions: the longest sequence it takes, ``None`` for any.
    """
    function = HostFunction(next_logits, vocab_size) if host else next_logits
    return CallableLM(function, vocab_size, max_positions)
