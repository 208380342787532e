r"""Conditional tempering: a path through an exact draw in slot 0, for the bound on log Z from above.

A path of the sampler's own extended target ends in an exact draw :math:`x_T \sim \pi` and walks back down the
temperatures by the reversals of the moves,

.. math:: x_{t-1} \sim \overleftarrow{K}_t(x_t, \cdot), \qquad t = T, \dots, 1.

Kept in slot 0 through every resampling, with its weights counted like any other particle's, it makes
:math:`E[Z / \hat Z] = 1` and so :math:`E[\log \hat Z] \ge \log Z`.

Sources: Andrieu, Doucet & Holenstein (2010); Grosse, Ghahramani & Adams (2015), section 3.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population
from smcinfer.core.plan import Plan
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, PyTree, Scalar
from smcinfer.ground.slices import each
from smcinfer.kernels.base import Kernel, KernelState
from smcinfer.paths.rising import LAG
from smcinfer.paths.schedules import times
from smcinfer.static.guard import guarded_density
from smcinfer.static.target import StaticTarget
from smcinfer.static.tempering import sweep


class Choices(eqx.Module):
    """What a finished run chose at each step, to be repeated without looking at any particle.

    Attributes:
        exponents: Float["T"].
        params: the kernel's parameters, leading axis T.
        num_moves: Int["T"], kernel steps of each move.
    """

    exponents: Float[Array, " T"]
    params: PyTree[Any]
    num_moves: Int[Array, " T"]

    @classmethod
    def of(cls, history: dict[str, Any], num_steps: int) -> "Choices":
        """The choices of a led run that recorded its parameters (all its runs made the same)."""
        taken = slice(1, num_steps + 1)
        return cls(
            exponents=jnp.asarray(history["exponent"][0, taken]),
            params=jax.tree.map(lambda leaf: jnp.asarray(leaf[0, taken]), history["params"]),
            num_moves=jnp.asarray(history["num_move_steps"][0, taken]),
        )


class ConditionalShared(eqx.Module):
    """Where the path stands, and the positions of slot 0 at every step."""

    exponent: Scalar
    delta: Scalar
    path: Float[Array, "steps dim"]


class ConditionalTempering(FeynmanKac):
    """Tempering by given choices, with a path through an exact draw in slot 0.

    Attributes:
        target: what to reach.
        kernel: what moves; it must be reversible, as every Metropolis-Hastings kernel is.
        choices: exponents, parameters and lengths of the moves.
        draw_exact: ``key -> Float["dim"]``, an exact draw of the target, one a run.
        num_steps: exponents.
    """

    target: StaticTarget
    kernel: Kernel
    choices: Choices
    draw_exact: Callable[[Any], Array]
    num_steps: int = eqx.field(static=True)

    @property
    def plan(self) -> Plan:
        """Resamples where the weights are uneven at all, as the run whose choices are repeated did."""
        words = "the target, with the given path among the particles; E[1 / Z_hat] = 1 / Z"
        return Plan(words, resample_below=1.0, lag=LAG)

    @property
    def conditional(self) -> bool:
        """Slot 0 holds the path."""
        return True

    def _at(self, t: Int[Array, ""]) -> tuple[Scalar, PyTree[Any], Int[Array, ""]]:
        """Exponent, parameters and number of kernel steps of step t."""
        choices = self.choices
        params = jax.tree.map(lambda leaf: leaf[t - 1], choices.params)
        return choices.exponents[t - 1], params, choices.num_moves[t - 1]

    def _states(self, positions: Float[Array, "n dim"], exponent: Scalar) -> KernelState:
        density = guarded_density(self.target, exponent)
        return each(lambda x: self.kernel.init(x, density))(positions)

    def _move(self, key: KeyArray, t: Int[Array, ""], states: KernelState) -> KernelState:
        """The t-th kernel, as often as it was applied."""
        exponent, params, count = self._at(t)
        density = guarded_density(self.target, exponent)

        def once(step: Array, states: KernelState) -> KernelState:
            return sweep(jax.random.fold_in(key, step), states, density, self.kernel, params, led=False)[0]

        return jax.lax.fori_loop(0, count, once, states)

    def _backwards(self, key: KeyArray, end: Float[Array, " dim"]) -> Float[Array, "steps dim"]:
        """Positions at t = 0 .. T of a path that ends in an exact draw."""

        def once(position: Array, t: Array) -> tuple[Array, Array]:
            # A power of a reversible kernel is its own reversal.
            state = self._states(position[None], self._at(t)[0])
            return self._move(jax.random.fold_in(key, t), t, state).position[0], position

        start, later = jax.lax.scan(once, end, jnp.arange(self.num_steps, 0, -1))
        return jnp.concatenate([start[None], later[::-1]])

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Exact draws of the base, and in slot 0 the start of the path."""
        dtype = jnp.result_type(float)
        base_key, exact_key, path_key = jax.random.split(key, 3)
        positions = self.target.sample_base(base_key, num_particles).astype(dtype)
        path = self._backwards(path_key, jnp.asarray(self.draw_exact(exact_key), dtype))
        zero = jnp.zeros((), dtype)
        states = self._states(positions.at[0].set(path[0]), zero)
        return Mutation(states, jnp.zeros((num_particles,), dtype), ConditionalShared(zero, zero, path))

    def adapt(self, t: Int[Array, ""], population: Population, shared: ConditionalShared) -> ConditionalShared:
        """The exponent given for step t, and how far it is from the last one."""
        del population
        exponent = self._at(t)[0]
        return ConditionalShared(exponent, exponent - shared.exponent, shared.path)

    def look_ahead(self, t: Int[Array, ""], particles: KernelState, shared: ConditionalShared) -> LogWeights:
        """The exponent's step times the potential."""
        del t
        return times(shared.delta, particles.log_potential)

    def mutate(
        self, key: KeyArray, t: Int[Array, ""], particles: KernelState, shared: ConditionalShared, resampled: Flag
    ) -> Mutation:
        """Move all; put the path back into slot 0."""
        del resampled
        moved = self._move(key, t, particles)
        kept = self._states(shared.path[t][None], shared.exponent)
        states = jax.tree.map(lambda all_lanes, one: all_lanes.at[0].set(one[0]), moved, kept)
        return Mutation(states, jnp.zeros_like(states.log_potential), shared)
