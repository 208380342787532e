r"""A reward path whose strength the particles choose: the twist is exp(lambda V), with lambda found by bisection.

Before step t the strength rises from :math:`\lambda_{t-1}` to :math:`\lambda_t`, as far as the effective sample size of

.. math:: w_t = \exp\bigl( (\lambda_t - \lambda_{t-1})\, V(x_{t-1}) \bigr)

allows, and never above the share of signal in the point, :math:`1 / (1 + \rho^2)`: where all is noise the values of
different particles hardly differ, and the effective sample size alone would let anything pass. Resampling sees these
weights, and the drift of the step already has the new strength.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import Mutation, Population
from smcinfer.core.plan import Plan
from smcinfer.core.weights import conditional_ess
from smcinfer.diffusion.proposals import GradientGuided, Prior
from smcinfer.diffusion.watched import Watched, Watching
from smcinfer.ground.arrays import Array, Flag, Float, KeyArray, LogWeights, Particles, Scalar, Time
from smcinfer.ground.slices import each
from smcinfer.paths.rising import Rising, Travelled
from smcinfer.paths.schedules import Schedule, times

BISECTIONS = 30
REWARDED = "samples of the diffusion times exp(reward / temperature); log Z is the log of the mean of that factor"
"""What the particles of an alignment stand for, in words."""


class Rises(Schedule):
    """Strengths as far as the effective sample size of one rise allows, and never above the share of signal.

    Attributes:
        caps: Float["T+1"], the most that the strength may be at every step; the last one is 1.
        fraction: of N that the conditional effective sample size of one rise may fall to.
        resample_below: resample where the ESS falls below this fraction of N.
    """

    caps: Float[Array, " num_times"]
    fraction: float = eqx.field(static=True)
    resample_below: float = eqx.field(static=True, default=0.5)

    @property
    def horizon(self) -> int | None:
        """The steps of the reverse diffusion."""
        return self.caps.shape[0] - 1

    def next(self, t: Time, exponent: Scalar, log_weights: LogWeights, log_potential: LogWeights) -> Scalar:
        """Bisect on the conditional effective sample size; the last step goes to one."""
        room = jnp.maximum(self.caps[t] - exponent, 0.0)

        def fits(rise: Scalar) -> Flag:
            size = conditional_ess(log_weights, times(rise, log_potential))
            return size >= self.fraction * log_weights.shape[0]

        def halve(_: Any, ends: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
            low, high = ends
            middle = 0.5 * (low + high)
            good = fits(middle)
            return jnp.where(good, middle, low), jnp.where(good, high, middle)

        low, _ = jax.lax.fori_loop(0, BISECTIONS, halve, (jnp.zeros_like(room), room))
        return exponent + jnp.where(fits(room) | (t >= self.caps.shape[0] - 1), room, low)


class TemperedAlignment(Rising):
    """A reverse diffusion under a reward whose strength is found by bisection (made by `alignment`).

    The strength is the exponent of the path and the reward foreseen its potential. A step leaves no law invariant: it
    denoises, and weighs by what the value changed.

    Attributes:
        process: the reverse diffusion, its state holding the value of every point.
        guided: whether steps drift along the gradient of the twist.
    """

    process: Watched
    guided: bool = eqx.field(static=True)

    @property
    def plan(self) -> Plan:
        """As of an alignment whose strengths are given."""
        return Plan(REWARDED, label="denoising")

    @property
    def num_evaluations(self) -> int:
        """Evaluations of the network for one particle on the whole way."""
        return evaluations(self.process)

    def start(self, key: KeyArray, num_particles: int) -> Mutation:
        """Noise, at strength zero: all weights one."""
        x = self.process.initial().sample(key, (num_particles,))
        t = jnp.zeros((), jnp.int32)
        states = each(lambda x: self.process.advance(t, None, x))(x)
        return Mutation(states, jnp.zeros((num_particles,), jnp.result_type(float)))

    def log_potential(self, particles: Particles) -> LogWeights:
        """The value of every point: log phi foreseen, nats."""
        states: Any = particles
        return states.value

    def mutate(self, key: KeyArray, t: Time, particles: Particles, shared: Travelled, resampled: Flag) -> Mutation:
        """Move at the new strength; weigh by what the value changed."""
        del resampled
        states: Any = particles
        strength = shared.at.exponent
        size = states.x.shape[0]
        proposal = Prior(self.process)
        if self.guided:
            everywhere = jnp.full(self.num_steps + 1, strength)
            is_none = lambda leaf: leaf is None  # noqa: E731
            proposal = GradientGuided(
                eqx.tree_at(lambda tree: tree.strengths, self.process, everywhere, is_leaf=is_none)
            )
        x, log_w = proposal.propose(key, t, states, size)
        moved: Any = each(lambda state, x: self.process.advance(t, state, x))(states, x)
        log_w = log_w + jnp.where(t >= self.num_steps, 1.0, strength) * moved.value - strength * states.value
        return Mutation(moved, log_w, shared, self.info(shared))

    def info(self, shared: Travelled) -> dict[str, Any]:
        """The strength of the step, for the history."""
        return {"strength": shared.at.exponent}

    def exported(self, particles: Particles) -> dict[str, Any]:
        """The samples, and log phi of each."""
        return samples(particles)

    def record(self, t: Time, population: Population) -> dict[str, Any]:
        """The weighted mean and the largest value."""
        del t
        return watch(population.particles, population.log_weights)


def samples(states: Any) -> dict[str, Any]:
    """What a result shows of a population: x, and log phi of it."""
    return {"x": states.x, "log_potential": states.value}


def watch(states: Watching, log_weights: LogWeights) -> dict[str, Any]:
    """What the history keeps of a population: the weighted mean and the largest value (log phi foreseen, nats)."""
    alive = log_weights > -jnp.inf
    mean = jnp.sum(jnp.where(alive, jnp.exp(log_weights) * states.value, 0.0))
    return {"value_mean": mean, "value_best": jnp.max(jnp.where(alive, states.value, -jnp.inf))}


def evaluations(process: Watched, num_children: int = 0) -> int:
    """Evaluations of the network for one particle: every step but the last, with what the look-ahead and children add."""
    once = 1 if process.look is None else 1 + process.look.num_evaluations
    # Children of the last step are samples, which the network does not see.
    return process.num_steps * once + (process.num_steps - 1) * num_children * once
