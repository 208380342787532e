"""The preconditioned Crank-Nicolson Langevin sampler: pCN that drifts up the gradient of what the data say."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground import validate
from smcinfer.ground.arrays import KeyArray, Scalar
from smcinfer.kernels import tuning
from smcinfer.kernels.base import KernelInfo, KernelState, Position, TemperedDensity, info
from smcinfer.kernels.crank_nicolson import CrankNicolson
from smcinfer.kernels.metropolis import metropolis
from smcinfer.kernels.reference import Reference, reference_of


class CrankNicolsonLangevin(CrankNicolson):
    r"""Preconditioned Crank-Nicolson Langevin (pCNL).

    With :math:`\gamma_\lambda(x) = N(x; m, L L^T)\, e^{\Psi(x)}`, :math:`z = L^{-1}(x - m)`, the drift
    :math:`b(x) = L^T \nabla \Psi(x)` and a step h, :math:`\delta = h^2`,

    .. math:: z' = \rho z + \sigma \eta, \quad \eta = \xi + \kappa\, b(x), \qquad
        \rho = \frac{2 - \delta}{2 + \delta}, \quad \sigma = \sqrt{1 - \rho^2} = \frac{\sqrt{8 \delta}}{2 + \delta},
        \quad \kappa = \sqrt{\delta / 2}, \qquad \xi \sim N(0, I)

    The proposal's density over that of pCN is :math:`\exp(\kappa \langle b(x), \eta \rangle - \tfrac12 \kappa^2 |b(x)|^2)`,
    and back from y takes :math:`\eta' = \sigma z - \rho \eta`, so that

    .. math:: \log \alpha = \Psi(y) - \Psi(x) + \kappa \langle b(y), \eta' \rangle - \tfrac12 \kappa^2 |b(y)|^2
        - \kappa \langle b(x), \eta \rangle + \tfrac12 \kappa^2 |b(x)|^2, \quad \text{at most } 0.

    This holds for any drift that is a function of the position: where :math:`\kappa |b|` would exceed
    ``max_drift`` times :math:`\sqrt d`, the length of the noise, b is shortened to that, in both directions.

    One density and gradient evaluation a step; the gradient at x is cached. The step starts at :math:`d^{-1/6}`
    and is tuned to the acceptance target; :math:`\sqrt 2` forgets the point but for its drift. Reversible.

    Args:
        target_acceptance: acceptance rate to tune to.
        reference: the Gaussian: ``"base"``, then :math:`\Psi = \lambda \Phi` is the tempered potential, or ``"cloud"``,
            that of the particles, for any base.
        max_drift: longest drift, in lengths of the noise.

    Source: Cotter, Roberts, Stuart & White (2013), equation 4.10 and section 4.3 (there :math:`\Phi = -\Psi`).
    """

    target_acceptance: float = eqx.field(default=0.574, static=True)
    max_drift: float | int = eqx.field(default=1.0, static=True)
    uses_gradient: ClassVar[bool] = True
    order: ClassVar[float] = 3
    largest_step: ClassVar[float] = 2.0**0.5

    def __check_init__(self) -> None:
        validate.number("max_drift", self.max_drift, above=0.0)

    def parameters(self, dim: int) -> tuning.Scaled:
        """A unit cloud, and the first step."""
        return tuning.Scaled(tuning.unit_cloud(dim), jnp.asarray(dim ** (-1 / 6), jnp.result_type(float)))

    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: tuning.Scaled
    ) -> tuple[KernelState, KernelInfo]:
        """One proposal and one accept step: one density and gradient evaluation."""
        noise_key, accept_key = jax.random.split(key)
        reference = reference_of(self.reference, "CrankNicolsonLangevin", density, params.cloud)
        position = state.position
        step = params.step_size.astype(position.dtype)
        retreat = 2.0 * step**2 / (2.0 + step**2)
        rho, sigma = 1.0 - retreat, 8.0**0.5 * step / (2.0 + step**2)
        whitened = reference.gaussian.whiten(position)
        drift = self._drift(reference, state, density, whitened, step)
        noise = jax.random.normal(noise_key, position.shape, position.dtype) + drift
        offset = position - reference.gaussian.mean.astype(position.dtype)
        proposal = position - retreat * offset + sigma * reference.gaussian.stretch(noise)
        proposed = self.init(proposal, density)
        whitened_there = rho * whitened + sigma * noise
        drift_there = self._drift(reference, proposed, density, whitened_there, step)
        noise_back = sigma * whitened - rho * noise
        log_correction = self._log_over_pcn(drift_there, noise_back) - self._log_over_pcn(drift, noise)
        # pCN's own ratio: the Gaussian leaves the density's.
        log_correction += reference.log_gaussian(state, whitened)
        log_correction -= reference.log_gaussian(proposed, whitened_there)
        state, acceptance = metropolis(accept_key, state, proposed, density, log_correction)
        return state, info(acceptance, 1)

    def _drift(
        self, reference: Reference, state: KernelState, density: TemperedDensity, whitened: Position, step: Scalar
    ) -> Position:
        r""":math:`\kappa b`, no longer than ``max_drift`` times the length of the noise."""
        drift = step / 2.0**0.5 * reference.pull_back(state, density, whitened)
        longest = self.max_drift * drift.shape[0] ** 0.5
        # Over its largest component first: squares of a huge gradient would overflow.
        largest = jnp.max(jnp.abs(drift))
        length = largest * jnp.sqrt(jnp.sum((drift / jnp.where(largest > 0, largest, 1.0)) ** 2))
        return drift * jnp.where(length > longest, longest / jnp.where(length > 0, length, 1.0), 1.0)

    def _log_over_pcn(self, drift: Position, noise: Position) -> Scalar:
        """Log density of a proposal over that of pCN, nats."""
        return jnp.sum(drift * noise) - 0.5 * jnp.sum(drift**2)
