"""Proposals and look-aheads that see the observation, and what they do where it is missing."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from smcinfer.core.nouns import Bootstrap, Guided, Proposal
from smcinfer.ground.arrays import Array, KeyArray, LogWeights, Particles, PyTree, Scalar, Time
from smcinfer.state_space.joint import as_law
from smcinfer.state_space.observations import Observations


class GuideWhereComplete(eqx.Module):
    """A user's guide with the observation filled in: ``(t, x) -> Distribution``."""

    function: Callable[[Time, PyTree[Any], PyTree[Any]], Any]
    data: Observations

    def __call__(self, t: Time, x: PyTree[Any]) -> Distribution:
        """Law to draw x_t from."""
        return as_law(self.function(t, x, self.data.at(t)), "proposal")


class AheadWhereComplete(eqx.Module):
    """A user's look-ahead with the observation filled in; zero where part of the observation is missing."""

    function: Callable[[Time, PyTree[Any], PyTree[Any]], Array]
    data: Observations

    def __call__(self, t: Time, x: PyTree[Any]) -> Array:
        """A guess of log p(y_t | x_{t-1}), nats."""
        guess = self.function(t, x, self.data.at(t))
        complete = self.data.complete_at(t)
        return guess if complete is None else jnp.where(complete, guess, 0.0)


class WhereComplete(Proposal):
    """The guided proposal where all of y_t is there, the transition where it is not.

    Attributes:
        guided: the proposal that looks at y_t.
        data: the observations, which say where it may.
    """

    guided: Guided
    data: Observations
    includes_potential: bool = eqx.field(static=True, default=False)

    def _choose(self, t: Time, act: Callable[[Proposal], Any]) -> Any:
        """What one proposal or the other does: t is the same for all particles, so only one is computed."""
        blind = Bootstrap(self.guided.process)
        return jax.lax.cond(self.data.complete_at(t), lambda: act(self.guided), lambda: act(blind))

    def __call__(self, key: KeyArray, t: Time, state: PyTree[Any]) -> tuple[PyTree[Any], Scalar]:
        """A draw of x_t and its log weight in nats, by the guide or by the transition."""
        return self._choose(t, lambda proposal: proposal(key, t, state))

    def initial(self, key: KeyArray) -> tuple[PyTree[Any], Scalar] | None:
        """The guide's own: it is a law that the user gave, whatever y_0 is."""
        return self.guided.initial(key)

    def log_weight(self, t: Time, state: PyTree[Any], x: PyTree[Any]) -> Scalar:
        """Log weight of a given draw: log p0 - log q where y_t is complete, zero where the transition is drawn from.

        Args:
            t: Int[""], the step.
            state: x_{t-1} of one particle.
            x: the draw x_t to be weighed.

        Returns:
            Float[""], nats.
        """
        return self._choose(t, lambda proposal: proposal.log_weight(t, state, x))

    def initial_log_weight(self, x: PyTree[Any]) -> Scalar:
        """Log weight of a given x_0, nats: that of the guide, whose law of x_0 sees no observation."""
        return self.guided.initial_log_weight(x)

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """One batched draw of all particles.

        Args:
            key: one random key.
            t: Int[""], the step.
            states: x_{t-1}, every leaf with a leading axis of ``size``.
            size: how many particles there are.

        Returns:
            Draws with that leading axis, and Float["size"] log weights, nats.
        """
        return self._choose(t, lambda proposal: proposal.propose(key, t, states, size))
