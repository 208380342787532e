"""The reverse diffusion as a process: its state is the point and what the network, run once, said of it."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from smcinfer.core.nouns import Process
from smcinfer.diffusion.looks import Look, Reward
from smcinfer.diffusion.model import Model, Prediction
from smcinfer.diffusion.potentials import PathPotential
from smcinfer.diffusion.reverse import ReverseKernel
from smcinfer.ground.arrays import Array, Float, Point, PyTree, Scalar, Time


class Denoising(eqx.Module):
    """Where one particle of a reverse diffusion stands.

    Attributes:
        x: Float["*shape"], the point; at the last step the sample.
        denoised: Float["*shape"], the mean of the data given x; x itself at the last step.
        noise: Float["*shape"], the mean of the noise in x; zero at the last step.
        value: Float[""], what the look-ahead makes of the point (log psi at full strength, nats); at the last step the log
            potential. ``None`` where nothing is asked of the process.
        gradient: Float["*shape"], of the value in x, or ``None`` where no proposal asks for it; zero at the last step.
        memory: what the path so far has earned, for potentials that remember.
    """

    x: Point
    denoised: Point
    noise: Point
    value: Scalar | None = None
    gradient: Point | None = None
    memory: PyTree[Any] = None


class GaussianSteps(Process):
    """A process that moves a point by Gaussian steps along a grid of diffusion times, from centred noise.

    Subclasses set ``times``, Float["T+1"], decreasing, and ``start_std``.
    """

    times: eqx.AbstractVar[Float[Array, " num_times"]]
    start_std: eqx.AbstractVar[Scalar]

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one point."""

    @abc.abstractmethod
    def moments(self, t: Time, state: Any) -> tuple[Point, Scalar]:
        """Mean and variance, the same for all coordinates, of x_t given the state after step t - 1."""

    @property
    def num_steps(self) -> int:
        """T."""
        return self.times.shape[0] - 1

    def initial(self) -> dist.Distribution:
        """Pure noise."""
        return dist.Normal(jnp.zeros(self.shape), self.start_std).to_event(len(self.shape))

    def transition(self, t: Time, state: Any) -> dist.Distribution:
        """The step as a distribution."""
        mean, variance = self.moments(t, state)
        return dist.Normal(mean, jnp.sqrt(variance)).to_event(len(self.shape))


class Watched(GaussianSteps):
    """Gaussian steps watched by a look-ahead: states hold the ``value`` of a point and, where asked for, its ``gradient``.

    Subclasses set ``strengths``, Float["T+1"], what values on the way are multiplied by in the twist (one where ``None``).
    """

    strengths: eqx.AbstractVar[Float[Array, " num_times"] | None]


class Reverse(Watched):
    """A reverse diffusion from noise to data on a grid of times, watched by a look-ahead.

    The network runs once a step, when the particle arrives (`advance`), and not at the last step, whose point is the
    sample.

    Attributes:
        model: the denoising model.
        kernel: how it moves.
        times: Float["T+1"], decreasing diffusion times; step t arrives at ``times[t]``.
        start_std: standard deviation of x at step 0, centred at zero.
        reward: log phi of the sample, or ``None``.
        look: the look-ahead, or ``None`` for none before the last step.
        path: how values along the path make the twist.
        strengths: Float["T+1"], what the values are multiplied by in it.
        differentiate: whether the state holds the gradient of the value.
        every: the look-ahead is asked at steps that are multiples of this, and holds in between.
    """

    model: Model
    kernel: ReverseKernel
    times: Float[Array, " num_times"]
    start_std: Scalar
    reward: Reward | None = None
    look: Look | None = None
    path: PathPotential | None = None
    strengths: Float[Array, " num_times"] | None = None
    differentiate: bool = eqx.field(static=True, default=False)
    every: int = eqx.field(static=True, default=1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one point."""
        return self.model.shape

    def moments(self, t: Time, state: Denoising) -> tuple[Point, Scalar]:
        """Mean and variance of x_t given the state after step t - 1."""
        before, now = self.times[t - 1], self.times[t]
        prediction = Prediction(state.denoised, state.noise)
        return self.kernel(prediction, state.x, self.model.schedule, before, now)

    def advance(self, t: Time, state: Denoising | None, x: Point) -> Denoising:
        """Run the network at the new point, look ahead from there, and remember."""
        arrived = jax.lax.cond(t >= self.num_steps, lambda x: self._end(x), lambda x: self._on_the_way(t, x), x)
        if self.look is None:
            return arrived
        value, gradient = arrived.value, arrived.gradient
        if state is not None and self.every > 1:
            hold = (t % self.every != 0) & (t < self.num_steps)
            value = jnp.where(hold, state.value, value)
        memory = self._remember(t, state, value)
        return Denoising(x, arrived.denoised, arrived.noise, value, gradient, memory)

    def log_twist(self, t: Time, state: Denoising) -> Scalar:
        """log psi of the state, nats: what the path potential makes of the values so far."""
        del t
        assert self.path is not None
        return self.path.log_twist(state.memory)

    def log_potential(self, t: Time, state: Denoising) -> Scalar:
        """log phi: the reward at the last step, zero before."""
        return jnp.where(t >= self.num_steps, state.value, 0.0)

    def _end(self, x: Point) -> Denoising:
        value = None if self.reward is None else _nats(self.reward(x))
        gradient = jnp.zeros_like(x) if self.differentiate else None
        return Denoising(x, x, jnp.zeros_like(x), value, gradient)

    def _on_the_way(self, t: Time, x: Point) -> Denoising:
        time, look = self.times[t], self.look
        if look is None:
            prediction = self.model.predict(x, time)
            value = None if self.reward is None else _nats(0.0)
            return Denoising(x, prediction.denoised, prediction.noise, value)

        def watch(x: Point) -> tuple[Scalar, Prediction]:
            prediction = self.model.predict(x, time)
            if self.every == 1:
                return _nats(look(time, x, prediction)), prediction
            asked = t % self.every == 0
            ahead = lambda: _nats(look(time, x, prediction))  # noqa: E731
            return jax.lax.cond(asked, ahead, lambda: _nats(0.0)), prediction

        if not self.differentiate:
            value, prediction = watch(x)
            return Denoising(x, prediction.denoised, prediction.noise, value)
        (value, prediction), gradient = jax.value_and_grad(watch, has_aux=True)(x)
        return Denoising(x, prediction.denoised, prediction.noise, value, gradient)

    def _remember(self, t: Time, state: Denoising | None, value: Scalar) -> PyTree[Any]:
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
