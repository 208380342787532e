r"""Conditional sequential Monte Carlo: a given path kept in slot 0 through every resampling.

The path :math:`x^\star_{0:T}` gets the weights that the sampler would have given it, and the other particles are drawn given
that slot 0 descends from itself. If :math:`x^\star \sim \pi`, the whole population has the law under which

.. math:: E[Z / \hat Z] = 1, \qquad E[\log \hat Z] \ge \log Z,

and a path drawn from its last weights is again a draw of :math:`\pi`: the bound from above, and the particle Gibbs kernel.

With *ancestor sampling* slot 0 keeps its values but draws at every resampling which particle it descends from,

.. math:: P(A^0_t = j) \propto \frac{W_{t-1}^j}{\psi_{t-1}(x_{t-1}^j)}\; p_0(x^\star_t \mid x_{t-1}^j),

so that the kept path and the drawn one part at many times and not only where the genealogy coalesces.

Exact in every scheme: the conditional versions (`smcinfer.core.resampling.conditional`) treat all places in the order of the
particles alike, so that slot 0 stands for any of them.

Sources: Andrieu, Doucet & Holenstein (2010), section 4.3; Lindsten, Jordan & Schon (2014), algorithm 2.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.compose import Composed
from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population
from smcinfer.core.plan import Plan
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Int, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.ground.slices import each

Path = PyTree[Any]
"""x_0 .. x_T of one particle: every leaf with a leading axis of T + 1."""


class Fixed(eqx.Module):
    """The same path for every run."""

    path: Path

    def __call__(self, key: KeyArray) -> Path:
        """The path, whatever the key."""
        del key
        return self.path


class Conditioned(FeynmanKac):
    """A composed model forced through a path in slot 0 (made by `condition`).

    Attributes:
        model: the model.
        draw: ``key -> path``, called once a run.
        ancestor_sampling: whether slot 0 draws whom it descends from.
        num_steps: of the model.
    """

    model: Composed
    draw: Callable[[Any], Path]
    ancestor_sampling: bool = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    @property
    def conditional(self) -> bool:
        """Slot 0 holds the path."""
        return True

    @property
    def plan(self) -> Plan:
        """The plan of the model itself, weighted for another thing."""
        words = "the model's target, with the given path among the particles; E[1 / Z_hat] = 1 / Z where it is an exact draw"
        return dataclasses.replace(self.model.plan, weighted_for=words)

    def _at(self, path: Path, t: Int[Array, ""] | int) -> PyTree[Any]:
        """x_t of the path; the path starts at x_1 where every particle starts from one known state."""
        first = 1 if self.model.process.initial() is None else 0
        return jax.tree.map(lambda leaf: leaf[t - first], path)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """As the model itself starts, with x_0 of the path in slot 0."""
        draw_key, path_key = jax.random.split(key)
        path = self.draw(path_key)
        x, log_w = self.model.draw_initial(draw_key, num_particles)
        if x is not None:
            kept = self._at(path, 0)
            x = _put_first(x, kept)
            log_w = log_w.at[0].set(self.model.proposal.initial_log_weight(kept).astype(log_w.dtype))
        started = self.model.start(x, log_w)
        return Mutation(started.particles, started.log_weights, path)

    def look_ahead(self, t: Int[Array, ""], particles: Particles, shared: Path) -> LogWeights | None:
        """What the model itself knows of the step before particles move, the kept one included."""
        del shared
        return self.model.look_ahead(t, particles, None)

    def reconnect(
        self, key: KeyArray, t: Int[Array, ""], population: Population, shared: Path
    ) -> Int[Array, ""] | None:
        """With ancestor sampling, the particle that the rest of the path continues from here on."""
        if not self.ancestor_sampling:
            return None
        x = self._at(shared, t)
        particles: Any = population.particles
        reach = each(lambda state: jnp.sum(self.model.process.transition(t, state).log_prob(x)))(particles.state)
        log_weights = population.log_weights - particles.log_twist + reach
        if particles.log_ahead is not None:
            # Resampling sees the look-ahead; the path's future is known and needs none.
            log_weights = log_weights - particles.log_ahead
        log_weights = jnp.where(jnp.isnan(log_weights) | (population.log_weights == -jnp.inf), -jnp.inf, log_weights)
        return jax.random.categorical(key, log_weights).astype(jnp.int32)

    def mutate(self, key: KeyArray, t: Int[Array, ""], particles: Particles, shared: Path, resampled: Flag) -> Mutation:
        """Propose for all, put the path into slot 0, weigh."""
        del resampled
        states: Any = particles.state  # pyright: ignore[reportAttributeAccessIssue]
        x, log_w = self.model.proposal.propose(key, t, states, particles.log_twist.shape[0])  # pyright: ignore
        kept = self._at(shared, t)
        parent = jax.tree.map(lambda leaf: leaf[0], states)
        log_w = log_w.at[0].set(self.model.proposal.log_weight(t, parent, kept).astype(log_w.dtype))
        moved = self.model.advance(t, particles, _put_first(x, kept), log_w)
        return Mutation(moved.particles, moved.log_weights, shared)

    def record(self, t: Int[Array, ""], population: Population) -> dict[str, Any]:
        """What the model itself records, the kept particle included."""
        return self.model.record(t, population)

    def exported(self, particles: Particles) -> PyTree[Any]:
        """What the model itself shows."""
        return self.model.exported(particles)


def condition(model: FeynmanKac, path: Path | Callable[[Any], Path], *, ancestor_sampling: bool = False) -> Conditioned:
    """The model with a path forced through slot 0, ready for the driver.

    Args:
        model: made by `compose`, `twisted` or `state_space`.
        path: x_0 .. x_T, every leaf with leading axis ``num_steps + 1`` (from x_1 on where the process starts from one known
            state); or ``key -> path``, drawn once a run.
        ancestor_sampling: whether slot 0 draws whom it descends from, where the state is x itself.

    Returns:
        A `FeynmanKac` whose log Z is bounded from below by the model's where the path is an exact draw.

    Raises:
        TargetError: for a path of the wrong shape, a proposal that cannot weigh a given draw, or ancestor sampling on a
            state that is not x.
    """
    if not isinstance(model, Composed):
        raise ArgumentError(
            "only composed models can be conditioned on a path",
            expected="a model made by compose, twisted or state_space",
            got=type(model).__name__,
        )
    validate.flag("ancestor_sampling", ancestor_sampling)
    draw = path if callable(path) else Fixed(jax.tree.map(jnp.asarray, path))
    if ancestor_sampling and not model.process.state_is_x:
        raise TargetError(
            "ancestor sampling needs a state that is x itself",
            expected="a process without an advance of its own",
            got=type(model.process).__name__,
            hint="leave ancestor_sampling off: the path then keeps its own ancestors",
        )
    _check_path(model, draw)
    return Conditioned(model, draw, ancestor_sampling, model.num_steps)


def log_joint(model: Composed, path: Path) -> Scalar:
    r"""log of :math:`p_0(x_{0:T}) \prod_t \phi_t`, nats: what the final weights are proper for.

    Args:
        model: made by `compose`, `twisted` or `state_space`.
        path: x_0 .. x_T as in `condition`.
    """
    law = model.process.initial()
    first: Any = None if law is None else jax.tree.map(lambda leaf: leaf[0], path)
    t = jnp.zeros((), jnp.int32)
    state = model.process.advance(t, None, first)
    start = jnp.zeros(()) if law is None else jnp.sum(law.log_prob(first))

    def once(carry: tuple[Array, PyTree[Any]], x: PyTree[Any]) -> tuple[tuple[Array, PyTree[Any]], Array]:
        t, state = carry
        forward = jnp.sum(model.process.transition(t, state).log_prob(x))
        state = model.process.advance(t, state, x)
        return (t + 1, state), forward + model.potential(t, state)

    later = path if law is None else jax.tree.map(lambda leaf: leaf[1:], path)
    _, terms = jax.lax.scan(once, (t + 1, state), later, length=model.num_steps)
    return start + model.potential(t, state) + jnp.sum(terms)


def _put_first(x: Particles, kept: PyTree[Any]) -> Particles:
    return jax.tree.map(lambda all_lanes, one: all_lanes.at[0].set(one.astype(all_lanes.dtype)), x, kept)


def _check_path(model: Composed, draw: Callable[[Any], Path]) -> None:
    """The path must look like the model's own draws, and the proposal must be able to weigh it; shapes only."""
    key = jax.eval_shape(lambda: jax.random.key(0))

    def expected(key: KeyArray) -> PyTree[Any]:
        t = jnp.zeros((), jnp.int32)
        x, _ = model.draw_initial(key, 1)
        state = model.process.advance(t, None, None if x is None else jax.tree.map(lambda leaf: leaf[0], x))
        later = model.process.transition(t + 1, state).sample(key)
        model.proposal.log_weight(t + 1, state, later)
        length = model.num_steps + (x is not None)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (length, *leaf.shape)), later)

    def shapes(tree: PyTree[Any]) -> Any:
        return jax.tree.map(lambda leaf: leaf.shape, tree)

    want, got = shapes(eqx.filter_eval_shape(expected, key)), shapes(eqx.filter_eval_shape(draw, key))
    if want != got:
        raise TargetError(
            "the path does not look like the model's own",
            expected=f"x_0 .. x_T with the shapes {want}",
            got=got,
            hint="every leaf has time first, num_steps + 1 entries",
        )
