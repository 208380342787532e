r"""The four nouns, each written for one particle, and the Feynman-Kac model they compose.

.. math::
    \pi_t(x_{0:t}) \propto p_0(x_{0:t}) \prod_{s \le t} \phi_s(x_{0:s})\, \psi_t(x_{0:t}), \qquad
    w_t = \frac{p_0(x_t \mid x_{0:t-1})}{q(x_t \mid x_{0:t-1})}
          \frac{\phi_t(x_{0:t})\,\psi_t(x_{0:t})}{\psi_{t-1}(x_{0:t-1})}

The twist is one after the last potential, so the final target is the untwisted one and :math:`\hat Z` is unbiased
for its normaliser whatever the twist and the proposal are.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from smcinfer.core.feynman_kac import FeynmanKac, Mutation
from smcinfer.core.nouns import Bootstrap, Guided, Potential, Process, Proposal, Twist, TwistInduced, process
from smcinfer.core.plan import Plan
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, KeyArray, LogWeights, Particles, PyTree, Scalar, Time
from smcinfer.ground.errors import TargetError, calling
from smcinfer.ground.names import leaves_by_name
from smcinfer.ground.slices import each

__all__ = [
    "Bootstrap",
    "Composed",
    "Guided",
    "Potential",
    "Process",
    "Proposal",
    "Time",
    "Twist",
    "TwistInduced",
    "compose",
    "induced",
    "process",
]


class _Particle(eqx.Module):
    """What one particle of a composed model carries."""

    state: PyTree[Any]
    log_twist: Array
    log_ahead: Array | None


Mover = Proposal | Callable[[Process], Proposal]
"""A proposal, or what makes one of a process: `Bootstrap` itself, say."""


class Composed(FeynmanKac):
    """The Feynman-Kac model of a process, a potential, a twist and a proposal (made by `compose`).

    A family of models with hooks or fields of its own subclasses it; ``Family.extending(compose(...), own=...)`` makes one.
    """

    process: Process
    potential: Potential
    twist: Callable[[Time, PyTree[Any]], Scalar] | None
    proposal: Proposal
    num_steps: int = eqx.field(static=True)
    ahead: Callable[[Time, PyTree[Any]], Scalar] | None = None

    @property
    def plan(self) -> Plan:
        """Particles stand for the process times its potentials, whatever the twist and the proposal."""
        return Plan("the process times its potentials, p0(x_0:T) prod_t phi_t; log Z is of its total mass")

    @classmethod
    def extending[Kind: "Composed"](cls: type[Kind], model: "Composed", **own: Any) -> Kind:
        """A model of this class with the parts of another one.

        Args:
            model: whose fields are taken over.
            own: fields of this class that ``model`` lacks.
        """
        return cls(**{field.name: getattr(model, field.name) for field in dataclasses.fields(model)}, **own)

    def replace[Kind: "Composed"](self: Kind, **parts: Any) -> Kind:
        """The same model, of the same class, with some of its fields put in place of others; nothing is checked."""
        return dataclasses.replace(self, **parts)

    def with_twist[Kind: "Composed"](
        self: Kind, twist: Callable[[Time, PyTree[Any]], Scalar] | None, proposal: Mover | None = None
    ) -> Kind:
        """The same target with another twist; its old proposal and look-ahead, which went with the old one, are put aside.

        Args:
            twist: ``(t, state) -> Float[""]``, log psi_t in nats; ``None`` is one everywhere.
            proposal: how to move; where ``None``, what the twist induces if it has ``next``, else the process itself.

        Raises:
            TargetError: where one of them does not fit the process.

        Properly weighted for: the target as it was.
        """
        model = self.replace(twist=twist, proposal=self.mover(twist, proposal), ahead=None)
        _check(model)
        return model

    def with_proposal[Kind: "Composed"](self: Kind, proposal: Mover) -> Kind:
        """The same target and twist, moved in another way.

        Raises:
            TargetError: for a proposal that does not fit the process.

        Properly weighted for: the target as it was.
        """
        model = self.replace(proposal=self.mover(self.twist, proposal))
        _check(model)
        return model

    def mover(self, twist: Any, proposal: Mover | None) -> Proposal:
        """The proposal that goes with a twist; a family that moves particles in a way of its own says so here."""
        if proposal is None:
            return induced(self.process, twist)
        return proposal if isinstance(proposal, Proposal) else proposal(self.process)

    def _log_twist(self, t: Time, state: PyTree[Any]) -> Scalar:
        if self.twist is None:
            return jnp.zeros(())
        return jnp.where(t >= self.num_steps, 0.0, self.twist(t, state))

    def _log_ahead(self, t: Time, state: PyTree[Any], log_twist: Scalar) -> Scalar | None:
        """What is known of step t's weight after step t - 1."""
        known = self.ahead(t, state) if self.ahead is not None else self.proposal.look_ahead(t, state)
        return None if known is None else jnp.where(t > self.num_steps, 0.0, known - log_twist)

    def carry(self, t: Time, states: Particles) -> Particles:
        """Particles in these states after step t, with their twist and what is known of step t + 1."""

        def one(state: PyTree[Any]) -> _Particle:
            log_twist = jnp.asarray(self._log_twist(t, state), jnp.result_type(float))
            return _Particle(state, log_twist, self._log_ahead(t + 1, state, log_twist))

        return each(one)(states)

    def draw_initial(self, key: KeyArray, num_particles: int) -> tuple[Particles, LogWeights]:
        """Draws of x_0 with their log weights; ``None`` for x where every particle starts from one known state."""
        law = self.process.initial()
        if law is not None and jax.eval_shape(self.proposal.initial, key) is not None:
            return each(self.proposal.initial)(jax.random.split(key, num_particles))  # pyright: ignore
        x = None if law is None else law.sample(key, (num_particles,))
        return x, jnp.zeros((num_particles,), jnp.result_type(float))

    def start(self, x: Particles, log_w: LogWeights) -> Mutation:
        """Particles at given x_0, weighted by phi_0 psi_0 and what the draws weigh."""
        t = jnp.zeros((), jnp.int32)
        size = log_w.shape[0]
        if x is None:
            # One known state: computed once, then shared.
            state = self.process.advance(t, None, None)
            states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *jnp.shape(leaf))), state)
        else:
            states = each(lambda x: self.process.advance(t, None, x))(x)
        particles = self.carry(t, states)
        return Mutation(particles, log_w + each(lambda state: self.potential(t, state))(states) + particles.log_twist)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Particles at t = 0, weighted by phi_0 psi_0 (and by a guide of x_0 where there is one)."""
        return self.start(*self.draw_initial(key, num_particles))

    def look_ahead(self, t: Time, particles: Particles, shared: PyTree[Any]) -> LogWeights | None:
        """The proposal's look-ahead over the last twist."""
        del t, shared
        return particles.log_ahead

    def advance(self, t: Time, particles: Particles, x: Particles, log_w: LogWeights) -> Mutation:
        """Particles moved to given x_t, weighted by what the look-ahead did not hold."""
        states = each(lambda state, x: self.process.advance(t, state, x))(particles.state, x)
        moved = self.carry(t, states)
        log_w = log_w + moved.log_twist - particles.log_twist
        if not self.proposal.includes_potential:
            log_w = log_w + self._log_potentials(t, states)
        if particles.log_ahead is not None:
            # A dead end was seen ahead: it weighs zero already, and minus infinity cannot be taken back.
            log_w = jnp.where(particles.log_ahead == -jnp.inf, -jnp.inf, log_w - particles.log_ahead)
        return Mutation(moved, log_w)

    def _log_potentials(self, t: Time, states: Particles) -> LogWeights:
        """log phi_t of every particle; not evaluated where step t is known to weigh nothing."""
        evaluate = each(lambda state: self.potential(t, state))
        informative = self.informative(t)
        if informative is None:
            return evaluate(states)
        value = jax.eval_shape(evaluate, states)
        return jax.lax.cond(informative, evaluate, lambda _: jnp.zeros(value.shape, value.dtype), states)

    def exported(self, particles: Particles) -> PyTree[Any]:
        """The process's states, without the twist's values that particles carry beside them."""
        return particles.state  # pyright: ignore[reportAttributeAccessIssue]

    def mutate(self, key: KeyArray, t: Time, particles: Particles, shared: PyTree[Any], resampled: Flag) -> Mutation:
        """Draw x_t of all particles from the proposal, then `advance` and weigh them."""
        del shared, resampled
        x, log_w = self.proposal.propose(key, t, particles.state, particles.log_twist.shape[0])
        return self.advance(t, particles, x, log_w)


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
        proposal: how to move; where ``None``, what the twist induces if it has ``next``, else the process itself.
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
    process = validate.instance(
        "process", process, Process, "smcinfer.process(initial, transition), or a Process of your own"
    )
    num_steps = validate.count("num_steps", num_steps, at_least=0)
    mover = induced(process, twist) if proposal is None else proposal
    model = Composed(process, potential, twist, mover, num_steps, look_ahead)
    _check(model)
    return model


def induced(process: Process, twist: Any) -> Proposal:
    """The proposal that a twist induces on a process, where it has ``next``; else the process itself."""
    has_next = isinstance(twist, Twist) and type(twist).next is not Twist.next
    return TwistInduced(process, twist) if has_next else Bootstrap(process)


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
    leaves_by_name(state)  # raises where two entries would have one name
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
    with calling(name, hint="functions get one particle and must be JAX functions of static shape"):
        return eqx.filter_eval_shape(function, *arguments)


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
