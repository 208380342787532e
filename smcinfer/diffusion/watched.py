"""A reverse diffusion watched by a look-ahead: what is foreseen of every point, and what the path has earned by it."""

from typing import Any, override

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.diffusion.looks import Look
from smcinfer.diffusion.model import Model, Prediction
from smcinfer.diffusion.potentials import PathPotential
from smcinfer.diffusion.process import Denoising, ModelSteps, Reverse, finished
from smcinfer.diffusion.reverse import ReverseKernel
from smcinfer.diffusion.rewards import Reward
from smcinfer.ground.arrays import Array, Float, Point, PyTree, Scalar, Time


class Steered(ModelSteps):
    """Steps of a diffusion model whose states hold the ``value`` of a point and, where asked for, its ``gradient``.

    Subclasses set ``strengths``, Float["T+1"], what values on the way are multiplied by in the twist (one where ``None``).
    """

    strengths: eqx.AbstractVar[Float[Array, " num_times"] | None]


class Watching(eqx.Module):
    """Where one particle of a watched diffusion stands, and what is foreseen from there.

    Attributes:
        at: the point, and what the network said of it.
        value: Float[""], what the look-ahead makes of the point (log psi at full strength, nats), zero without one; at the
            last step the log potential.
        gradient: Float["*shape"], of the value in x, or ``None`` where no proposal asks for it; zero at the last step.
        memory: what the path so far has earned, for potentials that remember.
    """

    at: Denoising
    value: Scalar
    gradient: Point | None = None
    memory: PyTree[Any] = None

    @property
    def x(self) -> Point:
        """Float["*shape"], the point; at the last step the sample."""
        return self.at.x

    @property
    def denoised(self) -> Point:
        """Float["*shape"], the mean of the data given x."""
        return self.at.denoised


class Watched(Steered):
    """A reverse chain under a reward, with a look-ahead at every point that it comes to.

    Attributes:
        chain: the bare reverse diffusion: its law is the law of this.
        reward: log phi of the sample.
        look: the look-ahead, or ``None`` for none before the last step.
        path: how values along the path make the twist; ``None`` where another keeps account.
        strengths: Float["T+1"], what the values are multiplied by in it.
        differentiate: whether the state holds the gradient of the value.
        every: the look-ahead is asked at steps that are multiples of this, and holds in between.
    """

    chain: Reverse
    reward: Reward
    look: Look | None = None
    path: PathPotential | None = None
    strengths: Float[Array, " num_times"] | None = None
    differentiate: bool = eqx.field(static=True, default=False)
    every: int = eqx.field(static=True, default=1)

    @property
    def model(self) -> Model:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The denoising model of the chain."""
        return self.chain.model

    @property
    def kernel(self) -> ReverseKernel:
        """How the chain moves."""
        return self.chain.kernel

    @property
    @override
    def times(self) -> Float[Array, " num_times"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.chain.times

    @property
    @override
    def start_std(self) -> Scalar:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.chain.start_std

    @override
    def moments(self, t: Time, state: Watching) -> tuple[Point, Scalar]:
        return self.chain.moments(t, state.at)

    @override
    def advance(self, t: Time, state: Watching | None, x: Point) -> Watching:
        # Methods hold arrays, by which `cond` cannot name its branches.
        end, on_the_way = lambda x: self._end(x), lambda x: self._on_the_way(t, x)
        arrived = jax.lax.cond(t >= self.num_steps, end, on_the_way, x)
        if self.look is None:
            return arrived
        value = arrived.value
        if state is not None and self.every > 1:
            hold = (t % self.every != 0) & (t < self.num_steps)
            value = jnp.where(hold, state.value, value)
        return Watching(arrived.at, value, arrived.gradient, self._remember(t, state, value))

    def log_twist(self, t: Time, state: Watching) -> Scalar:
        """log psi of the state, nats: what the path potential makes of the values so far."""
        del t
        assert self.path is not None
        return self.path.log_twist(state.memory)

    def log_potential(self, t: Time, state: Watching) -> Scalar:
        """log phi, nats: the reward at the last step, zero before."""
        return jnp.where(t >= self.num_steps, state.value, 0.0)

    def _end(self, x: Point) -> Watching:
        gradient = jnp.zeros_like(x) if self.differentiate else None
        return Watching(finished(x), _nats(self.reward(x)), gradient)

    def _on_the_way(self, t: Time, x: Point) -> Watching:
        look = self.look
        if look is None:
            return Watching(self.chain.ask(t, x), _nats(0.0))

        def foresee(x: Point) -> tuple[Scalar, Denoising]:
            at = self.chain.ask(t, x)
            ahead = lambda: _nats(look(self.times[t], x, Prediction(at.denoised, at.noise)))  # noqa: E731
            if self.every == 1:
                return ahead(), at
            return jax.lax.cond(t % self.every == 0, ahead, lambda: _nats(0.0)), at

        if not self.differentiate:
            value, at = foresee(x)
            return Watching(at, value)
        (value, at), gradient = jax.value_and_grad(foresee, has_aux=True)(x)
        return Watching(at, value, gradient)

    def _remember(self, t: Time, state: Watching | None, value: Scalar) -> PyTree[Any]:
        if self.path is None:
            return None
        strength = 1.0 if self.strengths is None else self.strengths[t]
        if state is None:
            return self.path.start(value, strength)
        memory = self.path.extend(state.memory, value, strength)
        if self.every == 1:
            return memory
        return jax.tree.map(lambda new, old: jnp.where(t % self.every == 0, new, old), memory, state.memory)


def _nats(value: Any) -> Scalar:
    """A log value as a scalar of the default precision, whatever dtype a reward returns."""
    return jnp.asarray(value, jnp.result_type(float))
