r"""Language models that live outside JAX, a torch network or a service, as models of the engine.

The compiled program calls the host once a step, for the particles of all runs together. What the network keeps of the sequences
(its keys and values) stays where the network lives, and the program does not know of it: a call says which tokens each sequence
has, and the host finds each sequence's row among those that it read last. Where one is not there, at the first step or after a
run was resumed from a checkpoint, all are read again from the prompt on. So a call is a function of the tokens and of nothing
else, and whatever is done with a model in JAX can be done with one on the host, as far as it needs logits alone.
"""

import abc
import dataclasses
import traceback
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.ground.errors import ArgumentError, TargetError, call_on_host, calling, kept_on_host
from smcinfer.language.networks.lm import CausalLM, Output


class HostLM(abc.ABC):
    """A language model outside JAX; `smcinfer.language.generation` takes it as it takes a `CausalLM`.

    Attributes:
        vocab_size: V.
        max_positions: the longest sequence, or ``None``.
    """

    vocab_size: int
    max_positions: int | None

    @abc.abstractmethod
    def start(self, prompt: Sequence[int], num_sequences: int) -> tuple[Float[np.ndarray, " V"], Any]:
        """Read a prompt once, for several sequences that go on from it.

        Returns:
            Float["V"], logits of the next token; and what is kept of the sequences, handed to the next `step`.
        """

    @abc.abstractmethod
    def step(
        self, tokens: Int[np.ndarray, " N"], rows: Int[np.ndarray, " N"] | None, kept: Any
    ) -> tuple[Float[np.ndarray, "N V"], Any]:
        """Read one token of each sequence.

        Args:
            tokens: Int["N"], one a sequence.
            rows: Int["N"], which of the sequences kept each goes on from; ``None`` where each goes on from its own.
            kept: what `start` or the last `step` returned; it is not used again and may be changed in place.

        Returns:
            Float["N V"], logits of each sequence's next token; and what is kept now.
        """

    def read(self, tokens: Int[np.ndarray, " L"]) -> Float[np.ndarray, "L V"]:
        """Logits after each token of one sequence; token by token, where a network has no faster way of its own."""
        logits, kept = self.start(tokens[:1].tolist(), 1)
        found = [logits]
        for token in tokens[1:]:
            row, kept = self.step(token[None], None, kept)
            found.append(row[0])
        return np.stack(found)

    @property
    def lm(self) -> "HostNetwork":
        """This model as one of the engine."""
        return HostNetwork(self, self.vocab_size, self.max_positions)


@dataclasses.dataclass(frozen=True)
class _Read:
    """The sequences that a network read last.

    Attributes:
        tokens: Int["N t"], what came after the prompt.
        kept: what the network keeps of them.
    """

    tokens: Int[np.ndarray, "N t"]
    kept: Any

    def go_on(self, tokens: Int[np.ndarray, "M t"]) -> tuple[Int[np.ndarray, " M"] | None, Any] | None:
        """The rows of some sequences (``None`` where each has its own) and what is kept; nothing where one was not read."""
        if tokens.shape[1] != self.tokens.shape[1]:
            return None
        if np.array_equal(tokens, self.tokens):
            return None, self.kept
        places = {row.tobytes(): place for place, row in enumerate(self.tokens)}
        found = [places.get(row.tobytes(), -1) for row in tokens]
        return None if -1 in found else (np.asarray(found), self.kept)


class HostNetwork(CausalLM):
    """A model outside JAX as the engine sees it: logits, and no hidden state (made by `HostLM.lm`).

    Attributes:
        host: the model.
    """

    host: HostLM = eqx.field(static=True)
    vocab_size: int = eqx.field(static=True)
    max_positions: int | None = eqx.field(static=True)
    dim: int = eqx.field(static=True, default=0)

    def prefill(self, tokens: Int[Array, " prompt"]) -> tuple[Output, Int[Array, " prompt"]]:
        """What is said after the prompt; the prompt itself is what is kept."""
        return self._ask(self._after_prompt, (), tokens), tokens.astype(jnp.int32)

    def empty(self, length: int) -> Int[Array, " length"]:
        """Room for the generated tokens, which is all that the host needs."""
        return jnp.zeros((length,), jnp.int32)

    def step(
        self, token: Int[Array, ""], slot: Int[Array, ""], cache: Int[Array, " length"], prefix: Int[Array, " prompt"]
    ) -> tuple[Output, Int[Array, " length"]]:
        """Write the token, and ask what is said of the next."""
        cache = jax.lax.dynamic_update_index_in_dim(cache, token.astype(jnp.int32), slot, 0)
        return self._ask(self._after_token, (), prefix, cache, slot), cache

    def forward(self, tokens: Int[Array, " length"]) -> Output:
        """What is said after each token of a sequence."""
        return self._ask(self._after_each, tokens.shape, tokens)

    def _ask(self, function: Any, shape: tuple[int, ...], *arguments: Array) -> Output:
        def call(*given: Any) -> np.ndarray:
            return call_on_host(function, *map(np.asarray, given))

        wanted = jax.ShapeDtypeStruct((*shape, self.vocab_size), jnp.float32)
        logits = jax.pure_callback(call, wanted, *arguments, vmap_method="expand_dims")
        return Output(logits, jnp.zeros((*shape, 0), logits.dtype))

    def _after_prompt(self, prompt: np.ndarray) -> np.ndarray:
        rows = prompt.reshape(-1, prompt.shape[-1])
        with calling("the model on the host"):
            found = [self.host.start(row.tolist(), 1)[0] for row in rows]
        return self._checked(found, len(rows)).reshape(*prompt.shape[:-1], -1)

    def _after_each(self, tokens: np.ndarray) -> np.ndarray:
        rows = tokens.reshape(-1, tokens.shape[-1])
        with calling("the model on the host"):
            found = np.stack([self.host.read(row) for row in rows])
        return self._checked(found.reshape(-1, found.shape[-1]), rows.size).reshape(*tokens.shape, -1)

    def _after_token(self, prompt: np.ndarray, tokens: np.ndarray, slot: np.ndarray) -> np.ndarray:
        batch = np.broadcast_shapes(prompt.shape[:-1], tokens.shape[:-1], slot.shape)
        slots, prompts = np.unique(slot), np.unique(prompt.reshape(-1, prompt.shape[-1]), axis=0)
        if len(slots) != 1 or len(prompts) != 1:
            raise TargetError(
                "a model on the host reads its sequences in step",
                expected="one prompt and one length for all sequences of a call",
                got=f"{len(prompts)} prompts, lengths {slots.tolist()}",
            )
        rows = np.broadcast_to(tokens, (*batch, tokens.shape[-1])).reshape(-1, tokens.shape[-1])
        with calling("the model on the host"):
            try:
                logits = self._step(prompts[0], np.ascontiguousarray(rows), int(slots[0]))
            except BaseException as error:
                # An error holds the frames that it went through, and they the network's cache.
                traceback.clear_frames(error.__traceback__)
                raise
        return self._checked(logits, len(rows)).reshape(*batch, -1)

    def _step(self, prompt: np.ndarray, tokens: np.ndarray, slot: int) -> np.ndarray:
        """Logits after the token in ``slot`` of each sequence."""
        notes, name = kept_on_host(), (self.host, prompt.tobytes())
        # Taken out while it is in use: another thread that asks in between reads everything itself.
        last: _Read | None = notes.pop(name, None)
        before = tokens[:, :slot]
        going_on = None if last is None else last.go_on(before)
        rows, kept = (None, self._again(prompt, before)) if going_on is None else going_on
        logits, kept = self.host.step(tokens[:, slot], rows, kept)
        if slot + 1 < tokens.shape[1]:
            notes[name] = _Read(tokens[:, : slot + 1].copy(), kept)
        return logits

    def _again(self, prompt: np.ndarray, tokens: np.ndarray) -> Any:
        """What the network keeps of some sequences, read from the prompt on."""
        _, kept = self.host.start(prompt.tolist(), len(tokens))
        for column in tokens.T:
            _, kept = self.host.step(np.ascontiguousarray(column), None, kept)
        return kept

    def _checked(self, logits: Any, count: int) -> np.ndarray:
        found = np.asarray(logits, np.float32)
        if found.shape != (count, self.vocab_size):
            raise TargetError(
                "the model on the host returned the wrong shape",
                expected=f"({count}, {self.vocab_size}), a row of logits a sequence",
                got=found.shape,
            )
        return found


def only_in_jax(lm: CausalLM, what: str) -> None:
    """Raise `ArgumentError` for a model on the host where sequences of different lengths are read at once."""
    if isinstance(lm, HostNetwork):
        raise ArgumentError(
            f"{what} reads sequences of different lengths at once, and a model on the host reads them in step",
            expected="a model in JAX: a CausalLM, or what language.load returned",
            got=type(lm.host).__name__,
        )
