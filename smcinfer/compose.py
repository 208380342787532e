r"""The four nouns, each written for one particle, and the Feynman-Kac model they compose.

.. math::
    \pi_t(x_{0:t}) \propto p_0(x_{0:t}) \prod_{s \le t} \phi_s(x_{0:s})\, \psi_t(x_{0:t}), \qquad
    w_t = \frac{p_0(x_t \mid x_{0:t-1})}{q(x_t \mid x_{0:t-1})}
          \frac{\phi_t(x_{0:t})\,\psi_t(x_{0:t})}{\psi_{t-1}(x_{0:t-1})}

The twist is one after the last potential, so the final target is the untwisted one and :math:`\hat Z` is unbiased
for its normaliser whatever the twist and the proposal are.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution
from numpyro.distributions.batch_util import promote_batch_shape

from smcinfer.arrays import Array, Flag, Int, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.errors import SmcinferError, TargetError
from smcinfer.feynman_kac import FeynmanKac, Mutation

Time = Int[Array, ""]


class Process(eqx.Module):
    """The base law p0: where a particle starts and how it moves when nothing is asked of it."""

    @abc.abstractmethod
    def initial(self) -> Distribution | None:
        """Law of x_0, or ``None`` where every particle starts from one known state."""

    @abc.abstractmethod
    def transition(self, t: Time, state: PyTree[Any]) -> Distribution:
        """Law of x_t given the state after step t - 1 (t from 1)."""

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

    def initial(self) -> Distribution | None:
        """Law of x_0."""
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
    """A `Process` from functions of one particle; ``initial`` may be the distribution itself."""
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

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """Draws for all particles; override where one batched draw is cheaper than a key a particle."""
        return jax.vmap(lambda key, state: self(key, t, state))(jax.random.split(key, size), states)


class Bootstrap(Proposal):
    """Draw from the process itself: weight one."""

    process: Process
    includes_potential: bool = eqx.field(static=True, default=False)

    def __call__(self, key: KeyArray, t: Time, state: PyTree[Any]) -> tuple[PyTree[Any], Scalar]:
        """A draw of the transition."""
        return self.process.transition(t, state).sample(key), jnp.zeros(())

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """One batched draw of all transitions."""
        laws = promote_batch_shape(jax.vmap(lambda state: self.process.transition(t, state))(states))
        return laws.sample(key), jnp.zeros((size,), jnp.result_type(float))


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
        law = self.guide(t, state)
        x = law.sample(key)
        return x, _total(self.process.transition(t, state).log_prob(x)) - _total(law.log_prob(x))

    def initial(self, key: KeyArray) -> tuple[PyTree[Any], Scalar] | None:
        """A draw of the guide at t = 0 and its log importance weight."""
        law = self.process.initial()
        if self.guide_initial is None or law is None:
            return None
        x = self.guide_initial.sample(key)
        return x, _total(law.log_prob(x)) - _total(self.guide_initial.log_prob(x))

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """One batched draw of all guides."""
        guides = promote_batch_shape(jax.vmap(lambda state: self.guide(t, state))(states))
        x = guides.sample(key)

        def log_ratio(x: PyTree[Any], state: PyTree[Any]) -> Scalar:
            forward = self.process.transition(t, state).log_prob(x)
            return _total(forward) - _total(self.guide(t, state).log_prob(x))

        return x, jax.vmap(log_ratio)(x, states)


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
        return symbol, jax.nn.logsumexp(joint) - log_twist[symbol]

    def look_ahead(self, t: Time, state: PyTree[Any]) -> Scalar:
        """log C."""
        return jax.nn.logsumexp(self._joint(t, state)[0])

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """One batched categorical draw."""
        joint, log_twist = jax.vmap(lambda state: self._joint(t, state))(states)
        symbols = jax.random.categorical(key, joint)
        chosen = jnp.take_along_axis(log_twist, symbols[:, None], axis=1)[:, 0]
        return symbols, jax.nn.logsumexp(joint, axis=1) - chosen


def _total(log_prob: Array) -> Scalar:
    """Log density of one particle's x, summed over batch dimensions that the user left independent."""
    return jnp.sum(log_prob)


class _Particle(eqx.Module):
    """What one particle of a composed model carries."""

    state: PyTree[Any]
    log_twist: Array
    log_ahead: Array | None


class Composed(FeynmanKac):
    """The Feynman-Kac model of a process, a potential, a twist and a proposal (made by `compose`)."""

    process: Process
    potential: Potential
    twist: Callable[[Time, PyTree[Any]], Scalar] | None
    proposal: Proposal
    num_steps: int = eqx.field(static=True)
    ahead: Callable[[Time, PyTree[Any]], Scalar] | None = None

    def _log_twist(self, t: Time, state: PyTree[Any]) -> Scalar:
        if self.twist is None:
            return jnp.zeros(())
        return jnp.where(t >= self.num_steps, 0.0, self.twist(t, state))

    def _log_ahead(self, t: Time, state: PyTree[Any], log_twist: Scalar) -> Scalar | None:
        """What is known of step t's weight after step t - 1."""
        known = self.ahead(t, state) if self.ahead is not None else self.proposal.look_ahead(t, state)
        return None if known is None else jnp.where(t > self.num_steps, 0.0, known - log_twist)

    def _carry(self, t: Time, states: Particles) -> Particles:
        def one(state: PyTree[Any]) -> _Particle:
            log_twist = jnp.asarray(self._log_twist(t, state), jnp.result_type(float))
            return _Particle(state, log_twist, self._log_ahead(t + 1, state, log_twist))

        return jax.vmap(one)(states)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Particles at t = 0, weighted by phi_0 psi_0 (and by a guide of x_0 where there is one)."""
        t = jnp.zeros((), jnp.int32)
        law = self.process.initial()
        log_w = jnp.zeros((num_particles,), jnp.result_type(float))
        guided = jax.eval_shape(self.proposal.initial, key) is not None
        if law is None:
            # One known state: computed once, then shared.
            state = self.process.advance(t, None, None)
            states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_particles, *jnp.shape(leaf))), state)
        else:
            if guided:
                x, log_w = jax.vmap(self.proposal.initial)(jax.random.split(key, num_particles))  # pyright: ignore
            else:
                x = law.sample(key, (num_particles,))
            states = jax.vmap(lambda x: self.process.advance(t, None, x))(x)
        particles = self._carry(t, states)
        return Mutation(
            particles, log_w + jax.vmap(lambda state: self.potential(t, state))(states) + particles.log_twist
        )

    def look_ahead(self, t: Time, particles: Particles, shared: PyTree[Any]) -> LogWeights | None:
        """The proposal's look-ahead over the last twist."""
        del t, shared
        return particles.log_ahead

    def mutate(self, key: KeyArray, t: Time, particles: Particles, shared: PyTree[Any], resampled: Flag) -> Mutation:
        """Propose, advance, and weigh by what the look-ahead did not hold."""
        del shared, resampled
        size = particles.log_twist.shape[0]
        x, log_w = self.proposal.propose(key, t, particles.state, size)
        states = jax.vmap(lambda state, x: self.process.advance(t, state, x))(particles.state, x)
        moved = self._carry(t, states)
        log_w = log_w + moved.log_twist - particles.log_twist
        if not self.proposal.includes_potential:
            log_w = log_w + jax.vmap(lambda state: self.potential(t, state))(states)
        if particles.log_ahead is not None:
            log_w = log_w - particles.log_ahead
        return Mutation(moved, log_w)


def compose(
    process: Process,
    potential: Potential,
    twist: Callable[[Time, PyTree[Any]], Scalar] | None = None,
    proposal: Proposal | None = None,
    *,
    num_steps: int,
    look_ahead: Callable[[Time, PyTree[Any]], Scalar] | None = None,
) -> Composed:
    """The Feynman-Kac model of the four nouns, checked on shapes before any work.

    Args:
        process: the base law.
        potential: ``(t, state) -> Float[""]``, log phi_t in nats, at t = 0 .. num_steps.
        twist: ``(t, state) -> Float[""]``, log psi_t in nats; ``None`` is one everywhere.
        proposal: how to move; the process itself where ``None``.
        num_steps: mutations after t = 0.
        look_ahead: ``(t, state) -> Float[""]``, a guess of step t's log weight made before it, seen by resampling and
            then taken back (the auxiliary particle filter of Pitt & Shephard 1999); the proposal's own where ``None``.

    Returns:
        A `FeynmanKac` for the driver.

    Raises:
        TargetError: if a part does not keep its contract (a transition that is no distribution, a potential that is
            no scalar).

    Properly weighted for: ``p0(x_{0:T}) prod_t phi_t``, whatever the twist, the proposal and the look-ahead.
    """
    if num_steps < 0:
        raise TargetError("num_steps is out of range", expected="at least 0", got=num_steps)
    model = Composed(process, potential, twist, proposal or Bootstrap(process), num_steps, look_ahead)
    _check(model)
    return model


def twisted(process: Process, potential: Potential, twist: Twist, *, num_steps: int) -> Composed:
    """`compose` with the proposal that the twist induces: the default for a discrete process."""
    return compose(process, potential, twist, TwistInduced(process, twist), num_steps=num_steps)


def _check(model: Composed) -> None:
    """Trace one particle through every part, and say which part broke which promise."""
    t = jax.ShapeDtypeStruct((), jnp.int32)
    law = _call("process.initial", model.process.initial)
    if law is not None and not isinstance(law, Distribution):
        raise TargetError(
            "process.initial returned no distribution", expected="a numpyro distribution", got=type(law).__name__
        )
    key = jax.eval_shape(lambda: jax.random.key(0))
    x = None if law is None else _call("process.initial", lambda key: model.process.initial().sample(key), key)  # pyright: ignore
    state = _call("process.advance", lambda t, x: model.process.advance(t, None, x), t, x)
    next_law = _call("process.transition", model.process.transition, t, state)
    if not isinstance(next_law, Distribution):
        raise TargetError(
            "process.transition returned no distribution",
            expected="a numpyro distribution, dist.Normal(mean, scale) say",
            got=type(next_law).__name__,
            hint="return the law of x_t, not a draw of it or its mean",
        )
    functions = {"potential": model.potential, "twist": model.twist, "look_ahead": model.ahead}
    for name, function in functions.items():
        if function is None:
            continue
        value = _call(name, function, t, state)
        if not hasattr(value, "shape") or value.shape != ():
            raise TargetError(
                f"{name} did not return a scalar",
                expected="Float[''], log in nats, for one particle",
                got=getattr(value, "shape", type(value).__name__),
                hint="sum over the dimensions of the particle; the engine adds the particle axis",
            )
    x, log_w = _call("proposal", model.proposal, key, t, state)
    if log_w.shape != ():
        raise TargetError("proposal did not return a scalar log weight", expected="()", got=log_w.shape)
    after = _call("process.advance", model.process.advance, t, state, x)
    _same_structure(state, after)


def _call(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return eqx.filter_eval_shape(function, *arguments)
    except SmcinferError:
        raise
    except Exception as error:
        raise TargetError(
            f"{name} raised {type(error).__name__} when traced on one particle",
            got=str(error).strip().splitlines()[0] if str(error).strip() else "no message",
            hint="functions get one particle and must be JAX functions of static shape",
        ) from error


def _same_structure(before: PyTree[Any], after: PyTree[Any]) -> None:
    def shapes(tree: PyTree[Any]) -> Any:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    if jax.tree.structure(before) != jax.tree.structure(after) or shapes(before) != shapes(after):
        raise TargetError(
            "process.advance changes the state's structure between t = 0 and later steps",
            expected=shapes(before),
            got=shapes(after),
            hint="build the state at t = 0 with the shapes and dtypes that later steps return",
        )
