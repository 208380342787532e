"""Gaussian random-walk Metropolis with the shape of the particle cloud."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import KeyArray
from smcinfer.kernels import tuning
from smcinfer.kernels.base import KernelInfo, KernelState, Position, TemperedDensity, info
from smcinfer.kernels.metropolis import metropolis
from smcinfer.kernels.scaled import ScaledKernel


class RandomWalk(ScaledKernel):
    r"""Random-walk Metropolis: a Gaussian step with the cloud's covariance.

    .. math:: y = x + h L \xi, \qquad \xi \sim N(0, I), \qquad L L^T = \text{covariance of the cloud}

    One density evaluation a step and no gradient. The step starts at :math:`2.38 / \sqrt{d}` and is
    tuned to the acceptance target. Reversible.

    Args:
        target_acceptance: acceptance rate to tune to; 0.234 is optimal in high dimension.
        metric: ``"dense"`` uses the cloud's full covariance, ``"diagonal"`` its variances only.

    Source: Roberts, Gelman & Gilks (1997).
    """

    target_acceptance: float = eqx.field(default=0.234, static=True)
    metric: str = eqx.field(default="dense", static=True)
    order: ClassVar[float] = 1

    def __check_init__(self) -> None:
        tuning.check_metric(self.metric)

    def parameters(self, dim: int) -> tuning.Scaled:
        """A unit cloud, and the step that is optimal on a Gaussian target of that shape."""
        return tuning.Scaled(tuning.unit_cloud(dim, self.metric), jnp.asarray(2.38 / dim**0.5, jnp.result_type(float)))

    def propose(self, key: KeyArray, position: Position, params: tuning.Scaled) -> Position:
        """Where one step proposes to go."""
        noise = jax.random.normal(key, position.shape, position.dtype)
        return position + params.cloud.stretch(params.step_size.astype(position.dtype) * noise)

    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: tuning.Scaled
    ) -> tuple[KernelState, KernelInfo]:
        """One proposal and one accept step: one density evaluation."""
        noise_key, accept_key = jax.random.split(key)
        proposed = self.init(self.propose(noise_key, state.position, params), density)
        state, acceptance = metropolis(accept_key, state, proposed, density)
        return state, info(acceptance, 1)
