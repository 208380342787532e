r"""The second filter: how many beats a bar has, and which of them this is.

One step a beat. The state numbers the pairs (m, c) of a meter m and a place c in the bar, from zero; a bar of m beats
is followed by another of the same meter with probability 1 - ``change``, and the first filter may miss a beat or
count one too many, so that the place may stay or skip one with probability ``slip`` each:

.. math:: (m, c) \to (m, c + 1 \bmod m), \qquad d_k \sim \mathrm{Onsets}(\mathbb 1\{c = 0\})

with :math:`d_k` how much beat k sounds like the first of a bar. The states are few, so every particle is drawn from
its exact conditional law and resampled on the exact look-ahead (the fully adapted filter of Pitt & Shephard 1999).
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpy.typing import ArrayLike

from smcinfer.ground.arrays import Array, Float, Int, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.beat_tracker.onsets import Onsets
from smcinfer.state_space import StateSpace, state_space


class Bars(eqx.Module):
    """Meters and places in the bar, and the downbeats they make.

    Attributes:
        meters: beats a bar that are possible.
        change: probability of another meter at the end of a bar.
        slip: probability that a beat was missed, and that one was counted twice.
        onsets: law of the strength of a downbeat.
    """

    meters: tuple[int, ...] = eqx.field(static=True, default=(2, 3, 4))
    change: float = eqx.field(static=True, default=0.01)
    slip: float = eqx.field(static=True, default=0.005)
    onsets: Onsets = Onsets(hit=0.85, off=0.08)

    def __check_init__(self) -> None:
        if not self.meters or min(self.meters) < 2:
            raise ArgumentError("a bar has at least two beats", expected="meters of 2 and more", got=self.meters)

    @functools.cached_property
    def table(self) -> np.ndarray:
        """(states, 2): meter and place of every state."""
        return np.array([(meter, place) for meter in self.meters for place in range(meter)])

    @functools.cached_property
    def transition_matrix(self) -> np.ndarray:
        """(states, states), rows sum to one."""
        index = {tuple(pair): number for number, pair in enumerate(self.table.tolist())}
        matrix = np.zeros((len(index), len(index)))
        others = len(self.meters) - 1
        for (meter, place), row in index.items():
            steps = {0: self.slip, 1: 1.0 - 2.0 * self.slip, 2: self.slip}
            for step, probability in steps.items():
                if place + step < meter:
                    matrix[row, index[meter, place + step]] += probability
                    continue
                begun = (place + step) % meter
                moved = probability * self.change if others else 0.0
                matrix[row, index[meter, begun]] += probability - moved
                for other in self.meters:
                    if other != meter:
                        matrix[row, index[other, min(begun, other - 1)]] += moved / others
        return matrix

    def log_emission(self, strength: Scalar) -> Float[Array, " states"]:
        """Log density of a beat's downbeat strength in every state, nats."""
        return jnp.asarray(self.onsets.law(self._first).log_prob(strength))

    @property
    def _first(self) -> Float[Array, " states"]:
        """One in the states that begin a bar."""
        return jnp.asarray(self.table[:, 1] == 0, jnp.result_type(float))

    def _log_transition(self, state: Int[Array, ""]) -> Float[Array, " states"]:
        with np.errstate(divide="ignore"):
            return jnp.asarray(np.log(self.transition_matrix), jnp.result_type(float))[state]

    def transition(self, t: Int[Array, ""], state: Int[Array, ""]) -> dist.Distribution:
        """Law of the next beat's state."""
        del t
        return dist.Categorical(logits=self._log_transition(state))

    def observation(self, t: Int[Array, ""], state: Int[Array, ""]) -> dist.Distribution:
        """Law of a beat's downbeat strength."""
        del t
        return self.onsets.law(self._first[state])

    def guide(self, t: Int[Array, ""], state: Int[Array, ""], strength: Scalar) -> dist.Distribution:
        """Law of the next state given what the beat sounds like."""
        del t
        return dist.Categorical(logits=self._log_transition(state) + self.log_emission(strength))

    def look_ahead(self, t: Int[Array, ""], state: Int[Array, ""], strength: Scalar) -> Scalar:
        """log density of the next beat's downbeat strength, nats."""
        del t
        return jax.nn.logsumexp(self._log_transition(state) + self.log_emission(strength))

    def state_space(self, strengths: ArrayLike) -> StateSpace:
        """The filter of a sequence of beats.

        Args:
            strengths: (beats,), downbeat strengths in (0, 1); NaN for beats that were not heard.
        """
        return state_space(
            dist.Categorical(probs=jnp.full(len(self.table), 1.0 / len(self.table))),
            self.transition,
            self.observation,
            strengths,
            proposal=self.guide,
            look_ahead=self.look_ahead,
            missing="skip",
        )
