"""The reverse diffusion as a process: its state is the point and what the network, run once, said of it."""

import abc
from typing import Any, override

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from smcinfer.core.nouns import Process
from smcinfer.diffusion.model import Model, Prediction, as_model
from smcinfer.diffusion.reverse import ReverseKernel, by_name
from smcinfer.diffusion.schedule import NoiseSchedule, check_schedule
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Point, Scalar, Time


class GaussianSteps(Process):
    """A process that moves a point by Gaussian steps along a grid of diffusion times, from centred noise.

    Subclasses set ``times``, Float["T+1"], decreasing, and ``start_std``. Their states have the point as ``x``.
    """

    times: eqx.AbstractVar[Float[Array, " num_times"]]
    start_std: eqx.AbstractVar[Scalar]

    @property
    @abc.abstractmethod
    def schedule(self) -> NoiseSchedule:
        """What the times mean: alpha and sigma of each."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Axes of one point."""

    @abc.abstractmethod
    def moments(self, t: Time, state: Any) -> tuple[Point, Scalar]:
        """Mean and variance, the same for all coordinates, of x_t given the state after step t - 1."""

    @property
    def num_steps(self) -> int:
        """T, one less than there are times."""
        return self.times.shape[0] - 1

    @override
    def initial(self) -> dist.Distribution:
        return dist.Normal(jnp.zeros(self.shape), self.start_std).to_event(len(self.shape))

    @override
    def transition(self, t: Time, state: Any) -> dist.Distribution:
        mean, variance = self.moments(t, state)
        return dist.Normal(mean, jnp.sqrt(variance)).to_event(len(self.shape))


class Denoising(eqx.Module):
    """Where one particle of a reverse diffusion stands.

    Attributes:
        x: Float["*shape"], the point; at the last step the sample.
        denoised: Float["*shape"], the mean of the data given x; x itself at the last step.
        noise: Float["*shape"], the mean of the noise in x; zero at the last step.
    """

    x: Point
    denoised: Point
    noise: Point


class ModelSteps(GaussianSteps):
    """Gaussian steps of one diffusion model, along its schedule and in its space; subclasses set the ``model``."""

    model: eqx.AbstractVar[Model]

    @property
    @override
    def schedule(self) -> NoiseSchedule:
        return self.model.schedule

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return self.model.shape


class Reverse(ModelSteps):
    """A reverse diffusion from noise to data on a grid of times, with nothing asked of it.

    The network runs once a step, when the particle arrives (`advance`), and not at the last step, whose point is the
    sample.

    Attributes:
        model: the denoising model.
        kernel: how it moves.
        times: Float["T+1"], decreasing diffusion times; step t arrives at ``times[t]``.
        start_std: standard deviation of x at step 0, centred at zero.
    """

    model: Model
    kernel: ReverseKernel
    times: Float[Array, " num_times"]
    start_std: Scalar

    @override
    def moments(self, t: Time, state: Denoising) -> tuple[Point, Scalar]:
        prediction = Prediction(state.denoised, state.noise)
        return self.kernel(prediction, state.x, self.schedule, self.times[t - 1], self.times[t])

    @override
    def advance(self, t: Time, state: Denoising | None, x: Point) -> Denoising:
        del state
        return jax.lax.cond(t >= self.num_steps, finished, lambda x: self.ask(t, x), x)

    def ask(self, t: Time, x: Point) -> Denoising:
        """Run the network at the point that step t arrived at, before the last step."""
        prediction = self.model.predict(x, self.times[t])
        return Denoising(x, prediction.denoised, prediction.noise)


def finished(x: Point) -> Denoising:
    """A sample, in which there is no noise to see."""
    return Denoising(x, x, jnp.zeros_like(x))


def reverse_process(
    model: Model,
    num_steps: int = 100,
    *,
    times: Any = None,
    kernel: str | ReverseKernel = "ddpm",
    start_std: float | None = None,
) -> Reverse:
    """A model's reverse chain as a process of the engine: a model with nothing asked of it.

    Args:
        model: made by `diffusion_model`.
        num_steps: T, where no times are given.
        times: Float["T+1"], decreasing diffusion times, or ``None`` for the schedule's grid.
        kernel: ``"ddpm"``, ``"ddim"``, ``"euler_maruyama"``, ``"exponential"`` or a `ReverseKernel`.
        start_std: standard deviation of the noise at the start; sigma of the first time where ``None``.

    Raises:
        ArgumentError: times or a schedule that are not monotone, an unknown kernel.
    """
    as_model(model)
    grid = model.schedule.grid(num_steps) if times is None else jnp.asarray(times, float)
    check_schedule(model.schedule, grid)
    sigma = float(model.schedule.sigma(grid[0]))
    first = validate.number("start_std", sigma if start_std is None else start_std, above=0.0)
    return Reverse(model, by_name(kernel), grid, jnp.asarray(first, float))
