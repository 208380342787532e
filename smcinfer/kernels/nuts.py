"""The No-U-Turn sampler, blackjax's, in the whitened coordinates of the particle cloud."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels import tuning
from smcinfer.kernels.base import KernelState, Position, TemperedDensity, value_and_gradients
from smcinfer.kernels.blackjax_kernel import BlackjaxKernel, LogDensity


class NUTS(BlackjaxKernel):
    r"""No-U-Turn sampler with the cloud's inverse covariance as (dense) mass matrix.

    Doubles a leapfrog trajectory until it turns back on itself,
    :math:`\langle p_\pm, \sum p \rangle \le 0`, and draws a point of it. A unit mass in whitened
    coordinates is the inverse covariance in the target's, without squaring its condition number.

    Lanes stop at different lengths, and under vmap all wait for the longest: on a target whose
    trajectories are alike, `HMC` does the same work in lockstep. The step is tuned to the acceptance
    target.

    Args:
        target_acceptance: mean acceptance along the trajectory to tune to.
        max_num_doublings: most doublings, so at most ``2**max_num_doublings`` leapfrog steps.

    Source: Hoffman & Gelman (2014); Betancourt (2017), appendix A.
    """

    target_acceptance: float = eqx.field(default=0.95, static=True)
    max_num_doublings: int = eqx.field(default=8, static=True)

    def __check_init__(self) -> None:
        tuning.check_acceptance(self.target_acceptance)
        if self.max_num_doublings < 1:
            raise ArgumentError("max_num_doublings is out of range", expected="at least 1", got=self.max_num_doublings)

    def init(self, position: Position, density: TemperedDensity) -> KernelState:
        """One evaluation of both parts with their gradients."""
        return value_and_gradients(density, position)

    def parameters(self, dim: int) -> tuning.Scaled:
        """A unit cloud, and a cautious step for a Gaussian target of that shape."""
        return tuning.Scaled(tuning.unit_cloud(dim), jnp.asarray(1.2 * dim**-0.25, jnp.result_type(float)))

    def tune(
        self,
        params: tuning.Scaled,
        positions: Float[Array, "n dim"],
        log_weights: Float[Array, " n"],
        acceptance: Scalar,
    ) -> tuning.Scaled:
        """The cloud's shape, and the step moved toward the acceptance target."""
        step_size = tuning.feedback(
            params.step_size, acceptance, target=self.target_acceptance, order=2, lower=1e-4, upper=10.0
        )
        return tuning.Scaled(tuning.fit_cloud(params.cloud, positions, log_weights), step_size)

    def cloud(self, params: tuning.Scaled) -> tuning.Cloud:
        """The fitted cloud: trajectories run in its whitened coordinates."""
        return params.cloud

    def build(self, logdensity_fn: LogDensity, density: TemperedDensity, params: tuning.Scaled, dim: int) -> Any:
        """Blackjax's sampler with a unit mass matrix."""
        del density
        unit_mass = jnp.ones(dim, params.step_size.dtype)
        import blackjax  # half a second that only its users should pay

        return blackjax.nuts(logdensity_fn, params.step_size, unit_mass, max_num_doublings=self.max_num_doublings)

    def start(self, log_target: Any, target_gradient: Array, position: Array) -> Any:
        """The sampler's state from cached values."""
        from blackjax.mcmc.hmc import HMCState

        return HMCState(position, log_target, target_gradient)
