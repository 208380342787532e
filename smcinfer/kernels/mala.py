"""The Metropolis-adjusted Langevin algorithm, preconditioned by the particle cloud."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, KeyArray
from smcinfer.kernels import tuning
from smcinfer.kernels.base import (
    KernelInfo,
    KernelState,
    TemperedDensity,
    gradient,
    info,
)
from smcinfer.kernels.metropolis import metropolis
from smcinfer.kernels.scaled import ScaledKernel


class MALA(ScaledKernel):
    r"""Metropolis-adjusted Langevin: a Gaussian step that drifts up the gradient.

    .. math:: y = x + \tfrac{h^2}{2} L L^T \nabla \log \gamma(x) + h L \xi, \qquad \xi \sim N(0, I)

    with :math:`L L^T` the cloud's covariance. Going back from y takes the noise
    :math:`\xi' = -\xi - \tfrac{h}{2} L^T (\nabla \log \gamma(x) + \nabla \log \gamma(y))`, so the log ratio of
    the two proposal densities is :math:`(|\xi|^2 - |\xi'|^2) / 2` and needs no inverse of L.

    One density and gradient evaluation a step; the gradient at x is cached. The step starts at
    :math:`1.5\, d^{-1/6}` and is tuned to the acceptance target. Reversible.

    Args:
        target_acceptance: acceptance rate to tune to; 0.574 is optimal in high dimension.
        metric: ``"dense"`` uses the cloud's full covariance, ``"diagonal"`` its variances only.

    Source: Roberts & Tweedie (1996); Roberts & Rosenthal (1998).
    """

    target_acceptance: float = eqx.field(default=0.574, static=True)
    metric: str = eqx.field(default="dense", static=True)
    uses_gradient: ClassVar[bool] = True
    order: ClassVar[float] = 3
    largest_step: ClassVar[float] = 4.0

    def __check_init__(self) -> None:
        tuning.check_metric(self.metric)

    def parameters(self, dim: int) -> tuning.Scaled:
        """A unit cloud, and a step a little below the optimal one on a Gaussian target of that shape."""
        step_size = jnp.asarray(1.5 * dim ** (-1 / 6), jnp.result_type(float))
        return tuning.Scaled(tuning.unit_cloud(dim, self.metric), step_size)

    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: tuning.Scaled
    ) -> tuple[KernelState, KernelInfo]:
        """One proposal and one accept step: one density and gradient evaluation."""
        noise_key, accept_key = jax.random.split(key)
        position, cloud = state.position, params.cloud
        step_size = params.step_size.astype(position.dtype)
        noise = jax.random.normal(noise_key, position.shape, position.dtype)
        drift = 0.5 * step_size * cloud.pull_back(gradient(state, density))
        proposed = self.init(position + cloud.stretch(step_size * (noise + drift)), density)
        drift_back = 0.5 * step_size * cloud.pull_back(gradient(proposed, density))
        noise_back = noise + drift + drift_back
        log_correction = self._log_correction(noise, noise_back)
        state, acceptance = metropolis(accept_key, state, proposed, density, log_correction)
        return state, info(acceptance, 1)

    def _log_correction(self, noise: Array, noise_back: Array) -> Array:
        """Log ratio of the proposal densities, back over forth, nats."""
        return 0.5 * (jnp.sum(noise**2) - jnp.sum(noise_back**2))
