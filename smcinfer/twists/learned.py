r"""A twist that is learned: what it is a function of, and how it takes its place in a model.

What is learned is the value of a step, its own potential included,

.. math:: \chi_t(x_{0:t}) \approx \chi^\star_t(x_{0:t}) = \phi_t(x_{0:t})\, E_{p_0}[\chi^\star_{t+1}(x_{0:t+1}) \mid x_{0:t}],

from which the proposal and the twist of the engine follow:

.. math:: q_t(x_t \mid x_{0:t-1}) = \frac{p_0(x_t \mid x_{0:t-1})\, \chi_t(x_{0:t})}{C_t(x_{0:t-1})}, \qquad
          \psi_{t-1}(x_{0:t-1}) = C_t(x_{0:t-1}) = E_{p_0}[\chi_t \mid x_{0:t-1}].

The weight of step t is then :math:`\phi_t\, C_{t+1} / \chi_t`: one everywhere where :math:`\chi = \chi^\star`. Where
only the end is rewarded, :math:`\chi_t` is what Zhao, Brekelmans, Makhzani & Grosse (2024) write :math:`\psi_t`; with a
reward at every step it is the policy of controlled sequential Monte Carlo (Heng, Bishop, Deligiannidis & Doucet 2020).
"""

import abc
from typing import Any

import equinox as eqx
from numpyro.distributions import Distribution

from smcinfer.core.compose import Composed
from smcinfer.core.nouns import Bootstrap, Process, Proposal, Time, Twist
from smcinfer.ground.arrays import Array, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError

Seen = PyTree[Any]
"""What a learned twist keeps of a state and of the base law that leaves it; small, as it is kept for whole paths."""


class LearnedTwist(eqx.Module):
    """A family of functions log chi_t, written for one particle; its arrays are what is trained and saved."""

    @abc.abstractmethod
    def look(self, law: Distribution, state: PyTree[Any]) -> Seen:
        """What the twist will need of the state before a step.

        Args:
            law: the base law of x_t given that state.
            state: the state after step t - 1; ``None`` before x_0 is drawn.
        """

    @abc.abstractmethod
    def log_value(self, t: Time, seen: Seen, x: PyTree[Any]) -> Scalar:
        """log chi_t of a path that goes on to x_t = x, nats."""

    @abc.abstractmethod
    def log_mean(self, t: Time, seen: Seen) -> Scalar:
        """log C_t, of the mean of chi_t under the base law, nats."""

    @abc.abstractmethod
    def proposal(self, process: Process) -> Proposal:
        """The proposal that the twist induces on a process, with log C_t as its look-ahead."""

    @property
    def bounded(self) -> bool:
        """Whether chi_t is at most one by construction, as a classifier's probability is."""
        return False

    def given(self, context: PyTree[Any]) -> "LearnedTwist":
        """The twist for one context, where it was learned for many (see `smcinfer.twists.Family`)."""
        raise TargetError(
            f"{type(self).__name__} takes no context",
            expected="a twist whose `given(context)` returns the twist for that context",
            hint="learn it for one target, or choose a twist that reads the context",
        )


class BoundTwist(Twist):
    """A learned twist on its process: what the engine carries.

    Attributes:
        process: the base law.
        learned: the twist.
    """

    process: Process
    learned: LearnedTwist

    def _seen(self, t: Time, state: PyTree[Any]) -> Seen:
        return self.learned.look(self.process.transition(t, state), state)

    def __call__(self, t: Time, state: PyTree[Any]) -> Scalar:
        """log psi_t = log C_{t+1}, nats."""
        return self.learned.log_mean(t + 1, self._seen(t + 1, state))

    def next(self, t: Time, state: PyTree[Any]) -> Array:
        """log chi_t of every symbol, nats, where the twist is one of symbols."""
        values: Any = getattr(self.learned, "log_values", None)
        return super().next(t, state) if values is None else values(t, self._seen(t, state))


def attach(model: Any, twist: LearnedTwist | None) -> Any:
    """The model with a learned twist and the proposal that it induces; without either where the twist is ``None``.

    Args:
        model: made by `compose`, `state_space` or `language.generation`; its own twist, proposal and look-ahead are
            replaced.
        twist: the learned twist.

    Properly weighted for: the model's own target, whatever the twist.

    Raises:
        ArgumentError: for what is no composed model.
        TargetError: for a twist that cannot be put on this process.
    """
    if not isinstance(model, Composed):
        raise ArgumentError(
            "a twist needs a composed model",
            expected="a model made by compose, state_space or language.generation",
            got=type(model).__name__,
        )
    bound = None if twist is None else BoundTwist(model.process, twist)
    mover = Bootstrap(model.process) if twist is None else twist.proposal(model.process)
    return model.with_twist(bound, mover)
