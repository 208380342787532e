r"""The first filter: tempo and phase of the beat.

The phase counts beats since the start and grows by one over the period, in frames, at each frame; both wander:

.. math::
    \varphi_t \sim N(\varphi_{t-1} + e^{-\ell_{t-1}}, \sigma_\varphi^2), \qquad \ell_t \sim N(\ell_{t-1}, \sigma_\ell^2), \qquad
    a_t \sim \mathrm{Onsets}(\mathrm{closeness}(|\varphi_t - [\varphi_t]|\, e^{\ell_t}))

A beat falls where the phase is an integer. Source: the bar-pointer model of Whiteley, Cemgil & Godsill (2006), without
its bars, which the second filter adds.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from numpy.typing import ArrayLike

from smcinfer.core.feynman_kac import Population
from smcinfer.ground.arrays import Array, Int
from smcinfer.models.beat_tracker.onsets import Onsets, closeness
from smcinfer.state_space import StateSpace, state_space

State = dict[str, Array]


class BeatFilter(StateSpace):
    """The filter's model; it records where in the beat the particles are, which has no mean but on a circle."""

    def record(self, t: Int[Array, ""], population: Population) -> dict[str, Any]:
        """Mean of the phase on the unit circle, and of the log period."""
        del t
        particles: Any = population.particles
        state: State = particles.state
        weights, angle = jnp.exp(population.log_weights), 2 * jnp.pi * state["phase"]
        return {
            "cos": jnp.sum(weights * jnp.cos(angle)),
            "sin": jnp.sum(weights * jnp.sin(angle)),
            "log_period": jnp.sum(weights * state["log_period"]),
        }


class Pulse(eqx.Module):
    """Tempo and phase of the beat, and the onsets they make.

    Attributes:
        frame_rate: frames a second.
        tempo: beats a minute, the middle of what is expected.
        tempo_spread: standard deviation of the log tempo at the start.
        phase_noise, tempo_noise: standard deviations of a frame's change of phase (beats) and of log period.
        onsets: law of an onset strength.
    """

    frame_rate: float = eqx.field(static=True, default=50.0)
    tempo: float = eqx.field(static=True, default=110.0)
    tempo_spread: float = eqx.field(static=True, default=0.2)
    phase_noise: float = eqx.field(static=True, default=0.004)
    tempo_noise: float = eqx.field(static=True, default=0.003)
    onsets: Onsets = Onsets()

    @property
    def initial(self) -> dict[str, dist.Distribution]:
        """Law of phase and log period (frames) at the first frame."""
        period = 60.0 * self.frame_rate / self.tempo
        return {"phase": dist.Uniform(0.0, 1.0), "log_period": dist.Normal(jnp.log(period), self.tempo_spread)}

    def transition(self, t: Int[Array, ""], state: State) -> dict[str, dist.Distribution]:
        """Law of the next frame's phase and log period."""
        del t
        return {
            "phase": dist.Normal(state["phase"] + jnp.exp(-state["log_period"]), self.phase_noise),
            "log_period": dist.Normal(state["log_period"], self.tempo_noise),
        }

    def observation(self, t: Int[Array, ""], state: State) -> dist.Distribution:
        """Law of the frame's onset strength."""
        del t
        return self.onsets.law(closeness(self.distance(state)))

    def distance(self, state: State) -> Array:
        """Frames to the nearest beat."""
        return (state["phase"] - jnp.round(state["phase"])) * jnp.exp(state["log_period"])

    def state_space(self, strengths: ArrayLike) -> BeatFilter:
        """The filter of a piece of music.

        Args:
            strengths: (frames,), onset strengths in (0, 1); NaN marks frames that are to be passed over
                (`smcinfer.models.beat_tracker.gated`): they are neither weighed nor resampled.
        """
        made = state_space(self.initial, self.transition, self.observation, strengths, missing="skip")
        return BeatFilter(made.process, made.potential, made.twist, made.proposal, made.num_steps, made.ahead, None)
