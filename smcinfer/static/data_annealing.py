r"""Data annealing (IBIS): the data arrive in batches, the particles follow.

.. math:: \gamma_t(x) = \mu(x) \prod_{i \le n_t} e^{\ell_i(x)}

Step t weighs by the new batch's terms alone; all data so far are looked at only when the effective sample size has fallen
and the particles are resampled and moved. The log normaliser after step t is the log evidence of the first :math:`n_t`
data: its increments are the log predictive densities of the batches.

Source: Chopin (2002).
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import Mutation
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.slices import each
from smcinfer.kernels.base import KernelState, TemperedDensity
from smcinfer.paths.rising import Place, Travelled
from smcinfer.paths.schedules import Schedule
from smcinfer.static.guard import Guarded
from smcinfer.static.target import StaticTarget
from smcinfer.static.tempering import KernelPath


class Batches(Schedule):
    """Given beforehand: the exponent after step t is the share of the data seen by then.

    Attributes:
        num_data: how many data there are.
        batch_size: data a step; the last batch may be smaller.
        resample_below: resample where the ESS falls below this fraction of N.
    """

    num_data: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True, default=1)
    resample_below: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        validate.count("batch_size", self.batch_size, at_most=self.num_data)

    @property
    def horizon(self) -> int | None:
        """One step for each batch."""
        return -(-self.num_data // self.batch_size)

    def count(self, t: Int[Array, ""]) -> Int[Array, ""]:
        """How many data are seen by step t."""
        return jnp.minimum(t * self.batch_size, self.num_data)

    def next(self, t: Int[Array, ""], exponent: Scalar, log_weights: LogWeights, log_potential: LogWeights) -> Scalar:
        """The share of the data."""
        del log_weights, log_potential
        return self.count(t) / jnp.asarray(self.num_data, exponent.dtype)


class FirstTerms(eqx.Module):
    """The potential of the first ``count`` data."""

    target: StaticTarget
    count: Int[Array, ""]

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        """Sum of the terms, nats."""
        assert self.target.log_terms is not None and self.target.num_data is not None
        indices = jnp.arange(self.target.num_data)
        return jnp.sum(jnp.where(indices < self.count, self.target.log_terms(x, indices), 0.0))


class Seen(eqx.Module):
    """Kernel states (their potential is that of the data so far), and the next batch's log terms."""

    states: KernelState
    next_terms: LogWeights


class DataPath(KernelPath):
    """The Feynman-Kac model of data that arrive in batches (made by the method `DataAnnealing`).

    Its schedule is `Batches`; the particles move only after a resampling.
    """

    method: ClassVar[str] = "data_annealing"

    @property
    def _batches(self) -> Batches:
        batches: Any = self.schedule
        return batches

    def _density(self, t: Int[Array, ""]) -> TemperedDensity:
        target = self.target
        potential = Guarded(FirstTerms(target, self._batches.count(t)))
        one = jnp.ones((), jnp.result_type(float))
        return TemperedDensity(target.log_base, potential, one, target.base_mean, target.base_scale)

    def terms(self, t: Int[Array, ""], positions: Float[Array, "n dim"]) -> LogWeights:
        """Log terms of batch t at every position, zero past the last batch.

        Args:
            t: the step, from 1.
            positions: of the particles.
        """
        assert self.target.log_terms is not None and self.target.num_data is not None
        log_terms, num_data, size = self.target.log_terms, self.target.num_data, self._batches.batch_size
        indices = (t - 1) * size + jnp.arange(size)
        inside = indices < num_data

        def one(x: Float[Array, " dim"]) -> Scalar:
            terms = log_terms(x, jnp.minimum(indices, num_data - 1))
            return jnp.sum(jnp.where(inside, terms, 0.0))

        return each(one)(positions)

    def start(self, key: KeyArray, num_particles: int) -> Mutation:
        """Exact draws of the base, no data seen."""
        dtype, start = jnp.result_type(float), jnp.zeros((), jnp.int32)
        positions = self.target.sample_base(key, num_particles).astype(dtype)
        density = self._density(start)
        states = each(lambda x: self.kernel.init(x, density))(positions)
        return Mutation(Seen(states, self.terms(start + 1, positions)), jnp.zeros((num_particles,), dtype))

    def log_potential(self, particles: Seen) -> LogWeights:
        """The potential of the data so far."""
        return particles.states.log_potential

    def log_increments(self, particles: Seen, at: Place) -> LogWeights:
        """The new batch's log terms."""
        del at
        return particles.next_terms

    def coordinates(self, particles: Seen) -> Float[Array, "n dim"]:
        """Every coordinate of the vectors must be forgotten."""
        return particles.states.position

    def tune(
        self, params: PyTree[Any], particles: Seen, log_weights: LogWeights, report: dict[str, Scalar]
    ) -> PyTree[Any]:
        """As in tempering, on the states."""
        return super().tune(params, particles.states, log_weights, report)

    def move(self, key: KeyArray, particles: Seen, at: Place, params: PyTree[Any]) -> tuple[Seen, dict[str, Scalar]]:
        """One kernel step on the density of the data so far."""
        states, report = self.sweep(key, particles.states, self._density(at.t), params)
        return Seen(states, particles.next_terms), report

    def mutate(self, key: KeyArray, t: Int[Array, ""], particles: Seen, shared: Travelled, resampled: Flag) -> Mutation:
        """Add the batch to what the states know; move if resampled."""
        known, density = particles.states, self._density(t)
        states = eqx.tree_at(lambda s: s.log_potential, known, known.log_potential + particles.next_terms)

        def refresh(_: tuple[Array, KernelState]) -> tuple[Array, KernelState]:
            return jnp.asarray(False), each(lambda x: self.kernel.init(x, density))(states.position)

        # A loop of at most one turn and not a branch: mapped over runs, a branch would pay for all the data at every
        # step of every run, a loop only where some run resampled. What kernels cache is stale once the data changed.
        _, states = jax.lax.while_loop(lambda carry: carry[0], refresh, (resampled, states))
        particles, after, info, status = self.moved(key, Seen(states, particles.next_terms), shared, wanted=resampled)
        positions = particles.states.position
        moved = Seen(particles.states, self.terms(t + 1, positions))
        return Mutation(moved, jnp.zeros_like(particles.next_terms), after, info, status)

    def exported(self, particles: Particles) -> PyTree[Any]:
        """Draws under the user's own names."""
        seen: Any = particles
        return jax.vmap(self.target.constrain)(seen.states.position)
