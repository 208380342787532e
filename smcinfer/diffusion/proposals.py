r"""Proposals on a reverse diffusion: a drift added to the kernel's mean, or a choice among children.

A drift is given as a gradient g and moves the mean by the kernel's variance times g, so that its weight

.. math:: \log \frac{p_0}{q} = -\langle g,\, x - \mu \rangle + \tfrac{v}{2} |g|^2, \qquad q = N(\mu + v g,\, v I)

needs no division by the variance: a step that is certain (the last one of most kernels) is left alone and weighs
nothing.
"""

import abc
from collections.abc import Callable
from typing import Any, override

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.nouns import Bootstrap, Proposal
from smcinfer.core.weights import log_mean_exp
from smcinfer.diffusion.process import GaussianSteps
from smcinfer.diffusion.watched import Steered, Watched, Watching
from smcinfer.ground.arrays import Array, KeyArray, LogWeights, Particles, Point, Scalar, Time
from smcinfer.ground.slices import each

InitialDraw = Callable[[Any], tuple[Array, Array]]
"""``key -> (x, log_w)``: a draw of x at step 0 and its log weight, as `Proposal.initial`."""


class FromNoise(Proposal):
    """A proposal on a reverse diffusion, with the user's own draw of the noise it starts from where there is one.

    Attributes:
        process: the reverse diffusion.
        start: ``key -> (x, log_w)``, or ``None`` for the process's own noise.
    """

    process: eqx.AbstractVar[GaussianSteps]
    start: eqx.AbstractVar[InitialDraw | None]

    @override
    def initial(self, key: KeyArray) -> tuple[Any, Scalar] | None:
        return None if self.start is None else self.start(key)


class Prior(FromNoise):
    """The process's own steps."""

    process: GaussianSteps
    start: InitialDraw | None = None
    includes_potential: bool = eqx.field(static=True, default=False)

    @override
    def __call__(self, key: KeyArray, t: Time, state: Any) -> tuple[Point, Scalar]:
        return Bootstrap(self.process)(key, t, state)

    @override
    def log_weight(self, t: Time, state: Any, x: Point) -> Scalar:
        return Bootstrap(self.process).log_weight(t, state, x)

    @override
    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        return Bootstrap(self.process).propose(key, t, states, size)


class Drifted(FromNoise):
    """A Gaussian kernel whose mean is moved along a gradient (module equation)."""

    @abc.abstractmethod
    def gradient(self, t: Time, state: Any) -> Point:
        """g for step t, of the state after step t - 1."""

    @override
    def __call__(self, key: KeyArray, t: Time, state: Any) -> tuple[Point, Scalar]:
        return self._place(jax.random.normal(key, state.x.shape, state.x.dtype), t, state)

    @override
    def log_weight(self, t: Time, state: Any, x: Point) -> Scalar:
        mean, variance = self.process.moments(t, state)
        gradient = self.gradient(t, state)
        return 0.5 * variance * jnp.sum(gradient**2) - jnp.sum(gradient * (x - mean))

    @override
    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        del size
        points: Any = states.x  # pyright: ignore[reportAttributeAccessIssue]
        noise = jax.random.normal(key, points.shape, points.dtype)
        return each(lambda noise, state: self._place(noise, t, state))(noise, states)

    def _place(self, noise: Point, t: Time, state: Any) -> tuple[Point, Scalar]:
        """The draw that standard noise makes, and its log weight written in the noise."""
        mean, variance = self.process.moments(t, state)
        gradient, scale = self.gradient(t, state), jnp.sqrt(variance)
        x = mean + variance * gradient + scale * noise
        return x, -scale * jnp.sum(gradient * noise) - 0.5 * variance * jnp.sum(gradient**2)


class GradientGuided(Drifted):
    r"""The twisted diffusion sampler: the drift is the gradient of the twist, :math:`g = \lambda_{t} \nabla V_{t-1}`.

    Source: Wu et al. (2023), algorithm 1.
    """

    process: Steered
    start: InitialDraw | None = None
    includes_potential: bool = eqx.field(static=True, default=False)

    @override
    def gradient(self, t: Time, state: Any) -> Point:
        """The gradient the state holds, at the strength of the step it moves to."""
        strengths = self.process.strengths
        return state.gradient if strengths is None else strengths[t] * state.gradient


class Controlled(Drifted):
    """A drift of the user's, learned to lower the variance of the weights (`smcinfer.diffusion.soft_value`), say.

    Attributes:
        control: ``(x, time) -> Float["*shape"]``, g at a point; the best one is the gradient of the soft value.
    """

    process: GaussianSteps
    control: Callable[[Array, Array], Array]
    start: InitialDraw | None = None
    includes_potential: bool = eqx.field(static=True, default=False)

    @override
    def gradient(self, t: Time, state: Any) -> Point:
        return self.control(state.x, self.process.times[t - 1])


class SoftSelection(FromNoise):
    r"""M children of every particle, one chosen in proportion to what the twist makes of them.

    .. math:: x = x^{(m)} \;\text{with probability}\; \frac{\psi(x^{(m)})}{\sum_k \psi(x^{(k)})}, \qquad
              w = \frac{\tfrac1M \sum_k \psi(x^{(k)})}{\psi(x)}

    Properly weighted for any M and any twist. The network runs for every child, and once more for the one that is kept.
    Taking the best child instead (M to infinity at temperature zero) is a search, not a sample.

    Source: Li et al. (2024), *SVDD*, whose selection this is; the weight makes it exact.

    Attributes:
        twist: ``(t, state) -> Float[""]``, log psi.
        num_children: M.
    """

    process: Watched
    twist: Callable[[Time, Any], Scalar]
    start: InitialDraw | None = None
    num_children: int = eqx.field(static=True, default=4)
    includes_potential: bool = eqx.field(static=True, default=False)

    @override
    def __call__(self, key: KeyArray, t: Time, state: Watching) -> tuple[Point, Scalar]:
        """The chosen child and its log weight."""
        draw_key, choice_key = jax.random.split(key)
        law = self.process.transition(t, state)
        children: Any = law.sample(draw_key, (self.num_children,))
        worth = jax.vmap(lambda x: self._log_worth(t, state, x))(children)
        chosen = jax.random.categorical(choice_key, worth)
        return children[chosen], log_mean_exp(worth) - worth[chosen]

    def _log_worth(self, t: Time, state: Watching, x: Point) -> Scalar:
        arrived = self.process.advance(t, state, x)
        return jnp.where(t >= self.process.num_steps, self.process.log_potential(t, arrived), self.twist(t, arrived))
