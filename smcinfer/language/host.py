r"""Generation with a model that lives outside JAX: a torch network, a service.

The engine takes its steps on the host loop. Tokens, logits and weights are JAX arrays as everywhere; what the model keeps of
each sequence (its keys and values) stays where the model lives. A particle carries the row that it has there: after a
resampling the rows say which sequences to copy, and nothing is moved at a step that did not resample.
"""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.feynman_kac import FeynmanKac, Mutation
from smcinfer.core.nouns import Process, Proposal, Time
from smcinfer.core.plan import Plan
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, Particles, PyTree
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.lm import Output
from smcinfer.language.networks.symbols import TokenLaw
from smcinfer.language.networks.tokenizer import Tokenizer
from smcinfer.language.process import Rules
from smcinfer.language.texts import TEXTS, WeightedText, weighted_texts


class HostLM(abc.ABC):
    """A language model outside JAX.

    Attributes:
        vocab_size: V.
        max_positions: the longest sequence, or ``None``.
    """

    vocab_size: int
    max_positions: int | None

    @abc.abstractmethod
    def start(self, prompt: Sequence[int], num_sequences: int) -> tuple[Float[np.ndarray, " V"], Any]:
        """Read a prompt once, for several sequences that go on from it: logits, and what is kept of them."""

    @abc.abstractmethod
    def step(
        self, tokens: Int[np.ndarray, " N"], rows: Int[np.ndarray, " N"] | None, kept: Any
    ) -> tuple[Float[np.ndarray, "N V"], Any]:
        """Read one token of each sequence.

        Args:
            tokens: one a sequence.
            rows: which of the sequences kept each goes on from; ``None`` where each goes on from its own.
            kept: what `start` or the last `step` returned.
        """


class HostProcess(Process):
    """The law of the next token, read off the state: all that proposals need of a model on the host."""

    def initial(self) -> None:
        """Every particle starts from the prompt."""
        return

    def transition(self, t: Time, state: PyTree[Any]) -> TokenLaw:
        """Law of the next token."""
        del t
        return TokenLaw(state.logits)


class HostGeneration(FeynmanKac):
    """Sequences of a model on the host, weighed by a potential (made by `smcinfer.language.generation`).

    Properly weighted for: as `Generation`.
    """

    lm: HostLM = eqx.field(static=True)
    prompt: tuple[int, ...] = eqx.field(static=True)
    potential: Any
    proposal: Proposal
    num_steps: int = eqx.field(static=True)
    rules: Rules
    tokenizer: Tokenizer | None = eqx.field(static=True)
    memories: dict[int, Any] = eqx.field(static=True, default_factory=dict)  # what each run's model keeps, by number

    @property
    def plan(self) -> Plan:
        """As of `Generation`."""
        return Plan(TEXTS, label="generating")

    @property
    def on_host(self) -> bool:
        """Always."""
        return True

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """All sequences at the end of the prompt."""
        del key
        logits, kept = self.lm.start(self.prompt, num_particles)
        name = 1 + max(self.memories, default=0)
        self.memories[name] = kept
        state = _first(self.rules, self._checked(jnp.asarray(logits)[None], 1)[0], num_particles)
        return Mutation(state, _weigh(self.potential, jnp.zeros((), jnp.int32), state), jnp.asarray(name, jnp.int32))

    def mutate(
        self, key: KeyArray, t: Int[Array, ""], particles: Particles, shared: PyTree[Any], resampled: Flag
    ) -> Mutation:
        """Draw a token a sequence, let the model read them, weigh."""
        state: Any = particles
        size = state.length.shape[0]
        x, log_w = _propose(self.proposal, key, t, state, size)
        name, rows = int(shared), np.asarray(state.cache) if bool(resampled) else None
        logits, self.memories[name] = self.lm.step(np.asarray(x), rows, self.memories[name])
        if int(t) == self.num_steps:
            del self.memories[name]
        moved = _next(self.rules, t, state, x, self._checked(jnp.asarray(logits), size))
        return Mutation(moved, log_w + _weigh(self.potential, t, moved), shared)

    def _checked(self, logits: Array, size: int) -> Array:
        if logits.shape != (size, self.lm.vocab_size):
            raise ArgumentError(
                "the model on the host returned the wrong shape",
                expected=f"({size}, {self.lm.vocab_size}), a row of logits a sequence",
                got=logits.shape,
            )
        return logits

    def exported(self, particles: Particles) -> PyTree[Any]:
        """The sequences."""
        state: Any = particles
        return {"tokens": state.tokens, "length": state.length, "finished": state.finished}

    def decode(self, result: Any) -> list[WeightedText]:
        """As `Generation.decode`."""
        shown: Any = result.particles if isinstance(result.particles, dict) else self.exported(result.particles)
        return weighted_texts(shown, result, list(self.prompt), self.tokenizer, self.rules.eos_id)


@eqx.filter_jit
def _propose(proposal: Proposal, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
    return proposal.propose(key, t, states, size)


@eqx.filter_jit
def _weigh(potential: Any, t: Time, states: Particles) -> LogWeights:
    return jax.vmap(lambda state: potential(t, state))(states).astype(jnp.result_type(float))


@eqx.filter_jit
def _first(rules: Rules, logits: Array, size: int) -> Particles:
    """The prompt's state for every particle; each starts as its own row."""
    return jax.vmap(lambda row: rules.first(_output(logits), row))(jnp.arange(size, dtype=jnp.int32))


@eqx.filter_jit
def _next(rules: Rules, t: Time, states: Particles, x: Array, logits: Array) -> Particles:
    """Every particle's state with its token; each is its own row again."""
    rows = jnp.arange(x.shape[0], dtype=jnp.int32)
    return jax.vmap(lambda state, x, logits, row: rules.next(t, state, x, _output(logits), row))(
        states, x, logits, rows
    )


def _output(logits: Array) -> Output:
    """A model on the host shows no hidden state."""
    return Output(logits, jnp.zeros((0,), logits.dtype))
