r"""Reverse kernels: the law of the next, less noisy point, by its mean and variance.

From time u to an earlier time s, with :math:`\alpha_{u|s} = \alpha_u / \alpha_s` and

.. math:: \sigma^2_{u|s} = \sigma_u^2 - \alpha_{u|s}^2 \sigma_s^2 .

Every kernel is Gaussian with one variance for all coordinates, so what a proposal adds to its mean can be weighed
exactly. Flow models move by the same kernels: a velocity says the score, and the score makes the stochastic equation
that has the flow's marginals.
"""

import abc
from typing import override

import equinox as eqx
import jax.numpy as jnp

from smcinfer.diffusion.model import Prediction
from smcinfer.diffusion.schedule import NoiseSchedule, remaining_variance
from smcinfer.ground.arrays import Point, Scalar
from smcinfer.ground.errors import ArgumentError


class ReverseKernel(eqx.Module):
    """How a reverse process moves one step: the mean and the variance of where it goes."""

    @abc.abstractmethod
    def __call__(
        self, prediction: Prediction, x: Point, schedule: NoiseSchedule, time: Scalar, earlier: Scalar
    ) -> tuple[Point, Scalar]:
        """Mean and variance of the point at an earlier time.

        Args:
            prediction: of the model at ``x`` and ``time``.
            x: Float["*shape"], the point.
            schedule: the model's.
            time, earlier: where it is and where it goes, ``earlier < time``.

        Returns:
            Mean Float["*shape"] and variance Float[""], the same for all coordinates; zero where the step is certain.
        """


class DDIM(ReverseKernel):
    r"""Song, Meng & Ermon (2021): the noise is partly kept, partly drawn anew.

    .. math::
        \mu = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - v}\, \hat\varepsilon, \qquad
        v = \eta^2 \frac{\sigma_s^2}{\sigma_u^2} \sigma^2_{u|s}

    Attributes:
        eta: 0 is deterministic, 1 is `DDPM`.
    """

    eta: float = 1.0

    @override
    def __call__(
        self, prediction: Prediction, x: Point, schedule: NoiseSchedule, time: Scalar, earlier: Scalar
    ) -> tuple[Point, Scalar]:
        del x
        _, fresh, kept = _parts(schedule, time, earlier)
        variance = self.eta**2 * fresh * kept
        noise = jnp.sqrt(jnp.maximum(schedule.sigma(earlier) ** 2 - variance, 0.0))
        return schedule.alpha(earlier) * prediction.denoised + noise * prediction.noise, variance


class DDPM(ReverseKernel):
    r"""Ho et al. (2020): the law of the earlier point given this one and the predicted data.

    .. math::
        \mu = \frac{\alpha_{u|s} \sigma_s^2 x + \alpha_s \sigma^2_{u|s} \hat x_0}{\sigma_u^2}, \qquad
        v = \frac{\sigma_s^2}{\sigma_u^2} \sigma^2_{u|s}
            + \Bigl( \frac{\alpha_s \sigma^2_{u|s}}{\sigma_u^2} \Bigr)^2 \frac{\rho^2 d^2}{\rho^2 + d^2}

    The second term is what the data still vary given x, were they normal with standard deviation d. The steps are
    then exact; the two variances of Ho et al. are d = 0 and, under a variance-preserving schedule, d = 1.

    Attributes:
        data_std: d.
    """

    data_std: float = 0.0

    @override
    def __call__(
        self, prediction: Prediction, x: Point, schedule: NoiseSchedule, time: Scalar, earlier: Scalar
    ) -> tuple[Point, Scalar]:
        scale, fresh, kept = _parts(schedule, time, earlier)
        weight = schedule.alpha(earlier) * fresh / schedule.sigma(time) ** 2
        mean = scale * kept * x + weight * prediction.denoised
        spread = remaining_variance(schedule.noise_ratio(time), self.data_std)
        return mean, fresh * kept + weight**2 * spread


class EulerMaruyama(ReverseKernel):
    r"""One Euler step of the reverse stochastic equation with any amount of noise (Song et al. 2021).

    .. math:: \mu = x + \Delta \bigl(-f x + \tfrac{1 + z^2}{2} g^2\, \nabla \log q_u(x)\bigr), \qquad v = z^2 g^2 \Delta

    A step to where there is no noise ends at the predicted data: an Euler step there would leave the noise of its length.

    Attributes:
        noise: z; 1 is the reverse of the forward process, 0 the probability flow.
    """

    noise: float = 1.0

    @override
    def __call__(
        self, prediction: Prediction, x: Point, schedule: NoiseSchedule, time: Scalar, earlier: Scalar
    ) -> tuple[Point, Scalar]:
        step = time - earlier
        size = schedule.diffusion_squared(time) * step
        score = -prediction.noise / schedule.sigma(time)
        mean = x * (1.0 - schedule.drift(time) * step) + 0.5 * (1.0 + self.noise**2) * size * score
        return _to_data(prediction, schedule, earlier, mean, self.noise**2 * size)


class Exponential(ReverseKernel):
    r"""The reverse stochastic equation solved exactly but for the prediction, which is held over the step.

    With :math:`h = \log(\alpha_s / \sigma_s) - \log(\alpha_u / \sigma_u)` and noise z,

    .. math::
        \text{data held:}\quad & \mu = \frac{\sigma_s}{\sigma_u} e^{-z^2 h} x + \alpha_s (1 - e^{-(1 + z^2) h}) \hat x_0,
            & v = \sigma_s^2 (1 - e^{-2 z^2 h}) \\
        \text{noise held:}\quad & \mu = \frac{\alpha_s}{\alpha_u} x - (1 + z^2)\, \sigma_s (e^h - 1)\, \hat\varepsilon,
            & v = z^2 \sigma_s^2 (e^{2h} - 1)

    Holding the data with z = 1 is `DDPM`; either with z = 0 is deterministic `DDIM`. A step to where there is no noise ends at
    the predicted data.

    Source: Lu et al. (2022), *DPM-Solver++*; Zhang & Chen (2023).

    Attributes:
        noise: z.
        hold: ``"data"`` or ``"noise"``.
    """

    noise: float = 1.0
    hold: str = eqx.field(static=True, default="data")

    def __check_init__(self) -> None:
        if self.hold not in ("data", "noise"):
            raise ArgumentError("unknown prediction to hold", expected="data | noise", got=repr(self.hold))

    @override
    def __call__(
        self, prediction: Prediction, x: Point, schedule: NoiseSchedule, time: Scalar, earlier: Scalar
    ) -> tuple[Point, Scalar]:
        alpha, sigma = schedule.alpha(earlier), schedule.sigma(earlier)
        if self.hold == "data":
            # exp(-h), zero where the step ends without noise.
            shrink = (sigma / alpha) / schedule.noise_ratio(time)
            power = self.noise**2
            mean = sigma / schedule.sigma(time) * shrink**power * x
            mean = mean + alpha * (1.0 - shrink ** (1.0 + power)) * prediction.denoised
            return mean, sigma**2 * (1.0 - shrink ** (2.0 * power))
        # sigma_s exp(h), finite where the step ends without noise.
        grown = alpha * schedule.noise_ratio(time)
        mean = alpha / schedule.alpha(time) * x - (1.0 + self.noise**2) * (grown - sigma) * prediction.noise
        return _to_data(prediction, schedule, earlier, mean, self.noise**2 * (grown**2 - sigma**2))


def by_name(kernel: str | ReverseKernel) -> ReverseKernel:
    """The kernel of a name: ``"ddpm"``, ``"ddim"``, ``"euler_maruyama"`` or ``"exponential"``; a kernel is itself."""
    if isinstance(kernel, ReverseKernel):
        return kernel
    kernels = {"ddpm": DDPM(), "ddim": DDIM(0.0), "euler_maruyama": EulerMaruyama(), "exponential": Exponential()}
    if not isinstance(kernel, str) or kernel not in kernels:
        raise ArgumentError(
            "unknown reverse kernel", expected=" | ".join(kernels) + ", or a ReverseKernel", got=repr(kernel)
        )
    return kernels[kernel]


def _to_data(
    prediction: Prediction, schedule: NoiseSchedule, earlier: Scalar, mean: Point, variance: Scalar
) -> tuple[Point, Scalar]:
    """Mean and variance of a step; the prediction, certainly, where nothing of the noise is left."""
    clean = schedule.sigma(earlier) <= 0
    data = schedule.alpha(earlier) * prediction.denoised
    return jnp.where(clean, data, mean), jnp.where(clean, 0.0, variance)


def _parts(schedule: NoiseSchedule, time: Scalar, earlier: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """alpha_{u|s}, sigma^2_{u|s} and sigma_s^2 / sigma_u^2."""
    scale = schedule.alpha(time) / schedule.alpha(earlier)
    variance, earlier_variance = schedule.sigma(time) ** 2, schedule.sigma(earlier) ** 2
    fresh = jnp.maximum(variance - scale**2 * earlier_variance, 0.0)
    return scale, fresh, earlier_variance / variance
