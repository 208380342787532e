"""Kernels that step in the whitened coordinates of the particle cloud, by a step that follows the acceptance."""

from typing import ClassVar

import equinox as eqx

from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.kernels import tuning
from smcinfer.kernels.base import Kernel


class ScaledKernel(Kernel):
    """A kernel whose parameters are a cloud and a step size; subclasses say how acceptance falls with the step.

    Attributes:
        target_acceptance: acceptance rate to tune to.
        order: the power of the step in the law of `tuning.feedback`.
        largest_step: the step never grows beyond it, in units of the cloud's spread.
    """

    target_acceptance: eqx.AbstractVar[float]
    order: ClassVar[float]
    largest_step: ClassVar[float] = 10.0

    def __check_init__(self) -> None:
        tuning.check_acceptance(self.target_acceptance)

    def fitted(
        self, cloud: tuning.Cloud, positions: Float[Array, "n dim"], log_weights: Float[Array, " n"]
    ) -> tuning.Cloud:
        """The cloud's shape, in the metric it has."""
        return tuning.fit_cloud(cloud, positions, log_weights)

    def tune(
        self,
        params: tuning.Scaled,
        positions: Float[Array, "n dim"],
        log_weights: Float[Array, " n"],
        acceptance: Scalar,
    ) -> tuning.Scaled:
        """The cloud's shape, and the step moved toward the acceptance target."""
        step_size = tuning.feedback(
            params.step_size,
            acceptance,
            target=self.target_acceptance,
            order=self.order,
            lower=1e-4,
            upper=self.largest_step,
        )
        return tuning.Scaled(self.fitted(params.cloud, positions, log_weights), step_size)
