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

from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population, follow_leader
from smcinfer.core.weights import conditional_ess
from smcinfer.diffusion.proposals import GradientGuided, Prior
from smcinfer.diffusion.watched import Watched, Watching
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, Particles, Scalar

Time = Int[Array, ""]
BISECTIONS = 30


class TemperedAlignment(FeynmanKac):
    """A reverse diffusion under a reward whose strength is found by bisection (made by `alignment`).

    Attributes:
        process: the reverse diffusion, its state holding the value of every point.
        ess: fraction of N that the conditional effective sample size of one rise may fall to.
        guided: whether steps drift along the gradient of the twist.
        leads: whether run 0 chooses the strengths for all and is left out (`FeynmanKac.led`).
        caps: Float["T+1"], the most that the strength may be at every step.
        num_steps: T.
    """

    process: Watched
    caps: Float[Array, " num_times"]
    ess: float = eqx.field(static=True)
    guided: bool = eqx.field(static=True)
    leads: bool = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    @property
    def led(self) -> bool:
        """Whether run 0 chooses for all."""
        return self.leads

    @property
    def num_evaluations(self) -> int:
        """Evaluations of the network for one particle on the whole way."""
        return evaluations(self.process)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Noise, at strength zero: all weights one."""
        x = self.process.initial().sample(key, (num_particles,))
        t = jnp.zeros((), jnp.int32)
        states = jax.vmap(lambda x: self.process.advance(t, None, x))(x)
        zero = jnp.zeros((), jnp.result_type(float))
        return Mutation(states, jnp.zeros((num_particles,), zero.dtype), (zero, zero), {"strength": zero})

    def adapt(self, t: Time, population: Population, shared: Any) -> Any:
        """The last strength and the next one; the last step goes to one."""
        states: Any = population.particles
        room = jnp.maximum(self.caps[t] - shared[1], 0.0)

        def fits(rise: Scalar) -> Flag:
            size = conditional_ess(population.log_weights, rise * states.value)
            return size >= self.ess * population.log_weights.shape[0]

        def halve(_: Any, ends: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
            low, high = ends
            middle = 0.5 * (low + high)
            good = fits(middle)
            return jnp.where(good, middle, low), jnp.where(good, high, middle)

        low, _ = jax.lax.fori_loop(0, BISECTIONS, halve, (jnp.zeros_like(room), room))
        rise = jnp.where(fits(room) | (t >= self.num_steps), room, low)
        strengths = (shared[1], shared[1] + rise)
        return follow_leader(strengths) if self.leads else strengths

    def look_ahead(self, t: Time, particles: Particles, shared: Any) -> LogWeights:
        """What the rise of the strength makes of the points."""
        del t
        states: Any = particles
        return (shared[1] - shared[0]) * states.value

    def mutate(self, key: KeyArray, t: Time, particles: Particles, shared: Any, resampled: Flag) -> Mutation:
        """Move at the new strength; weigh by what the value changed."""
        del resampled
        states: Any = particles
        strength = shared[1]
        size = states.x.shape[0]
        proposal = Prior(self.process)
        if self.guided:
            everywhere = jnp.full(self.num_steps + 1, strength)
            is_none = lambda leaf: leaf is None  # noqa: E731
            proposal = GradientGuided(
                eqx.tree_at(lambda tree: tree.strengths, self.process, everywhere, is_leaf=is_none)
            )
        x, log_w = proposal.propose(key, t, states, size)
        moved: Any = jax.vmap(lambda state, x: self.process.advance(t, state, x))(states, x)
        log_w = log_w + jnp.where(t >= self.num_steps, 1.0, strength) * moved.value - strength * states.value
        return Mutation(moved, log_w, shared, {"strength": strength})

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
