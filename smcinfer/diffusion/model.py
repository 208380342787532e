r"""Diffusion models: a network, what it predicts, and the schedule it was trained under.

All parameterisations say the same thing, the mean of the data given a noisy point (`Prediction.denoised`), in other
words:

.. math:: x_u = \alpha \hat x_0 + \sigma \hat\varepsilon, \qquad \nabla \log q_u(x_u) = -\hat\varepsilon / \sigma .
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.diffusion.schedule import NoiseSchedule, check_schedule
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Point, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError, calling

PARAMETERISATIONS: dict[str, str] = {
    "eps": "the noise in x (Ho et al. 2020)",
    "x0": "the mean of the data given x",
    "v": "alpha eps - sigma x0 (Salimans & Ho 2022)",
    "score": "the gradient of log q_u at x",
    "velocity": "d x / d u of the probability flow, alpha' x0 + sigma' eps (flow matching)",
    "denoiser": "the mean of the data given x / alpha, asked with the noise ratio for a time (Karras et al. 2022)",
}
"""What the function may return, by name. Its second argument is the diffusion time, or the noise ratio for ``"denoiser"``."""


class Prediction(eqx.Module):
    """What a model says of one noisy point.

    Attributes:
        denoised: Float["*shape"], the mean of the data given the point.
        noise: Float["*shape"], the mean of the noise in it.
    """

    denoised: Point
    noise: Point


class Model(eqx.Module):
    """A denoising model of one point of any fixed shape (made by `diffusion_model`).

    Attributes:
        function: ``(x, time)`` or, with a condition, ``(x, time, condition)``.
        schedule: what the function was trained under.
        condition: a pytree handed to the function, or ``None``.
        parameterisation: one of `PARAMETERISATIONS`.
        shape: of one point.
    """

    function: Callable[..., Array]
    schedule: NoiseSchedule
    condition: PyTree[Any]
    parameterisation: str = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def predict(self, x: Point, time: Scalar) -> Prediction:
        """One evaluation of the network: the data and the noise in x, as it sees them."""
        alpha, sigma = self.schedule.alpha(time), self.schedule.sigma(time)
        if self.parameterisation == "denoiser":
            return _from_denoised(x, self._call(x / alpha, sigma / alpha), alpha, sigma)
        value = self._call(x, time)
        match self.parameterisation:
            case "x0":
                return _from_denoised(x, value, alpha, sigma)
            case "eps":
                return _from_noise(x, value, alpha, sigma)
            case "score":
                return _from_noise(x, -sigma * value, alpha, sigma)
            case "v":
                size = alpha**2 + sigma**2
                return Prediction((alpha * x - sigma * value) / size, (sigma * x + alpha * value) / size)
        # The velocity: two linear equations for x0 and eps.
        one = jnp.ones_like(time)
        _, alpha_slope = jax.jvp(self.schedule.alpha, (time,), (one,))
        _, sigma_slope = jax.jvp(self.schedule.sigma, (time,), (one,))
        determinant = sigma_slope * alpha - sigma * alpha_slope
        denoised = (sigma_slope * x - sigma * value) / determinant
        return Prediction(denoised, (alpha * value - alpha_slope * x) / determinant)

    def score(self, x: Point, time: Scalar) -> Point:
        """The gradient of log q_u at x."""
        return -self.predict(x, time).noise / self.schedule.sigma(time)

    def conditioned(self, condition: PyTree[Any]) -> "Model":
        """The same network under another condition."""
        return eqx.tree_at(lambda tree: tree.condition, self, condition, is_leaf=lambda leaf: leaf is None)

    def _call(self, x: Array, time: Scalar) -> Any:
        return self.function(x, time) if self.condition is None else self.function(x, time, self.condition)


class ClassifierFree(eqx.Module):
    r"""A model told how far to go from what it says without the condition to what it says with it.

    .. math:: \hat\varepsilon = (1 - s)\, \hat\varepsilon(x) + s\, \hat\varepsilon(x \mid c)

    The chain it makes is a model in its own right: its scores belong to no noised version of any density, so that its
    samples are not those of :math:`q(x)^{1-s} q(x \mid c)^s`. `smcinfer.diffusion.guided` samples that product.

    Source: Ho & Salimans (2022).
    """

    conditional: Model
    unconditional: Model
    scale: Scalar

    def __call__(self, x: Point, time: Scalar) -> Point:
        """Float["*shape"], the guided noise in x at a diffusion time."""
        with_condition = self.conditional.predict(x, time).noise
        return (1.0 - self.scale) * self.unconditional.predict(x, time).noise + self.scale * with_condition


def diffusion_model(
    function: Callable[..., Array],
    schedule: NoiseSchedule,
    shape: tuple[int, ...],
    *,
    parameterisation: str = "eps",
    condition: PyTree[Any] = None,
) -> Model:
    """A model from a function of one point, checked on shapes before any work.

    Args:
        function: ``(x, time) -> Float["*shape"]``, a Python function or an equinox module; ``(x, time, condition)`` where a
            condition is given. ``time`` is a float scalar, the diffusion time of `smcinfer.diffusion.schedule`.
        schedule: alpha and sigma.
        shape: of one point, ``(28, 28)`` say.
        parameterisation: what the function returns: ``"eps"``, ``"x0"``, ``"v"``, ``"score"``, ``"velocity"`` or
            ``"denoiser"`` (`PARAMETERISATIONS`).
        condition: a pytree of arrays handed to the function, or ``None``.

    Raises:
        ArgumentError: an unknown parameterisation, a schedule that is none or not monotone, a shape that is none.
        TargetError: the function raises, or returns something of another shape.
    """
    if parameterisation not in PARAMETERISATIONS:
        raise ArgumentError(
            "unknown parameterisation", expected=" | ".join(PARAMETERISATIONS), got=repr(parameterisation)
        )
    if not callable(function):
        raise ArgumentError("the model's function is none", expected="function(x, time)", got=type(function).__name__)
    check_schedule(schedule)
    sizes = shape if isinstance(shape, tuple | list) else (shape,)
    shape = tuple(validate.count("shape", size) for size in sizes)
    model = Model(function, schedule, condition, parameterisation, shape)
    with calling(
        "the model's function",
        expected="function(x, time)" if condition is None else "function(x, time, condition)",
        hint=f"it gets one point of shape {shape} and a scalar time, and must be a JAX function",
    ):
        value = eqx.filter_eval_shape(
            model._call,
            jax.ShapeDtypeStruct(shape, jnp.result_type(float)),
            jax.ShapeDtypeStruct((), jnp.result_type(float)),
        )
    if getattr(value, "shape", None) != shape:
        raise TargetError(
            "the model's output has the wrong shape",
            expected=f"the shape of its point, {shape}",
            got=getattr(value, "shape", type(value).__name__),
            hint="write the function for one point, without a batch axis; the engine adds the particles",
        )
    return model


def classifier_free(conditional: Model, unconditional: Model, scale: float) -> Model:
    """Classifier-free guidance as a model (see `ClassifierFree`); two evaluations of the network a point.

    Args:
        conditional, unconditional: of one schedule and shape; ``model.conditioned(...)`` makes one of the other.
        scale: 0 is the unconditional model, 1 the conditional one; larger goes further.

    Raises:
        ArgumentError: the two differ in shape or schedule.
    """
    same_space(conditional, unconditional)
    both = ClassifierFree(conditional, unconditional, jnp.asarray(validate.number("scale", scale), float))
    return diffusion_model(both, conditional.schedule, conditional.shape, parameterisation="eps")


def as_model(model: Any) -> Model:
    """The model, where it is one; a network's function alone does not say what it predicts, nor under which schedule."""
    return validate.instance(
        "model", model, Model, "a model made by diffusion.diffusion_model(function, schedule, shape)"
    )


def same_space(*models: Model) -> None:
    """Raise `ArgumentError` unless all are models, and share a shape and a schedule."""
    first = as_model(models[0])
    for other in map(as_model, models[1:]):
        if other.shape != first.shape:
            raise ArgumentError("the models have points of different shapes", expected=first.shape, got=other.shape)
        if not eqx.tree_equal(other.schedule, first.schedule):
            raise ArgumentError(
                "the models have different schedules",
                expected=first.schedule,
                got=other.schedule,
                hint="rewrite one: x / alpha with noise ratio sigma / alpha is the same point under any schedule",
            )


class Preconditioned(eqx.Module):
    r"""The denoiser of a raw network as Karras et al. (2022) precondition it.

    .. math::
        D(y; \rho) = c_{skip}\, y + c_{out}\, F(c_{in}\, y,\, \tfrac14 \log \rho), \qquad
        c_{skip} = \frac{s^2}{\rho^2 + s^2}, \quad c_{out} = \frac{\rho s}{\sqrt{\rho^2 + s^2}}, \quad
        c_{in} = \frac{1}{\sqrt{\rho^2 + s^2}}

    A function for ``parameterisation="denoiser"``.

    Attributes:
        network: F, ``(y, noise) -> Float["*shape"]``.
        sigma_data: s, standard deviation of the data.
    """

    network: Callable[[Array, Array], Array]
    sigma_data: float = 0.5

    def __call__(self, y: Point, noise_ratio: Scalar) -> Point:
        """The mean of the data given y."""
        size = noise_ratio**2 + self.sigma_data**2
        raw = self.network(y / jnp.sqrt(size), 0.25 * jnp.log(noise_ratio))
        return self.sigma_data**2 / size * y + noise_ratio * self.sigma_data / jnp.sqrt(size) * raw


def _from_denoised(x: Array, denoised: Array, alpha: Array, sigma: Array) -> Prediction:
    # Without noise the point is the data, and there is none to see.
    clean = sigma <= 0
    return Prediction(denoised, jnp.where(clean, 0.0, (x - alpha * denoised) / jnp.where(clean, 1.0, sigma)))


def _from_noise(x: Array, noise: Array, alpha: Array, sigma: Array) -> Prediction:
    return Prediction((x - sigma * noise) / alpha, noise)
