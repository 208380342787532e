r"""Twists of processes that draw symbols: log chi_t of all of them at once, and everything else is a sum.

.. math:: C_t(x_{0:t-1}) = \sum_v p_0(v \mid x_{0:t-1})\, \chi_t(x_{0:t-1}, v)
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from smcinfer.core.nouns import Process, Proposal, Time, TwistInduced
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.twists.learned import BoundTwist, LearnedTwist, Seen


def log_probabilities(law: Distribution) -> Float[Array, " vocab"]:
    """Normalised log probabilities of a law over symbols, nats.

    Raises:
        TargetError: if it is no such law.
    """
    logits = getattr(law, "logits", None)
    if logits is None or law.event_shape != ():
        raise TargetError(
            "the transition is no law over symbols", expected="a categorical distribution", got=type(law).__name__
        )
    return jax.nn.log_softmax(logits)


class SymbolTwist(LearnedTwist):
    """A learned twist on a process whose x_t is one of V symbols."""

    @abc.abstractmethod
    def log_values(self, t: Time, seen: Seen) -> Float[Array, " vocab"]:
        """log chi_t of every symbol, nats."""

    @abc.abstractmethod
    def log_base(self, seen: Seen) -> Float[Array, " vocab"]:
        """log p0 of every symbol, nats."""

    def log_value(self, t: Time, seen: Seen, x: Int[Array, ""]) -> Scalar:
        """log chi_t of one symbol, nats."""
        return self.log_values(t, seen)[x]

    def log_mean(self, t: Time, seen: Seen) -> Scalar:
        """log C_t, by a sum over all symbols, nats."""
        base = self.log_base(seen)
        return jax.nn.logsumexp(jnp.where(base == -jnp.inf, -jnp.inf, base + self.log_values(t, seen)))

    def proposal(self, process: Process) -> Proposal:
        """The proposal that draws a symbol from p0 chi_t, normalised, with log C_t as its look-ahead."""
        return SymbolInduced(process, BoundTwist(process, self))


class SymbolInduced(TwistInduced):
    r"""`TwistInduced`, which draws x_0 from :math:`p_0 \chi_0` too where it is drawn at all."""

    def _joint_initial(self) -> tuple[Array, Array]:
        law = self.process.initial()
        learned: Any = self.twist.learned  # pyright: ignore[reportAttributeAccessIssue]
        assert law is not None
        values = learned.log_values(jnp.zeros((), jnp.int32), learned.look(law, None))
        base = log_probabilities(law)
        return jnp.where(base == -jnp.inf, -jnp.inf, base + values), values

    def initial(self, key: KeyArray) -> tuple[Array, Scalar] | None:
        """A draw of x_0 and log C - log chi of it."""
        if self.process.initial() is None:
            return None
        joint, values = self._joint_initial()
        x = jax.random.categorical(key, joint)
        return x, jax.nn.logsumexp(joint) - values[x]

    def initial_log_weight(self, x: Int[Array, ""]) -> Scalar:
        """log C - log chi of a given x_0."""
        if self.process.initial() is None:
            return jnp.zeros(())
        joint, values = self._joint_initial()
        return jax.nn.logsumexp(joint) - values[x]


class TableTwist(SymbolTwist):
    """One number for every step and symbol: for Markov chains on few states.

    Attributes:
        table: Float["steps vocab"], log chi_t, for t = 0 .. T, nats.
    """

    table: Float[Array, "steps vocab"]

    def look(self, law: Distribution, state: PyTree[Any]) -> Seen:
        """Keep log p0 of every symbol, Float["vocab"], nats; the state is not needed."""
        del state
        return log_probabilities(law)

    def log_base(self, seen: Seen) -> Float[Array, " vocab"]:
        """log p0 of every symbol, which is all that `look` kept, nats."""
        return seen

    def log_values(self, t: Time, seen: Seen) -> Float[Array, " vocab"]:
        """The row of t."""
        del seen
        return self.table[t]


class Context(eqx.Module):
    """What a head sees of a state.

    Attributes:
        log_base: Float["V"], log p0 of the next symbol, nats.
        hidden: Float["D"], the features.
        ended: Bool[""], whether the sequence is over: nothing can be gained any more.
    """

    log_base: Float[Array, " vocab"]
    hidden: Float[Array, " dim"]
    ended: Array


class HeadTwist(SymbolTwist):
    """A head on the features of a state (``state.hidden``), with one output a symbol.

    A state that says it is over (``state.finished``) has value one whatever comes.
    """

    def look(self, law: Distribution, state: PyTree[Any]) -> Context:
        """Base law and features of the state."""
        if not hasattr(state, "hidden"):
            raise TargetError(
                "a head needs the features of a state",
                expected="a state with `hidden`, as language models have, after a known start",
                got=type(state).__name__,
            )
        ended = getattr(state, "finished", jnp.zeros((), bool))
        return Context(log_probabilities(law), state.hidden, ended)

    def log_base(self, seen: Context) -> Float[Array, " vocab"]:
        """log p0 of every symbol, kept by `look` beside the hidden state, nats."""
        return seen.log_base

    @abc.abstractmethod
    def head(self, t: Time, seen: Context) -> Float[Array, " vocab"]:
        """log chi_t of every symbol of a sequence that goes on, nats."""

    def log_values(self, t: Time, seen: Context) -> Float[Array, " vocab"]:
        """`head`, or zero where the sequence is over."""
        values = self.head(t, seen)
        values = -jax.nn.softplus(-values) if self.bounded else values
        return jnp.where(seen.ended, 0.0, values)
