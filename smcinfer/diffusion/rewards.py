r"""Rewards: what is asked of a finished sample, in nats, and what may be foreseen of it from a denoised point."""

import abc
from collections.abc import Callable
from typing import Any, override

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from smcinfer.diffusion.model import Model, as_model
from smcinfer.diffusion.schedule import remaining_variance
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Point, Scalar
from smcinfer.ground.data import complete
from smcinfer.ground.errors import ArgumentError, TargetError, calling
from smcinfer.static.on_host import HostFunction
from smcinfer.static.on_host import on_host as host_function


def signal(noise_ratio: Scalar) -> Scalar:
    r"""Trust in what is foreseen from a denoised point, :math:`(1 + \rho^2)^{-2}`: one without noise, none in pure noise."""
    return (1.0 + noise_ratio**2) ** -2


class Reward(eqx.Module):
    """log phi of a sample: the reward over its temperature.

    ``differentiable`` says whether it has a gradient: what is computed on the host has none.
    """

    differentiable: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def __call__(self, x: Point) -> Scalar:
        """log phi of a sample, nats."""

    def foreseen(self, denoised: Point, noise_ratio: Scalar) -> Scalar:
        """A guess of log E[phi] given the mean of the sample and the noise ratio it was denoised at: phi of the mean."""
        del noise_ratio
        return self(denoised)

    def strength(self, noise_ratio: Scalar) -> Scalar:
        """How far `foreseen` is to be trusted at a noise ratio: as `signal`, for phi of the mean forgets the spread."""
        return signal(noise_ratio)


class Tempered(Reward):
    """A reward function of the user's over a temperature."""

    function: Callable[[Array], Array]
    temperature: Scalar
    differentiable: bool = eqx.field(static=True, default=True)

    @override
    def __call__(self, x: Point) -> Any:
        return self.function(x) / self.temperature


def on_host(function: Callable[[np.ndarray], Any]) -> HostFunction:
    """A reward that is no JAX function: a numpy routine, a torch model, a program.

    `smcinfer.on_host` says more: workers, a gradient, a time-out.

    Args:
        function: all points at once, ``Float["n *shape"]`` in numpy, to their rewards ``Float["n"]``.

    Returns:
        What `alignment` takes for a reward. It is called once a step for all particles and has no gradient.
    """
    return host_function(function, vectorized=True)


class Measurement(Reward):
    r"""A linear measurement of the sample, with Gaussian noise: inpainting, deblurring, super-resolution.

    .. math:: y = A x_0 + s\,\eta, \qquad \log \phi(x_0) = \log N(y;\, A x_0,\, s^2 I)

    From the mean of the sample at noise ratio :math:`\rho` the measurement is foreseen with the sample's spread on
    top, :math:`N(y; A \hat x_0, (s^2 + r^2) I)` with :math:`r^2 = \rho^2 d^2 / (\rho^2 + d^2)` for data of standard
    deviation d: exact for an orthogonal A and Gaussian data, and never as steep as :math:`s` alone (Song et al.
    2023).

    Attributes:
        operator: A, ``x -> y``, linear.
        y: what was measured.
        noise_std: s.
        data_std: d.
    """

    operator: Callable[[Array], Array]
    y: Float[Array, "*measured"]
    noise_std: Scalar
    data_std: Scalar
    differentiable: bool = eqx.field(static=True, default=True)

    @override
    def __call__(self, x: Point) -> Scalar:
        return self._log_density(x, self.noise_std**2)

    @override
    def foreseen(self, denoised: Point, noise_ratio: Scalar) -> Scalar:
        """The same with the spread of the sample around its mean."""
        return self._log_density(denoised, self.noise_std**2 + remaining_variance(noise_ratio, self.data_std))

    @override
    def strength(self, noise_ratio: Scalar) -> Scalar:
        """One: the spread of the sample is in what is foreseen."""
        return jnp.ones_like(noise_ratio)

    def _log_density(self, x: Point, variance: Scalar) -> Scalar:
        residual = self.y - self.operator(x)
        return -0.5 * (jnp.sum(residual**2) / variance + residual.size * jnp.log(2.0 * jnp.pi * variance))


def measurement(
    operator: Callable[[Array], Array] | Array, y: Any, noise_std: float, *, data_std: float = 1.0
) -> Measurement:
    """A linear inverse problem as a reward (see `Measurement`); Z is then the evidence of the measurement.

    Args:
        operator: A, a linear JAX function of one sample, or a matrix that multiplies the flattened sample.
        y: the measurement, shaped as the operator returns it.
        noise_std: standard deviation of its noise, above zero.
        data_std: rough standard deviation of the data, which the look-ahead uses.
    """
    for name, value in {"noise_std": noise_std, "data_std": data_std}.items():
        validate.number(name, value, above=0.0)
    apply = operator if callable(operator) else _Matrix(jnp.asarray(operator, float))
    y = complete("y", y, hint="inpainting(known, y) measures what is there; a row of the matrix may be left out")
    return Measurement(apply, jnp.asarray(y, float), jnp.asarray(noise_std, float), jnp.asarray(data_std, float))


def inpainting(known: Any, y: Any, noise_std: float, *, data_std: float = 1.0) -> Measurement:
    """Some coordinates of the sample are known, up to noise (see `Measurement`).

    Args:
        known: Bool["*shape"], where.
        y: Float["*shape"], the values; what it holds elsewhere does not matter.
        noise_std, data_std: as in `measurement`.
    """
    mask = np.asarray(known, bool)
    values = np.asarray(y)
    if mask.shape != values.shape or not mask.any():
        raise ArgumentError(
            "known and y do not fit", expected=f"both of shape {values.shape}, some known", got=mask.shape
        )
    values = complete("y", y, where=mask, hint="known is where y holds numbers: known & seen")
    return measurement(_Select(np.flatnonzero(mask)), values[mask], noise_std, data_std=data_std)


class _Matrix(eqx.Module):
    matrix: Float[Array, "measured size"]

    def __call__(self, x: Point) -> Array:
        """Float["measured"], the matrix times the flattened sample."""
        return self.matrix @ x.reshape(-1)


class _Select(eqx.Module):
    places: np.ndarray = eqx.field(converter=np.asarray)

    def __call__(self, x: Point) -> Array:
        """Float["known"], the coordinates at these places of the flattened sample."""
        return x.reshape(-1)[self.places]


class LowDensity(eqx.Module):
    r"""A reward that is high where the model puts little density: how far noising and denoising carries a sample.

    .. math:: r(x_0) = \frac{1}{d} \bigl| x_0 - \hat x_0(\alpha_u x_0;\, u) \bigr|^2

    By Tweedie's formula it is :math:`\rho_u^4 |\nabla \log q_u|^2 / d` at :math:`\alpha_u x_0`: zero at the modes of
    the noised density and growing away from them, without any sample of the rare. Positive temperature looks for the
    rare.

    Source: after the minority score of Um, Lee & Ye (2024).

    Attributes:
        model: the denoising model.
        time: u, how much noise is forgotten.
    """

    model: Model
    time: Scalar

    def __call__(self, x: Point) -> Scalar:
        """The mean squared displacement."""
        denoised = self.model.predict(self.model.schedule.alpha(self.time) * x, self.time).denoised
        return jnp.mean((x - denoised) ** 2)


def low_density(model: Model, time: float) -> LowDensity:
    """A reward for samples that are rare under the model (see `LowDensity`).

    Args:
        model: the denoising model.
        time: the diffusion time whose density is meant, strictly inside the schedule.
    """
    schedule = as_model(model).schedule
    if not (schedule.start < time and schedule.cleanest <= time <= schedule.end):
        raise ArgumentError(
            "time is outside the schedule", expected=f"in ({schedule.cleanest}, {schedule.end}]", got=time
        )
    return LowDensity(model, jnp.asarray(time, float))


def as_reward(reward: Any, temperature: float, shape: tuple[int, ...]) -> Reward:
    """The reward over its temperature, tried on shapes and on one point of noise before any work.

    Args:
        reward: ``x -> Float[""]``, a function of one sample; `on_host`; or a `Reward` (`measurement`, `inpainting`),
            which is in nats and takes no temperature.
        temperature: alpha; negative values look for low rewards.
        shape: of one sample.

    Raises:
        ArgumentError: a temperature that is zero or no number, or one given with a measurement.
        TargetError: a reward that raises, is no scalar, or is NaN or infinite at noise.
    """
    if validate.number("temperature", temperature) == 0:
        raise ArgumentError(
            "temperature is out of range",
            expected="a finite number other than zero; negative looks for low rewards",
            got=temperature,
            hint="the target is model(x) exp(reward(x) / temperature)",
        )
    if not callable(reward):
        raise ArgumentError("the reward is no function", expected="reward(x) -> Float['']", got=type(reward).__name__)
    if isinstance(reward, Reward):
        if temperature != 1.0:
            raise ArgumentError("a measurement is in nats already", expected="temperature=1", got=temperature)
        made = reward
    else:
        made = Tempered(reward, jnp.asarray(temperature, float), getattr(reward, "differentiable", True))
    x = np.random.default_rng(0).standard_normal(shape)
    with calling(
        "the reward", hint=f"it gets one sample of shape {shape}; wrap what is no JAX function in diffusion.on_host"
    ):
        value = np.asarray(made(jnp.asarray(x, float)))
    if value.shape != ():
        raise TargetError(
            "the reward did not return a scalar",
            expected="Float[''], one number for one sample",
            got=value.shape,
            hint="sum or average over the sample",
        )
    if not np.isfinite(value):
        raise TargetError(
            "the reward is not finite",
            expected="a finite number for every point: it is asked about denoised points on the way",
            got=float(value),
            hint="a hard constraint can be a large negative number",
        )
    return made
