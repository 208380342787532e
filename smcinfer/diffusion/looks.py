r"""Look-aheads on a diffusion: guesses of the soft value of a noisy point.

.. math:: V_t(x) = \log E\bigl[ \phi(x_0) \bigm| x_t = x \bigr]

As a twist :math:`\psi_t = e^{\lambda V_t}` it decides who is resampled, and its gradient is the drift that the best
proposal adds. A bad guess costs particles, never correctness.
"""

import abc
from collections.abc import Callable
from typing import override

import equinox as eqx
import jax.numpy as jnp

from smcinfer.diffusion.model import Model, Prediction
from smcinfer.diffusion.reverse import DDIM
from smcinfer.diffusion.rewards import Reward
from smcinfer.ground.arrays import Array, Point, Scalar
from smcinfer.ground.errors import ArgumentError


class Look(eqx.Module):
    """A guess of the soft value of a point. ``num_evaluations``: of the network, besides the prediction it is given."""

    differentiable: eqx.AbstractVar[bool]

    @property
    def num_evaluations(self) -> int:
        """How often it runs the network."""
        return 0

    @abc.abstractmethod
    def __call__(self, time: Scalar, x: Point, prediction: Prediction) -> Scalar:
        """log psi at full strength of a point at a diffusion time, nats.

        Args:
            time: the diffusion time.
            x: Float["*shape"], the point.
            prediction: what the network said of it, already computed.
        """

    def strength(self, noise_ratio: Scalar) -> Scalar:
        """How far the guess is trusted at a noise ratio, the power its twist has where the user names none: one."""
        return jnp.ones_like(noise_ratio)


class OfReward(Look):
    """The reward of one point to which the model leads, trusted as far as the reward's own foresight.

    Where one point goes says little of how far others spread.

    Attributes:
        reward, model: of the target.
    """

    reward: Reward
    model: Model

    @property
    @override
    def differentiable(self) -> bool:
        return self.reward.differentiable

    @override
    def strength(self, noise_ratio: Scalar) -> Scalar:
        return self.reward.strength(noise_ratio)


class Tweedie(OfReward):
    r"""The reward of the mean of the data, :math:`\log \phi(\hat x_0(x))`: one evaluation, which the chain needs anyway.

    By Jensen's inequality it is not the soft value where the data given x are spread out; it is at the end.

    Source: Chung et al. (2023); Wu et al. (2023).
    """

    @override
    def __call__(self, time: Scalar, x: Point, prediction: Prediction) -> Scalar:
        del x
        return self.reward.foreseen(prediction.denoised, self.model.schedule.noise_ratio(time))


class RollOut(OfReward):
    """The reward of where deterministic DDIM takes the point in a few steps: sharper than `Tweedie`, at that many evaluations.

    Attributes:
        num_steps: evaluations, counting the prediction that is already there; 1 is `Tweedie`.
    """

    num_steps: int = eqx.field(static=True, default=3)

    def __check_init__(self) -> None:
        if self.num_steps < 1:
            raise ArgumentError("a roll-out needs steps", expected="num_steps at least 1", got=self.num_steps)

    @property
    @override
    def num_evaluations(self) -> int:
        """All steps but the first."""
        return self.num_steps - 1

    @override
    def __call__(self, time: Scalar, x: Point, prediction: Prediction) -> Scalar:
        schedule, kernel = self.model.schedule, DDIM(0.0)
        stops = time + (schedule.start - time) * jnp.arange(self.num_steps + 1) / self.num_steps
        # Where the network knows no time between here and the data, steps in between lead nowhere.
        stops = stops.at[:-1].set(jnp.maximum(stops[:-1], schedule.cleanest))
        for step in range(self.num_steps - 1):
            x, _ = kernel(prediction, x, schedule, stops[step], stops[step + 1])
            prediction = self.model.predict(x, stops[step + 1])
        return self.reward.foreseen(prediction.denoised, schedule.noise_ratio(stops[-2]))


class OfPoint(Look):
    """A guess that is a function of the point and its time, a learned one (`smcinfer.diffusion.soft_value`) say.

    Attributes:
        function: ``(x, time) -> Float[""]``, nats.
    """

    function: Callable[[Array, Array], Array]
    differentiable: bool = eqx.field(static=True, default=True)

    @override
    def __call__(self, time: Scalar, x: Point, prediction: Prediction) -> Scalar:
        del prediction
        return self.function(x, time)
