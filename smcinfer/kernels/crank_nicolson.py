"""The preconditioned Crank-Nicolson sampler: a proposal that leaves the Gaussian factor of the target invariant."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, KeyArray
from smcinfer.kernels import tuning
from smcinfer.kernels.base import KernelInfo, KernelState, TemperedDensity, info
from smcinfer.kernels.metropolis import metropolis
from smcinfer.kernels.reference import check_reference, reference_of
from smcinfer.kernels.scaled import ScaledKernel


class CrankNicolson(ScaledKernel):
    r"""Preconditioned Crank-Nicolson (pCN): keep part of the old point, add Gaussian noise for the rest.

    With :math:`\gamma_\lambda(x) = N(x; m, L L^T)\, e^{\Psi(x)}`,

    .. math:: y = m + \sqrt{1 - h^2}\, (x - m) + h L \xi, \qquad \xi \sim N(0, I), \qquad
        \alpha = \min\{1, e^{\Psi(y) - \Psi(x)}\}

    The Gaussian has left the ratio, so that the acceptance does not fall with the dimension, only with what the data
    say. One density evaluation a step and no gradient. The step starts at :math:`2.38 / \sqrt d`, never more than one,
    and is tuned to the acceptance target. Reversible.

    Args:
        target_acceptance: acceptance rate to tune to.
        reference: the Gaussian: ``"base"``, then :math:`\Psi = \lambda \Phi` is the tempered potential, or ``"cloud"``,
            that of the particles, for any base.

    Source: Cotter, Roberts, Stuart & White (2013), equation 4.7 and section 4.2.
    """

    target_acceptance: float = eqx.field(default=0.3, static=True)
    reference: str = eqx.field(default="base", static=True)
    order: ClassVar[float] = 1
    largest_step: ClassVar[float] = 1.0

    def __check_init__(self) -> None:
        check_reference(self.reference)

    def parameters(self, dim: int) -> tuning.Scaled:
        """A unit cloud, and the first step."""
        step_size = jnp.asarray(min(1.0, 2.38 / dim**0.5), jnp.result_type(float))
        return tuning.Scaled(tuning.unit_cloud(dim), step_size)

    def fitted(
        self, cloud: tuning.Cloud, positions: Float[Array, "n dim"], log_weights: Float[Array, " n"]
    ) -> tuning.Cloud:
        """The cloud's shape, where it is the reference."""
        return cloud if self.reference == "base" else super().fitted(cloud, positions, log_weights)

    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: tuning.Scaled
    ) -> tuple[KernelState, KernelInfo]:
        """One proposal and one accept step: one density evaluation."""
        noise_key, accept_key = jax.random.split(key)
        reference = reference_of(self.reference, "CrankNicolson", density, params.cloud)
        position = state.position
        step = params.step_size.astype(position.dtype)
        # One minus the root, without cancellation where the step is small.
        retreat = step**2 / (1.0 + jnp.sqrt(1.0 - step**2))
        noise = jax.random.normal(noise_key, position.shape, position.dtype)
        offset = position - reference.gaussian.mean.astype(position.dtype)
        proposal = position - retreat * offset + step * reference.gaussian.stretch(noise)
        proposed = self.init(proposal, density)
        # Whitened lengths are wanted only where the Gaussian has to be divided out.
        whitened = position if reference.is_base else reference.gaussian.whiten(position)
        log_correction = reference.log_gaussian(state, whitened)
        log_correction -= reference.log_gaussian(proposed, (1.0 - retreat) * whitened + step * noise)
        state, acceptance = metropolis(accept_key, state, proposed, density, log_correction)
        return state, info(acceptance, 1)
