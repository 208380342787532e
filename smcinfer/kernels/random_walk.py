"""Gaussian random-walk Metropolis with the shape of the particle cloud."""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.kernels import tuning
from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, Position, TemperedDensity, evaluated, info
from smcinfer.kernels.metropolis import metropolis


class RandomWalk(Kernel):
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

    def __check_init__(self) -> None:
        tuning.check_acceptance(self.target_acceptance)
        tuning.check_metric(self.metric)

    def parameters(self, dim: int) -> tuning.Scaled:
        """A unit cloud, and the step that is optimal on a Gaussian target of that shape."""
        return tuning.Scaled(tuning.unit_cloud(dim, self.metric), jnp.asarray(2.38 / dim**0.5, jnp.result_type(float)))

    def tune(
        self,
        params: tuning.Scaled,
        positions: Float[Array, "n dim"],
        log_weights: Float[Array, " n"],
        acceptance: Scalar,
    ) -> tuning.Scaled:
        """The cloud's shape, and the step moved toward the acceptance target."""
        step_size = tuning.feedback(
            params.step_size, acceptance, target=self.target_acceptance, order=1, lower=1e-4, upper=10.0
        )
        return tuning.Scaled(tuning.fit_cloud(params.cloud, positions, log_weights), step_size)

    def propose(self, key: KeyArray, position: Position, params: tuning.Scaled) -> Position:
        """Where one step proposes to go."""
        noise = jax.random.normal(key, position.shape, position.dtype)
        return position + params.cloud.stretch(params.step_size.astype(position.dtype) * noise)

    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: tuning.Scaled
    ) -> tuple[KernelState, KernelInfo]:
        """One proposal and one accept step: one density evaluation."""
        noise_key, accept_key = jax.random.split(key)
        proposal = self.propose(noise_key, state.position, params)
        proposed = evaluated(density, proposal)
        state, acceptance = metropolis(accept_key, state, proposed, density)
        return state, info(acceptance, 1)
