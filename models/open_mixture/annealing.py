r"""Sequential Monte Carlo over the open universe: the likelihood is turned up, and the moves above move the particles.

.. math:: \gamma_t(a, \mu, z) = p(a, \mu, z)\, p(x \mid \mu, z)^{\lambda_t}, \qquad 0 = \lambda_0 < \dots < \lambda_T = 1

Particles differ in their number of components, yet have one shape; :math:`\hat Z` is unbiased for the evidence of the data,
summed over every number of components.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population, follow_leader
from smcinfer.ground.arrays import Array, Flag, Int, KeyArray, LogWeights, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.open_mixture.model import MixtureState, OpenMixture
from smcinfer.models.open_mixture.moves import Gibbs, Move
from smcinfer.paths.schedules import ESS, Exponents, Schedule, increments


class MixtureParticles(eqx.Module):
    """States and their log likelihoods."""

    state: MixtureState
    log_likelihood: LogWeights


class AnnealedMixture(FeynmanKac):
    """The Feynman-Kac model of a likelihood turned up (made by `annealed`).

    Attributes:
        model: the mixture and its data.
        move: what moves a particle at each exponent.
        schedule: how exponents are chosen.
        moves_per_step: how often the move is applied at each.
        num_steps: the most exponents.
        led: run 0 chooses the exponents for all the others, so that their Z_hat is exactly unbiased.
    """

    model: OpenMixture
    move: Move
    schedule: Schedule
    moves_per_step: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    led: bool = eqx.field(static=True, default=True)

    @property
    def fixed_horizon(self) -> bool:
        """Where the exponents are given."""
        return isinstance(self.schedule, Exponents)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Draws of the prior."""
        states = jax.vmap(self.model.draw_prior)(jax.random.split(key, num_particles))
        zero = jnp.zeros((), self.model.data.dtype)
        return Mutation(
            self._weighed(states), jnp.zeros((num_particles,), zero.dtype), (zero, zero), self._info(zero, zero)
        )

    def _weighed(self, states: MixtureState) -> MixtureParticles:
        return MixtureParticles(states, jax.vmap(self.model.log_likelihood)(states))

    def _info(self, exponent: Scalar, acceptance: Scalar) -> dict[str, Array]:
        return {"exponent": exponent, "acceptance": acceptance}

    def adapt(self, t: Int[Array, ""], population: Population, shared: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        """The next exponent and the step to it."""
        before = shared[0]
        exponent = self.schedule.next(t, before, population.log_weights, population.particles.log_likelihood)
        exponent = follow_leader(exponent) if self.led else exponent
        return exponent, exponent - before

    def look_ahead(self, t: Int[Array, ""], particles: MixtureParticles, shared: tuple[Scalar, Scalar]) -> LogWeights:
        """The exponent's step times the log likelihood."""
        del t
        return increments(shared[1], jnp.zeros_like(particles.log_likelihood), particles.log_likelihood)[0]

    def mutate(
        self,
        key: KeyArray,
        t: Int[Array, ""],
        particles: MixtureParticles,
        shared: tuple[Scalar, Scalar],
        resampled: Flag,
    ) -> Mutation:
        """Move at the new exponent."""
        del t, resampled
        size = particles.log_likelihood.shape[0]

        def once(states: MixtureState, number: Array) -> tuple[MixtureState, Array]:
            keys = jax.random.split(jax.random.fold_in(key, number), size)
            return jax.vmap(lambda key, state: self.move(key, state, self.model, shared[0]))(keys, states)

        states, acceptance = jax.lax.scan(once, particles.state, jnp.arange(self.moves_per_step))
        moved = self._weighed(states)
        return Mutation(
            moved, jnp.zeros_like(moved.log_likelihood), shared, self._info(shared[0], jnp.mean(acceptance))
        )

    def done(self, shared: tuple[Scalar, Scalar]) -> Flag:
        """Whether the whole likelihood counts."""
        return shared[0] >= 1.0

    def unfinished(self, shared: tuple[Scalar, Scalar]) -> Flag:
        """Whether the path stopped before one."""
        return ~self.done(shared)

    def progress(self, t: Int[Array, ""], shared: tuple[Scalar, Scalar]) -> Scalar:
        """Where the path is, on a scale that spends as much bar near zero as near one."""
        del t
        return shared[0] ** 0.25


def annealed(
    model: OpenMixture,
    move: Move | None = None,
    schedule: Schedule | None = None,
    *,
    moves_per_step: int = 2,
    max_steps: int = 500,
    led: bool = True,
) -> AnnealedMixture:
    """Sequential Monte Carlo over the open universe, for `smcinfer.sample`.

    Args:
        model: the mixture and its data.
        move: what moves the particles; `Gibbs` where ``None``.
        schedule: how exponents are chosen; `smcinfer.static.ESS` where ``None``, which resamples at every step: pass
            ``resample_below=1`` to `sample`.
        moves_per_step: moves at each exponent.
        max_steps: the most exponents an adaptive schedule may take.
        led: whether run 0 only chooses.

    Raises:
        ArgumentError: for counts out of range.

    Properly weighted for: the posterior over states, with Z the evidence of the data.
    """
    for name, value in {"moves_per_step": moves_per_step, "max_steps": max_steps}.items():
        if value < 1:
            raise ArgumentError(f"{name} is out of range", expected="at least 1", got=value)
    schedule = schedule or ESS()
    steps = schedule.exponents.shape[0] if isinstance(schedule, Exponents) else max_steps
    return AnnealedMixture(model, move or Gibbs(), schedule, moves_per_step, steps, led)
