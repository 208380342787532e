r"""Where a twist learns: weighted paths of a model, kept as what the twist sees of them.

A run is watched while it goes: of every particle only what the twist will look at is kept (`LearnedTwist.look`), never its
state, so that a cache of keys and values costs nothing here. Three kinds of paths are had of it:

* a *cloud*: all particles of every step, weighted for :math:`\pi_t`;
* *lines*: the ancestry of the last particles, weighted for the target;
* *replays*: exact draws of the target, taken through the process again.

No gradient flows through any of them.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core import smc
from smcinfer.core.compose import Composed
from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population
from smcinfer.core.plan import Plan
from smcinfer.core.settings import Settings
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.twists.learned import LearnedTwist, Seen


class Paths(eqx.Module):
    """Steps of K particles, along axis 0 the steps first .. T (from 1 where x_0 is known).

    Attributes:
        t: Int["S"], the steps.
        before: what the twist saw before each step, leaves ``(S, K, ...)``.
        x: what was drawn.
        after: what the twist saw after it.
        log_potential: Float["S K"], log phi_t, nats.
        log_stop: Float["S K"], log phi if the sequence ended with the next symbol, where that was asked for, nats.
        log_weights_before: Float["S K"], normalised weights that the particles had when x was drawn.
        log_weights: Float["S K"], their normalised weights after it.
    """

    t: Int[Array, " S"]
    before: Seen
    x: PyTree[Array]
    after: Seen
    log_potential: Float[Array, "S K"]
    log_stop: Float[Array, "S K"] | None
    log_weights_before: Float[Array, "S K"]
    log_weights: Float[Array, "S K"]

    def values(self, twist: LearnedTwist) -> Float[Array, "S K"]:
        """log chi_t of every step of every particle, nats."""
        return self._map(twist.log_value, self.before, self.x)

    def means(self, twist: LearnedTwist) -> Float[Array, "S K"]:
        """log C_t of the state before each step, nats."""
        return self._map(twist.log_mean, self.before)

    def means_after(self, twist: LearnedTwist) -> Float[Array, "S K"]:
        """log C_{t+1} of the state after each step, nats; zero after the last."""
        means = self._map(lambda t, seen: twist.log_mean(t + 1, seen), self.after)
        return means * (self.t < self.t[-1])[:, None]

    def values_of(self, twist: LearnedTwist, symbol: int) -> Float[Array, "S K"]:
        """log chi_{t+1} if the next symbol were this one, nats."""
        return self._map(lambda t, seen: twist.log_value(t + 1, seen, jnp.asarray(symbol, jnp.int32)), self.after)

    def _map(self, function: Any, *trees: PyTree[Any]) -> Float[Array, "S K"]:
        return jax.vmap(lambda t, *rows: jax.vmap(lambda *row: function(t, *row))(*rows))(self.t, *trees)


class Watched(FeynmanKac):
    """A composed model whose history keeps what a twist sees.

    Attributes:
        model: the model, its proposal one that leaves the potential to the engine.
        twist: whose `look` is kept.
        stop: a symbol whose potential, were it the next, is kept too; ``None`` for none.
        num_steps: of the model.
    """

    model: Composed
    twist: LearnedTwist
    stop: int | None = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    @property
    def plan(self) -> Plan:
        """The plan of the model that is watched."""
        return self.model.plan

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """The model's own start."""
        x, log_w = self.model.draw_initial(key, num_particles)
        started = self.model.start(x, log_w)
        log_potential = started.log_weights - log_w - started.particles.log_twist
        return self._watched(jnp.zeros((), jnp.int32), started, x, log_potential)

    def look_ahead(self, t: Int[Array, ""], particles: Particles, shared: PyTree[Any]) -> LogWeights | None:
        """The look-ahead of the model that is watched, nats."""
        return self.model.look_ahead(t, particles, shared)

    def mutate(
        self, key: KeyArray, t: Int[Array, ""], particles: Particles, shared: PyTree[Any], resampled: Array
    ) -> Mutation:
        """The model's own step, watched."""
        del shared, resampled
        before: Any = particles
        x, log_w = self.model.proposal.propose(key, t, before.state, before.log_twist.shape[0])
        moved = self.model.advance(t, before, x, log_w)
        # What the engine's weight holds besides the potential is finite, so that log phi = -inf comes out as it went in.
        rest = log_w + moved.particles.log_twist - before.log_twist
        rest = rest if before.log_ahead is None else rest - before.log_ahead
        return self._watched(t, moved, x, moved.log_weights - rest)

    def _watched(self, t: Array, moved: Mutation, x: Particles, log_potential: LogWeights) -> Mutation:
        particles: Any = moved.particles
        after = jax.vmap(lambda state: self.twist.look(self.model.process.transition(t + 1, state), state))(
            particles.state
        )
        if x is None:
            x = self._blank(particles.state)
        info = {"x": x, "after": after, "log_potential": log_potential}
        if self.stop is not None:
            info["log_stop"] = jax.vmap(lambda state: self._stopped(t + 1, state))(particles.state)
        return Mutation(moved.particles, moved.log_weights, info=info)

    def _stopped(self, t: Array, state: PyTree[Any]) -> Scalar:
        stopped = self.model.process.advance(t, state, jnp.asarray(self.stop, jnp.int32))
        return self.model.potential(t, stopped)

    def _blank(self, states: Particles) -> Particles:
        """Zeros like draws of x_1, where nothing is drawn at t = 0."""
        t, key = jnp.ones((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))
        draw = jax.vmap(lambda key, state: self.model.process.transition(t, state).sample(key), in_axes=(None, 0))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(draw, key, states))

    def record(self, t: Int[Array, ""], population: Population) -> dict[str, Any]:
        """The weights after the step."""
        del t
        return {"log_weights": population.log_weights}


class Cloud(eqx.Module):
    """A watched run: all particles of every step, and whom they descend from.

    Attributes:
        paths: the particles of each step, and their parents as they were before it.
        ancestors: Int["S N"], the parent of each, among the particles of the step before.
        log_z_increments: Float["T+1"], what each step added to log Z_hat, nats.
    """

    paths: Paths
    ancestors: Int[Array, "S N"]
    log_z_increments: Float[Array, " steps"]

    def lines(self) -> Paths:
        """The paths that the last particles came by, weighted for the target."""
        num = self.ancestors.shape[1]

        def back(index: Array, ancestors: Array) -> tuple[Array, Array]:
            return ancestors[index], index

        _, index = jax.lax.scan(back, jnp.arange(num, dtype=self.ancestors.dtype), self.ancestors, reverse=True)

        def trace(tree: PyTree[Any]) -> PyTree[Any]:
            return jax.tree.map(lambda leaf: jax.vmap(lambda row, index: row[index])(leaf, index), tree)

        paths = self.paths
        final = jnp.broadcast_to(paths.log_weights[-1], index.shape)
        traced = trace((paths.before, paths.x, paths.after, paths.log_potential, paths.log_stop))
        return Paths(paths.t, *traced, log_weights_before=final, log_weights=final)


def watch(
    key: KeyArray,
    model: Composed,
    twist: LearnedTwist,
    num_particles: int,
    *,
    resample_below: float = 0.5,
    stop: int | None = None,
) -> Cloud:
    """Run a model once, inside jit, and keep what a twist sees.

    Args:
        key: of the run.
        model: the model, with whatever twist and proposal it is to be run.
        twist: the one to keep things for.
        num_particles, resample_below: of the run.
        stop: as in `Watched`.
    """
    if model.proposal.includes_potential:
        raise ArgumentError(
            "a run cannot be watched through a proposal that accounts for the potential",
            expected="a proposal with includes_potential False",
            got=type(model.proposal).__name__,
        )
    settings = Settings(num_particles, resample_below=resample_below, history="ancestors")
    watched = Watched(model, twist, stop, model.num_steps)
    state, start = smc.init(key[None], watched, settings)
    _, rest = smc.scan(jnp.ones((), jnp.int32), state, watched, settings, model.num_steps)
    history = jax.tree.map(lambda first, later: jnp.concatenate([first, later[0]]), start, rest)
    law = model.process.initial()
    first = 0 if law is not None else 1
    parents = history["ancestors"]

    def follow(leaf: Array) -> Array:
        """Rows of the parents, from step 1 on."""
        return jax.vmap(lambda row, index: row[index])(leaf[:-1], parents[1:])

    uniform = jnp.full((num_particles,), -jnp.log(num_particles), history["log_weights"].dtype)
    resampled = history["resampled"][1:, None]
    before = jax.tree.map(follow, history["after"])
    weights_before = jnp.where(resampled, uniform, history["log_weights"][:-1])
    if law is not None:
        seen = twist.look(law, None)
        before = jax.tree.map(lambda one, later: jnp.concatenate([_spread(one, later[:1]), later]), seen, before)
        weights_before = jnp.concatenate([uniform[None], weights_before])
    paths = Paths(
        jnp.arange(first, model.num_steps + 1, dtype=jnp.int32),
        before,
        *jax.tree.map(lambda leaf: leaf[first:], (history["x"], history["after"], history["log_potential"])),
        log_stop=None if stop is None else history["log_stop"][first:],
        log_weights_before=weights_before,
        log_weights=history["log_weights"][first:],
    )
    return jax.lax.stop_gradient(Cloud(paths, parents[first:], history["log_z_increment"]))


def replay(model: Composed, twist: LearnedTwist, draws: PyTree[Array], *, stop: int | None = None) -> Paths:
    """Exact draws of the target as the twist sees them.

    A process that has ``replay``, ``path -> states`` after every step, the one before the first included, reads a path at once;
    others take it step by step.

    Args:
        model: the model.
        twist: whose `look` is kept.
        draws: K paths x_first .. x_T, every leaf ``(K, S, ...)``.
        stop: as in `Watched`.
    """
    process = model.process
    at_once: Any = getattr(process, "replay", None)
    law = process.initial()
    first = 0 if law is not None else 1
    watched = Watched(model, twist, stop, model.num_steps)

    def one(path: PyTree[Any]) -> tuple[Any, ...]:
        def step(carry: tuple[Array, PyTree[Any], Seen], x: PyTree[Any]) -> tuple[Any, Any]:
            t, state, seen = carry
            state = process.advance(t, state, x)
            after = twist.look(process.transition(t + 1, state), state)
            stopped = None if stop is None else watched._stopped(t + 1, state)
            return (t + 1, state, after), (seen, x, after, model.potential(t, state), stopped)

        if law is None:
            state = process.advance(jnp.zeros((), jnp.int32), None, None)
            seen = twist.look(process.transition(jnp.ones((), jnp.int32), state), state)
            return jax.lax.scan(step, (jnp.ones((), jnp.int32), state, seen), path)[1]
        t, head = jnp.zeros((), jnp.int32), jax.tree.map(lambda leaf: leaf[0], path)
        state = process.advance(t, None, head)
        after = twist.look(process.transition(t + 1, state), state)
        stopped = None if stop is None else watched._stopped(t + 1, state)
        begin = (twist.look(law, None), head, after, model.potential(t, state), stopped)
        later = jax.lax.scan(step, (t + 1, state, after), jax.tree.map(lambda leaf: leaf[1:], path))[1]
        return jax.tree.map(lambda one, rest: jnp.concatenate([_spread(one, rest[:1]), rest]), begin, later)

    parts = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), jax.vmap(one)(draws))
    num = jax.tree.leaves(draws)[0].shape[0]
    uniform = jnp.full((model.num_steps + 1 - first, num), -jnp.log(num), jnp.result_type(float))
    before, x, after, log_potential, log_stop = parts
    if at_once is not None and law is None:
        # What is not asked for below is not computed: the potentials, say, which need the states themselves.
        states = jax.vmap(at_once)(draws)
        t = jnp.arange(1, model.num_steps + 2, dtype=jnp.int32)
        look = jax.vmap(lambda t, state: twist.look(process.transition(t, state), state))
        seen = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), jax.vmap(look, in_axes=(None, 0))(t, states))
        before, after = (
            jax.tree.map(lambda leaf, part=part: leaf[part], seen) for part in (slice(None, -1), slice(1, None))
        )
    return jax.lax.stop_gradient(
        Paths(
            jnp.arange(first, model.num_steps + 1, dtype=jnp.int32),
            before,
            x,
            after,
            log_potential,
            log_stop,
            uniform,
            uniform,
        )
    )


def _spread(one: Array, like: Array) -> Array:
    return jnp.broadcast_to(one, like.shape).astype(like.dtype)
