r"""Sequential Monte Carlo over the open universe: the likelihood is turned up, and the moves above move the particles.

.. math:: \gamma_t(a, \mu, z) = p(a, \mu, z)\, p(x \mid \mu, z)^{\lambda_t}, \qquad 0 = \lambda_0 < \dots < \lambda_T = 1

Particles differ in their number of components, yet have one shape; :math:`\hat Z` is unbiased for the evidence of the data,
summed over every number of components.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import Mutation
from smcinfer.ground import validate
from smcinfer.ground.arrays import KeyArray, LogWeights, Scalar
from smcinfer.models.open_mixture.model import MixtureState, OpenMixture
from smcinfer.models.open_mixture.moves import Gibbs, Move
from smcinfer.paths import schedules
from smcinfer.paths.moves import Moves
from smcinfer.paths.path import Path
from smcinfer.paths.rising import Place


class MixtureParticles(eqx.Module):
    """States and their log likelihoods."""

    state: MixtureState
    log_likelihood: LogWeights


class AnnealedMixture(Path):
    """The Feynman-Kac model of a likelihood turned up (made by `annealed`).

    Attributes:
        model: the mixture and its data.
        mover: what moves a particle at each exponent.
    """

    model: OpenMixture
    mover: Move

    weighted_for: ClassVar[str] = "mixtures of every number of components given the data; log Z is their log evidence"

    def start(self, key: KeyArray, num_particles: int) -> Mutation:
        """Draws of the prior."""
        states = jax.vmap(self.model.draw_prior)(jax.random.split(key, num_particles))
        return Mutation(self._weighed(states), jnp.zeros((num_particles,), self.model.data.dtype))

    def log_potential(self, particles: MixtureParticles) -> LogWeights:
        """Log likelihood of each particle, kept since it last moved, nats."""
        return particles.log_likelihood

    def move(
        self, key: KeyArray, particles: MixtureParticles, at: Place, params: None
    ) -> tuple[MixtureParticles, dict[str, Scalar]]:
        """One move of every particle at the exponent."""
        del params
        keys = jax.random.split(key, particles.log_likelihood.shape[0])
        states, acceptance = jax.vmap(lambda key, state: self.mover(key, state, self.model, at.exponent))(
            keys, particles.state
        )
        return self._weighed(states), {"acceptance": jnp.mean(acceptance)}

    def _weighed(self, states: MixtureState) -> MixtureParticles:
        return MixtureParticles(states, jax.vmap(self.model.log_likelihood)(states))


def annealed(
    model: OpenMixture,
    move: Move | None = None,
    schedule: Any = None,
    *,
    moves_per_step: int = 2,
    max_steps: int | None = None,
    led: bool = True,
) -> AnnealedMixture:
    """Sequential Monte Carlo over the open universe, for `smcinfer.sample`.

    Args:
        model: the mixture and its data.
        move: what moves the particles; `Gibbs` where ``None``.
        schedule: how exponents are chosen, as of `smcinfer.Tempering`.
        moves_per_step: moves at each exponent.
        max_steps: the most exponents that an adaptive schedule may take, 1000 where ``None``.
        led: whether run 0 only chooses.

    Raises:
        ArgumentError: for counts out of range.

    Properly weighted for: the posterior over states, with Z the evidence of the data.
    """
    moves = Moves.exactly(validate.count("moves_per_step", moves_per_step))
    rule = schedules.by_name(schedule)
    return AnnealedMixture(model, move or Gibbs(), schedule=rule, moves=moves, max_steps=max_steps, led=led)
