"""Hamiltonian Monte Carlo in the whitened coordinates of the particle cloud, all lanes in lockstep."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Count, Flag, Float, KeyArray, Scalar
from smcinfer.kernels import tuning
from smcinfer.kernels.base import (
    Kernel,
    KernelInfo,
    KernelState,
    Position,
    TemperedDensity,
    gradient,
    info,
    value_and_gradients,
)
from smcinfer.kernels.metropolis import metropolis


class Trajectory(eqx.Module):
    """Parameters of a Hamiltonian trajectory.

    Attributes:
        cloud: the shape that whitens: the mass matrix is the inverse of its covariance.
        step_size: Float[""], leapfrog step, in units of the cloud's spread; tuned.
        num_leapfrog: Int[""], leapfrog steps of this sweep.
        truncated: Bool[""], whether the bound on leapfrog steps cut this sweep's trajectory short.
    """

    cloud: tuning.Cloud
    step_size: Scalar
    num_leapfrog: Count
    truncated: Flag


class HMC(Kernel):
    r"""Hamiltonian Monte Carlo with the cloud's inverse covariance as mass and a jittered trajectory time.

    .. math:: H(x, p) = -\log \gamma_\lambda(x) + \tfrac12 |p|^2, \qquad
        \dot x = L p, \quad \dot p = L^T \nabla \log \gamma_\lambda(x), \qquad L L^T = \text{covariance of the cloud}

    integrated by leapfrog for a time :math:`\tau \sim U(\bar\tau (1 - j), \bar\tau (1 + j))`, rounded to
    whole steps, and accepted with probability :math:`\min(1, e^{-\Delta H})`. A fixed time resonates: at
    half a period of a Gaussian direction (:math:`\pi` in whitened time) the chain comes back to where it
    was, mirrored.

    The time is drawn in `share`, once a sweep, so that every lane takes the same number of leapfrog
    steps and the loop has one bound for all. One density and gradient evaluation a leapfrog step; the
    gradient at the start is cached. The step starts at :math:`1.2\, d^{-1/4}` and is tuned to the
    acceptance target. Reversible, given the time.

    Args:
        target_acceptance: acceptance rate to tune to. Higher than the 0.8 that is cheapest for a chain on one
            density: a path from a vague prior goes through funnels, and particles that a long step cannot bring
            into the narrow part bias log Z where no average over the cloud shows it.
        trajectory: mean trajectory time :math:`\bar\tau` in whitened units; a quarter of a period of a
            Gaussian target, where successive draws are uncorrelated, by default.
        jitter: relative half-width j of the time's distribution, in [0, 1].
        max_leapfrog: most leapfrog steps a trajectory may take; a longer one is cut short (still exact).
        metric: ``"dense"`` uses the cloud's full covariance, ``"diagonal"`` its variances only.

    Source: Duane, Kennedy, Pendleton & Roweth (1987); Neal (2011), sections 3.2 and 4.2.
    """

    target_acceptance: float = eqx.field(default=0.95, static=True)
    trajectory: float | int = eqx.field(default=1.5707963267948966, static=True)
    jitter: float | int = eqx.field(default=0.5, static=True)
    max_leapfrog: int = eqx.field(default=64, static=True)
    metric: str = eqx.field(default="dense", static=True)
    uses_gradient: ClassVar[bool] = True

    def __check_init__(self) -> None:
        tuning.check_acceptance(self.target_acceptance)
        tuning.check_metric(self.metric)
        validate.number("trajectory", self.trajectory, above=0.0)
        validate.fraction("jitter", self.jitter)
        validate.count("max_leapfrog", self.max_leapfrog)

    def parameters(self, dim: int) -> Trajectory:
        """A unit cloud, a cautious step for a Gaussian target of that shape, and the mean time."""
        step_size = jnp.asarray(1.2 * dim**-0.25, jnp.result_type(float))
        return self._planned(tuning.unit_cloud(dim, self.metric), step_size, self.trajectory)

    def tune(
        self,
        params: Trajectory,
        positions: Float[Array, "n dim"],
        log_weights: Float[Array, " n"],
        acceptance: Scalar,
    ) -> Trajectory:
        """The cloud's shape, and the step moved toward the acceptance target."""
        step_size = tuning.feedback(
            params.step_size, acceptance, target=self.target_acceptance, order=2, lower=1e-4, upper=4.0
        )
        return self._planned(tuning.fit_cloud(params.cloud, positions, log_weights), step_size, self.trajectory)

    def share(self, key: KeyArray, params: Trajectory) -> Trajectory:
        """The sweep's trajectory time, and the leapfrog steps that make it."""
        spread = jax.random.uniform(key, dtype=params.step_size.dtype, minval=-self.jitter, maxval=self.jitter)
        return self._planned(params.cloud, params.step_size, self.trajectory * (1.0 + spread))

    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: Trajectory
    ) -> tuple[KernelState, KernelInfo]:
        """One trajectory and one accept step: ``num_leapfrog`` density and gradient evaluations."""
        momentum_key, accept_key = jax.random.split(key)
        # The barrier keeps XLA from drawing again for each use.
        momentum = optimization_barrier(jax.random.normal(momentum_key, state.position.shape, state.position.dtype))
        proposed, final_momentum = leapfrog(state, momentum, density, params)
        log_correction = 0.5 * (jnp.sum(momentum**2) - jnp.sum(final_momentum**2))
        state, acceptance = metropolis(accept_key, state, proposed, density, log_correction)
        return state, info(acceptance, params.num_leapfrog, params.truncated)

    def _planned(self, cloud: tuning.Cloud, step_size: Scalar, time: Array | float) -> Trajectory:
        """As many steps as come nearest to the time; the step itself stays what was tuned."""
        # Fitting the step to the time instead would make the acceptance, which tunes it, jitter too.
        num_wanted = jnp.maximum(jnp.round(time / step_size), 1.0)
        num_leapfrog = jnp.minimum(num_wanted, self.max_leapfrog).astype(jnp.int32)
        return Trajectory(cloud, step_size, num_leapfrog, num_wanted > self.max_leapfrog)


def leapfrog(
    state: KernelState, momentum: Position, density: TemperedDensity, params: Trajectory
) -> tuple[KernelState, Position]:
    """Leapfrog from a state: half a kick, drifts with kicks between them, half a kick.

    Args:
        state: where to start, gradients cached.
        momentum: Float["dim"], in whitened coordinates.
        density: the density whose logarithm is the negative potential energy.
        params: step, number of steps and whitening.

    Returns:
        The last state, its parts and gradients evaluated, and the last momentum (not reversed).

    Source: Neal (2011), section 2.3.
    """
    cloud = params.cloud
    step = params.step_size.astype(state.position.dtype)

    def kick(state: KernelState, momentum: Array, length: Array) -> Array:
        return momentum + length * cloud.pull_back(gradient(state, density))

    def drift_and_kick(_: Array, carry: tuple[KernelState, Array]) -> tuple[KernelState, Array]:
        state, momentum = carry
        state = value_and_gradients(density, state.position + cloud.stretch(step * momentum))
        return state, kick(state, momentum, step)

    carry = (state, kick(state, momentum, 0.5 * step))
    state, momentum = jax.lax.fori_loop(0, params.num_leapfrog, drift_and_kick, carry)
    # The loop's last kick was a whole one: half of it is taken back.
    return state, kick(state, momentum, -0.5 * step)
