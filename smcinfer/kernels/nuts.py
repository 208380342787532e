"""The No-U-Turn sampler, blackjax's, in the whitened coordinates of the particle cloud."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array
from smcinfer.kernels import tuning
from smcinfer.kernels.base import TemperedDensity
from smcinfer.kernels.blackjax_kernel import BlackjaxKernel, LogDensity
from smcinfer.kernels.scaled import ScaledKernel


class NUTS(ScaledKernel, BlackjaxKernel):
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
    uses_gradient: ClassVar[bool] = True
    order: ClassVar[float] = 2

    def __check_init__(self) -> None:
        validate.count("max_num_doublings", self.max_num_doublings)

    def parameters(self, dim: int) -> tuning.Scaled:
        """A unit cloud, and a cautious step for a Gaussian target of that shape."""
        return tuning.Scaled(tuning.unit_cloud(dim), jnp.asarray(1.2 * dim**-0.25, jnp.result_type(float)))

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
