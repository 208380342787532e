r"""SMC squared: particles of parameters, each with a filter of its own, weighted as the data come in.

.. math::
    w_t^m = \hat p(y_t \mid y_{0:t-1}, \theta^m), \qquad
    \hat Z = \prod_t \sum_m W_{t-1}^m w_t^m, \qquad E[\hat Z] = p(y_{0:T})

Where the effective sample size asks, parameters are resampled with their filters and moved by particle marginal
Metropolis-Hastings at the data so far, each proposal running its filter from the start. On the space of parameters and all that
their filters drew this is an ordinary sampler, so :math:`\hat Z` is unbiased for any number of inner particles: exactly, where
nothing that a run adapts to is its own (a led run).

Source: Chopin, Jacob & Papaspiliopoulos (2013).
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core import smc
from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population, follow_leader
from smcinfer.core.plan import Plan
from smcinfer.core.settings import Settings
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Int, KeyArray, Particles, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.slices import each
from smcinfer.kernels import RandomWalk
from smcinfer.kernels.base import KernelState, TemperedDensity
from smcinfer.kernels.metropolis import metropolis
from smcinfer.results import Result
from smcinfer.results.from_run import record
from smcinfer.run.runner import as_typed_key, run
from smcinfer.state_space.parameters.parametric import Parametric, check_parametric, filter_to, log_z
from smcinfer.state_space.parameters.pmmh import random_walk
from smcinfer.static.prior import numbers_as_arrays


class Filtered(KernelState):
    """Parameters with the filter that runs at them; ``log_potential`` is its log Z_hat so far.

    Attributes:
        inner: the filter's state, its key left out: every step draws a new one, so that copies go separate ways.
    """

    inner: Any = None


class Tuned(eqx.Module):
    """What all particles share: the random walk's parameters, the last moves' acceptance, filters run so far."""

    params: PyTree[Any]
    acceptance: Scalar
    num_filters: Scalar


class SMC2(FeynmanKac):
    """SMC squared as a Feynman-Kac model over the parameters.

    Attributes:
        target: a model with unknown parameters.
        kernel: proposes parameters.
        settings: of the inner filters.
        num_moves: PMMH steps after a resampling.
        num_steps: T of the data.
        led: whether run 0 only chooses, for all the others.
    """

    target: Parametric
    kernel: RandomWalk
    settings: Settings = eqx.field(static=True)
    num_moves: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    led: bool = eqx.field(static=True, default=True)

    @property
    def plan(self) -> Plan:
        """Particles are parameters, each with a filter of its own."""
        words = "parameters given all the data, p(theta | y_0:T); log Z is the log evidence of the data"
        details = {"num_inner": self.settings.num_particles, "led": self.led}
        return Plan(words, label="SMC2", name="SMC2", details=details)

    def _filtered(self, key: KeyArray, position: Array, last: Array) -> Filtered:
        """The parameters with a new filter of the data up to ``last``."""
        state = filter_to(key, self.target.at(position), self.settings, last)
        return Filtered(position, self.target.prior.log_density(position), log_z(state), None, _without_key(state))

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Draws of the prior, each weighted by its estimate of p(y_0 | theta)."""
        draw_key, filter_key = jax.random.split(key)
        positions = self.target.prior.sample(draw_key, num_particles)
        keys = jax.random.split(filter_key, num_particles)
        zero = jnp.zeros((), jnp.int32)
        particles = each(lambda key, x: self._filtered(key, x, zero))(keys, positions)
        dtype = jnp.result_type(float)
        params = self.kernel.parameters(self.target.prior.dim)
        count = jnp.asarray(num_particles, dtype)
        shared = Tuned(params, jnp.asarray(jnp.nan, dtype), count)
        return Mutation(particles, particles.log_potential, shared, self._info(shared, jnp.asarray(False)))

    def adapt(self, t: Int[Array, ""], population: Population, shared: Tuned) -> Tuned:
        """The random walk tuned to the weighted parameters."""
        del t
        particles: Any = population.particles
        params = self.kernel.tune(shared.params, particles.position, population.log_weights, shared.acceptance)
        # A step size follows the acceptance of the last moves once, not again at every step without moves.
        params = follow_leader(params) if self.led else params
        return Tuned(params, jnp.full_like(shared.acceptance, jnp.nan), shared.num_filters)

    def mutate(self, key: KeyArray, t: Int[Array, ""], particles: Any, shared: Tuned, resampled: Flag) -> Mutation:
        """Move the parameters where they were resampled, then advance every filter by one observation."""
        move_key, step_key = jax.random.split(key)
        size = particles.log_potential.shape[0]
        density = TemperedDensity(
            self.target.prior.log_density, _estimated_elsewhere, jnp.ones((), jnp.result_type(float))
        )

        def one(key: KeyArray, state: Filtered) -> tuple[Any, Scalar]:
            propose_key, filter_key, accept_key = jax.random.split(key, 3)
            position = self.kernel.propose(propose_key, state.position, shared.params)
            return metropolis(accept_key, state, self._filtered(filter_key, position, t - 1), density)

        def move(number: Array, carry: tuple[Any, Scalar]) -> tuple[Any, Scalar]:
            particles, total = carry
            keys = jax.random.split(jax.random.fold_in(move_key, number), size)
            particles, acceptance = each(one)(keys, particles)
            return particles, total + jnp.mean(acceptance).astype(total.dtype)

        count = jnp.where(resampled, self.num_moves, 0)
        particles, total = jax.lax.fori_loop(0, count, move, (particles, jnp.zeros_like(shared.acceptance)))
        keys = jax.random.split(step_key, size)
        moved = each(lambda key, state: self._advance(key, t, state))(keys, particles)
        after = Tuned(
            shared.params,
            jnp.where(resampled, total / self.num_moves, jnp.nan),
            shared.num_filters + count * size,
        )
        return Mutation(moved, moved.log_potential - particles.log_potential, after, self._info(after, resampled))

    def _advance(self, key: KeyArray, t: Int[Array, ""], state: Filtered) -> Filtered:
        """One more observation for one filter."""
        inner = eqx.tree_at(lambda s: s.key, state.inner, key[None], is_leaf=lambda leaf: leaf is None)
        inner, _ = smc.step(t, inner, self.target.at(state.position), self.settings)
        return Filtered(state.position, state.log_base, log_z(inner), None, _without_key(inner))

    def exported(self, particles: Particles) -> PyTree[Any]:
        """Parameters under the prior's own names."""
        filtered: Any = particles
        return jax.vmap(self.target.prior.constrain)(filtered.position)

    def _info(self, shared: Tuned, resampled: Flag) -> dict[str, Any]:
        return {"acceptance": shared.acceptance, "num_filters": shared.num_filters, "moved": resampled}


def _estimated_elsewhere(x: Array) -> Array:
    """The likelihood's part of the density, which comes with the filter and is never asked for by position alone."""
    return jnp.full((), jnp.nan, x.dtype)


def _without_key(state: smc.SMCState) -> Any:
    return eqx.tree_at(lambda s: s.key, state, None)


def smc2(
    key: Any,
    target: Parametric,
    *,
    num_particles: int = 256,
    num_inner: int = 128,
    num_runs: int = 4,
    num_moves: int = 3,
    kernel: RandomWalk | None = None,
    led: bool = True,
    resampling: str = "systematic",
    resample_below: float = 0.5,
    history: str = "scalars",
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> Result:
    """The posterior of a state-space model's parameters and the evidence, by SMC squared.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same result bit for bit.
        target: made by `parametric`.
        num_particles: parameters of each run.
        num_inner: particles of each parameter's filter. The evidence is unbiased whatever it is; too few and moves stick.
        num_runs: independent runs: their spread is the error bar of log Z.
        num_moves: PMMH steps after a resampling, each a filter of all data so far.
        kernel: a `RandomWalk` with settings of one's own.
        led: one run more is made, which chooses the random walk's scale and the resampling times for all the others and is
            then left out: their Z_hat is exactly unbiased.
        resampling, resample_below, history, progress, checkpoint, checkpoint_seconds: as in `smcinfer.sample`.

    Returns:
        `Result` of the parameters: log Z is the log evidence p(y_0:T).

    Raises:
        ArgumentError, TargetError: before any work.

    Properly weighted for: p(theta, y_0:T), run by run; exactly unbiased evidence where ``led``, a bias of order
    1/num_particles otherwise.
    """
    check_parametric("smc2", target)
    num_particles = validate.count("num_particles", num_particles)
    num_inner = validate.count("num_inner", num_inner)
    num_runs = validate.count("num_runs", num_runs)
    num_moves = validate.count("num_moves", num_moves)
    led = validate.flag("led", led)
    walk = random_walk("smc2", kernel)
    if history == "full":
        raise ArgumentError(
            "the filters of all steps would not fit into a history",
            expected='history="none" | "scalars" | "ancestors"',
            got=history,
        )
    inner = Settings(num_inner, resampling, history="none")
    model = SMC2(numbers_as_arrays(target), walk, inner, num_moves, target.num_steps, led)
    key = as_typed_key(key)
    done = run(
        key,
        model,
        num_particles,
        num_runs=num_runs,
        resampling=resampling,
        resample_below=resample_below,
        history=history,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
    )
    common = {"num_runs": num_runs, "resampling": resampling, "history": history, "resample_below": resample_below}
    return record(key, done, model, num_particles, **common)
