"""The four nouns, each written for one particle: the process, the potential, the twist and the proposal.

`smcinfer.compose` makes a Feynman-Kac model of them. The proposals that need no learning are here too: the process itself
(`Bootstrap`), a guide that has seen the data (`Guided`), and the law that a twist induces (`TwistInduced`).
"""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro.distributions import Distribution

from smcinfer.core.draws import draw_each
from smcinfer.ground.arrays import Array, KeyArray, LogWeights, Particles, PyTree, Scalar, Time
from smcinfer.ground.errors import TargetError
from smcinfer.ground.slices import each


class Process(eqx.Module):
    """The base law p0: where a particle starts and how it moves when nothing is asked of it."""

    @abc.abstractmethod
    def initial(self) -> Distribution | None:
        """Law of x_0, or ``None`` where every particle starts from one known state."""

    @abc.abstractmethod
    def transition(self, t: Time, state: PyTree[Any]) -> Distribution:
        """Law of x_t given the state after step t - 1 (t from 1)."""

    @property
    def state_is_x(self) -> bool:
        """Whether the state is x_t itself: a Markov chain whose law looks back one step and no further."""
        return type(self).advance is Process.advance

    def advance(self, t: Time, state: PyTree[Any], x: PyTree[Any]) -> PyTree[Any]:
        """The state after x_t was drawn: the place to run a network once. At t = 0 ``state`` is ``None``.

        By default the state is x itself.
        """
        del t, state
        return x


class FunctionProcess(Process):
    """A process given by plain functions (see `process`)."""

    initial_fn: Callable[[], Distribution | None]
    transition_fn: Callable[[Time, PyTree[Any]], Distribution]
    advance_fn: Callable[[Time, PyTree[Any], PyTree[Any]], PyTree[Any]] | None

    @property
    def state_is_x(self) -> bool:
        """Where no ``advance`` was given."""
        return self.advance_fn is None

    def initial(self) -> Distribution | None:
        """The law of x_0, from ``initial_fn``."""
        return self.initial_fn()

    def transition(self, t: Time, state: PyTree[Any]) -> Distribution:
        """Law of x_t given the last state."""
        return self.transition_fn(t, state)

    def advance(self, t: Time, state: PyTree[Any], x: PyTree[Any]) -> PyTree[Any]:
        """The state after x_t was drawn."""
        return x if self.advance_fn is None else self.advance_fn(t, state, x)


def process(
    initial: Callable[[], Distribution | None] | Distribution,
    transition: Callable[[Time, PyTree[Any]], Distribution],
    advance: Callable[[Time, PyTree[Any], PyTree[Any]], PyTree[Any]] | None = None,
) -> Process:
    """A `Process` from functions of one particle.

    Args:
        initial: ``() -> distribution`` of x_0, or the distribution itself; returns ``None`` where every particle starts
            from one known state.
        transition: ``(t, state) -> distribution`` of x_t given the state after step t - 1, t from 1.
        advance: ``(t, state, x) -> state`` after x_t was drawn; ``None`` where the state is x_t itself.
    """
    return FunctionProcess((lambda: initial) if isinstance(initial, Distribution) else initial, transition, advance)


Potential = Callable[[Time, PyTree[Any]], Scalar]
"""``(t, state) -> Float[""]``: log phi_t, what is asked of the state after step t, nats."""


class Twist(eqx.Module):
    """The look-ahead: log psi_t(state) approximates the log expected product of the potentials to come."""

    @abc.abstractmethod
    def __call__(self, t: Time, state: PyTree[Any]) -> Scalar:
        """log psi_t of the state after step t, nats. The engine takes psi as one after the last step."""

    def next(self, t: Time, state: PyTree[Any]) -> Array:
        """log of phi_t psi_t, or what is known of it, for every symbol that step t could draw from ``state``.

        Only twists on discrete processes have it; it drives `TwistInduced`.
        """
        raise TargetError(
            f"{type(self).__name__} has no next()",
            expected="next(t, state) -> Float['vocab'] on a discrete process",
            hint="define it, or choose another proposal",
        )


class Proposal(eqx.Module):
    """How to move: a draw and its log weight, properly weighted for the transition.

    ``(key, t, state) -> (x, log_w)`` with ``E[exp(log_w) f(x)] = E_p0[f(x)]``; where ``includes_potential`` is true the
    right side is ``E_p0[f(x) phi_t(x)]`` instead, and the engine leaves the potential to the proposal.
    """

    if TYPE_CHECKING:  # a type checker takes an abstract field for an argument of every constructor

        @property
        def includes_potential(self) -> bool:
            """Whether the weight holds the potential."""
            ...

    else:
        includes_potential: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def __call__(self, key: KeyArray, t: Time, state: PyTree[Any]) -> tuple[PyTree[Any], Scalar]:
        """One draw of x_t given the state after step t - 1, and its log weight."""

    def look_ahead(self, t: Time, state: PyTree[Any]) -> Scalar | None:
        """The part of step t's log weight known before the draw, or ``None``; resampling then sees it first."""
        del t, state

    def initial(self, key: KeyArray) -> tuple[PyTree[Any], Scalar] | None:
        """A draw of x_0 with its log weight, or ``None`` to draw from the process."""
        del key

    def log_weight(self, t: Time, state: PyTree[Any], x: PyTree[Any]) -> Scalar:
        """The log weight of a *given* x_t, where the weight of a draw is a function of it (nats).

        Conditional SMC asks for it: a path that is kept gets the weights that the sampler would have given it.
        """
        del t, state, x
        raise TargetError(
            f"{type(self).__name__} cannot be conditioned on a given path",
            expected="log_weight(t, state, x), the log weight of a given draw",
            hint="define it where the weight is a function of the draw; Bootstrap, Guided and TwistInduced have it",
        )

    def initial_log_weight(self, x: PyTree[Any]) -> Scalar:
        """The log weight of a given x_0; zero where it is drawn from the process."""
        if type(self).initial is not Proposal.initial:
            raise TargetError(
                f"{type(self).__name__} draws x_0 but cannot weigh a given one",
                expected="initial_log_weight(x), the log weight of a given draw of x_0",
            )
        del x
        return jnp.zeros(())

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """Draws for all particles; override where one batched draw is cheaper than a key a particle."""
        return each(lambda key, state: self(key, t, state))(jax.random.split(key, size), states)


class Bootstrap(Proposal):
    """Draw from the process itself: weight one."""

    process: Process
    includes_potential: bool = eqx.field(static=True, default=False)

    def __call__(self, key: KeyArray, t: Time, state: PyTree[Any]) -> tuple[PyTree[Any], Scalar]:
        """A draw of the transition."""
        return self.process.transition(t, state).sample(key), jnp.zeros(())

    def log_weight(self, t: Time, state: PyTree[Any], x: PyTree[Any]) -> Scalar:
        """Zero: a draw of the process needs no weight."""
        del t, state, x
        return jnp.zeros(())

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """One batched draw of all transitions."""
        x = draw_each(key, lambda state: self.process.transition(t, state), states, size)
        return x, jnp.zeros((size,), jnp.result_type(float))


class Guided(Proposal):
    """Draw from a guide, a distribution that has seen the data: weight p0 / q.

    Attributes:
        process: the base law.
        guide: ``(t, state) -> Distribution`` of x_t, covering the transition's support.
        guide_initial: the distribution of x_0, or ``None`` for the process's own.
    """

    process: Process
    guide: Callable[[Time, PyTree[Any]], Distribution]
    guide_initial: Distribution | None = None
    includes_potential: bool = eqx.field(static=True, default=False)

    def __call__(self, key: KeyArray, t: Time, state: PyTree[Any]) -> tuple[PyTree[Any], Scalar]:
        """A draw of the guide and its log importance weight."""
        x = self.guide(t, state).sample(key)
        return x, self.log_weight(t, state, x)

    def log_weight(self, t: Time, state: PyTree[Any], x: PyTree[Any]) -> Scalar:
        """log p0 - log q."""
        return _total(self.process.transition(t, state).log_prob(x)) - _total(self.guide(t, state).log_prob(x))

    def initial(self, key: KeyArray) -> tuple[PyTree[Any], Scalar] | None:
        """A draw of the guide at t = 0 and its log importance weight."""
        if self.guide_initial is None or self.process.initial() is None:
            return None
        x = self.guide_initial.sample(key)
        return x, self.initial_log_weight(x)

    def initial_log_weight(self, x: PyTree[Any]) -> Scalar:
        """log p0 - log q at t = 0."""
        law = self.process.initial()
        if self.guide_initial is None or law is None:
            return jnp.zeros(())
        return _total(law.log_prob(x)) - _total(self.guide_initial.log_prob(x))

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """One batched draw of all guides."""
        x = draw_each(key, lambda state: self.guide(t, state), states, size)
        return x, each(lambda state, x: self.log_weight(t, state, x))(states, x)


class TwistInduced(Proposal):
    r"""Draw a symbol from :math:`q(v) = p_0(v) \psi(v) / C`, with :math:`C = \sum_v p_0(v) \psi(v)` known before the draw.

    The transition must be categorical over symbols (have ``logits``) and the twist must have ``next``.
    Source: Zhao, Brekelmans, Makhzani & Grosse (2024), section 3.2.
    """

    process: Process
    twist: Twist
    includes_potential: bool = eqx.field(static=True, default=False)

    def _joint(self, t: Time, state: PyTree[Any]) -> tuple[Array, Array]:
        law: Any = self.process.transition(t, state)
        log_p = jax.nn.log_softmax(law.logits)
        log_twist = self.twist.next(t, state)
        return jnp.where(log_p == -jnp.inf, -jnp.inf, log_p + log_twist), log_twist

    def __call__(self, key: KeyArray, t: Time, state: PyTree[Any]) -> tuple[PyTree[Any], Scalar]:
        """A symbol and log C - log psi of it."""
        joint, log_twist = self._joint(t, state)
        symbol = jax.random.categorical(key, joint)
        return symbol, _over(jax.nn.logsumexp(joint), log_twist[symbol])

    def log_weight(self, t: Time, state: PyTree[Any], x: PyTree[Any]) -> Scalar:
        """log C - log psi of a given symbol."""
        joint, log_twist = self._joint(t, state)
        return _over(jax.nn.logsumexp(joint), log_twist[x])

    def look_ahead(self, t: Time, state: PyTree[Any]) -> Scalar:
        """log C of the state before the step, nats."""
        return jax.nn.logsumexp(self._joint(t, state)[0])

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """One batched categorical draw."""
        joint, log_twist = each(lambda state: self._joint(t, state))(states)
        symbols = jax.random.categorical(key, joint)
        chosen = jnp.take_along_axis(log_twist, symbols[:, None], axis=1)[:, 0]
        return symbols, _over(jax.nn.logsumexp(joint, axis=1), chosen)


def _over(log_c: Array, log_psi: Array) -> Array:
    """log C - log psi; a state from which nothing can be drawn, or a symbol that never is, weighs zero."""
    return jnp.where((log_c == -jnp.inf) | (log_psi == -jnp.inf), -jnp.inf, log_c - log_psi)


def _total(log_prob: ArrayLike) -> Scalar:
    """Log density of one particle's x, summed over batch dimensions that the user left independent."""
    return jnp.sum(log_prob)
