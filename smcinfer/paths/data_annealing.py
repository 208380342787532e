r"""Data annealing (IBIS): the data arrive in batches, the particles follow.

.. math:: \gamma_t(x) = \mu(x) \prod_{i \le n_t} e^{\ell_i(x)}

Step t weighs by the new batch's terms alone; all data so far are looked at only when the effective sample size has fallen
and the particles are resampled and moved. The log normaliser after step t is the log evidence of the first :math:`n_t`
data: its increments are the log predictive densities of the batches.

Source: Chopin (2002).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population, follow_leader
from smcinfer.core.status import Status, raise_bit
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels.base import Kernel, KernelState, TemperedDensity
from smcinfer.paths.moves import Moves, move
from smcinfer.paths.tempering import Guarded, TemperingShared
from smcinfer.static.target import StaticTarget


class FirstTerms(eqx.Module):
    """The potential of the first ``count`` data."""

    target: StaticTarget
    count: Int[Array, ""]

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        """Sum of the terms, nats."""
        assert self.target.log_terms is not None and self.target.num_data is not None
        indices = jnp.arange(self.target.num_data)
        return jnp.sum(jnp.where(indices < self.count, self.target.log_terms(x, indices), 0.0))


class IBISParticles(eqx.Module):
    """Kernel states (their potential is that of the data so far), and the next batch's log terms."""

    states: KernelState
    next_terms: LogWeights


class DataAnnealing(FeynmanKac):
    """The Feynman-Kac model of data that arrive in batches (made by `data_annealing`).

    Attributes:
        target: a target with ``log_terms``.
        kernel, moves: what moves the particles after a resampling, and for how long.
        batch_size: data a step; the last batch may be smaller.
        num_steps: batches.
        led: run 0 chooses when to resample, kernel parameters and lengths of moves for all (see `Tempering`).
    """

    target: StaticTarget
    kernel: Kernel
    moves: Moves
    batch_size: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    led: bool = eqx.field(static=True, default=True)

    def _count(self, t: Int[Array, ""]) -> Int[Array, ""]:
        assert self.target.num_data is not None
        return jnp.minimum(t * self.batch_size, self.target.num_data)

    def _density(self, t: Int[Array, ""]) -> TemperedDensity:
        target = self.target
        potential = Guarded(FirstTerms(target, self._count(t)))
        one = jnp.ones((), jnp.result_type(float))
        return TemperedDensity(target.log_base, potential, one, target.base_mean, target.base_scale)

    def _terms(self, t: Int[Array, ""], positions: Float[Array, "n dim"]) -> LogWeights:
        """Log terms of batch t at every position (zero past the last batch)."""
        assert self.target.log_terms is not None and self.target.num_data is not None
        log_terms, num_data = self.target.log_terms, self.target.num_data
        indices = (t - 1) * self.batch_size + jnp.arange(self.batch_size)
        inside = indices < num_data

        def one(x: Float[Array, " dim"]) -> Scalar:
            terms = log_terms(x, jnp.minimum(indices, num_data - 1))
            return jnp.sum(jnp.where(inside, terms, 0.0))

        return jax.vmap(one)(positions)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Exact draws of the base, no data seen."""
        dtype = jnp.result_type(float)
        start = jnp.zeros((), jnp.int32)
        positions = self.target.sample_base(key, num_particles).astype(dtype)
        states = jax.vmap(lambda x: self.kernel.init(x, self._density(start)))(positions)
        nothing = jnp.asarray(jnp.nan, dtype)
        zero = jnp.zeros((), dtype)
        shared = TemperingShared(zero, zero, self.kernel.parameters(self.target.dim), nothing)
        particles = IBISParticles(states, self._terms(start + 1, positions))
        info = self._info(start, zero, nothing, start, nothing, zero)
        return Mutation(particles, jnp.zeros((num_particles,), dtype), shared, info)

    def _info(self, t: Array, evals: Array, acceptance: Array, steps: Array, rho: Array, caps: Array) -> dict[str, Any]:
        assert self.target.num_data is not None
        return {
            "exponent": self._count(t) / self.target.num_data,
            "acceptance": acceptance,
            "num_move_steps": steps,
            "num_evals": evals,
            "autocorrelation": rho,
            "cap_reached": caps,
        }

    def adapt(self, t: Int[Array, ""], population: Population, shared: TemperingShared) -> TemperingShared:
        """Kernel parameters tuned to the cloud weighted with the new batch."""
        particles: IBISParticles = population.particles
        terms = jnp.where(jnp.isnan(particles.next_terms), -jnp.inf, particles.next_terms)
        weights = population.log_weights + terms
        params = self.kernel.tune(shared.params, particles.states.position, weights, shared.acceptance)
        params = follow_leader(params) if self.led else params
        share = self._count(t) / jnp.asarray(self.target.num_data, shared.exponent.dtype)
        return TemperingShared(share, share - shared.exponent, params, shared.acceptance)

    def look_ahead(self, t: Int[Array, ""], particles: IBISParticles, shared: TemperingShared) -> LogWeights:
        """The new batch's log terms."""
        del t, shared
        return particles.next_terms

    def mutate(
        self, key: KeyArray, t: Int[Array, ""], particles: IBISParticles, shared: TemperingShared, resampled: Flag
    ) -> Mutation:
        """Add the batch to what the states know; move if resampled."""
        density = self._density(t)
        known = particles.states
        states = eqx.tree_at(lambda s: s.log_potential, known, known.log_potential + particles.next_terms)

        def refresh(_: tuple[Array, KernelState]) -> tuple[Array, KernelState]:
            return jnp.asarray(False), jax.vmap(lambda x: self.kernel.init(x, density))(states.position)

        # A loop of at most one turn and not a branch: mapped over runs, a branch would pay for all the data at every
        # step of every run, a loop only where some run resampled. What kernels cache is stale once the data changed.
        _, states = jax.lax.while_loop(lambda carry: carry[0], refresh, (resampled, states))
        states, report = move(
            key, states, density, self.kernel, shared.params, self.moves, led=self.led, wanted=resampled
        )
        short = (report.num_steps >= self.moves.max_steps) & (report.autocorrelation > self.moves.autocorrelation)
        status = jnp.zeros((), jnp.int32)
        status = raise_bit(status, Status.MOVES_TOO_SHORT, short & (self.moves.autocorrelation > 0))
        status = raise_bit(status, Status.LOOP_CAP_REACHED, report.cap_reached > 0)
        acceptance = jnp.where(resampled, report.acceptance, shared.acceptance)
        after = eqx.tree_at(lambda s: s.acceptance, shared, acceptance)
        moved = IBISParticles(states, self._terms(t + 1, states.position))
        info = self._info(
            t, report.num_evals, report.acceptance, report.num_steps, report.autocorrelation, report.cap_reached
        )
        return Mutation(moved, jnp.zeros_like(particles.next_terms), after, info, status)


def data_annealing(
    target: StaticTarget, kernel: Kernel, *, batch_size: int = 1, moves: Moves | None = None, led: bool = True
) -> DataAnnealing:
    """A `DataAnnealing` model.

    Args:
        target: made by ``posterior(prior, log_likelihood, data=...)``.
        kernel: what moves.
        batch_size: data a step.
        moves: how long a move is.
        led: whether run 0 only chooses, for all the others.

    Raises:
        TargetError: if the target is not a sum over data.
        ArgumentError: if the batch size is out of range.
    """
    if target.log_terms is None or target.num_data is None:
        raise TargetError(
            "data annealing needs a likelihood that is a sum over data",
            expected="posterior(prior, log_likelihood, data=...) with log_likelihood(theta, datum)",
            got="a target without log_terms",
            hint="give the data to posterior, or use tempering",
        )
    if not 1 <= batch_size <= target.num_data:
        raise ArgumentError("batch_size is out of range", expected=f"1 to {target.num_data}", got=batch_size)
    steps = -(-target.num_data // batch_size)
    return DataAnnealing(target, kernel, moves or Moves(), batch_size, steps, led)
