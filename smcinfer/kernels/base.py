"""What a move kernel is: ``init`` and ``step`` on one particle, parameters tuned from a cloud.

A kernel leaves the density it is given invariant. It is handed the density in three parts, base,
potential and exponent, so that a kernel built for Gaussian bases (elliptical slice, pCN) can be
tempered, and so that what it cached at one exponent stays good at the next.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.ground.host import differentiating
from smcinfer.ground.programs import outlined

Position = Float[Array, " dim"]


class TemperedDensity(eqx.Module):
    r"""An unnormalised density :math:`\gamma_\lambda(x) = \mu(x) \exp(\lambda \Phi(x))` on vectors.

    Attributes:
        log_base: ``(Float["dim"]) -> Float[""]``, log of the base density :math:`\mu`, nats.
        log_potential: ``(Float["dim"]) -> Float[""]``, the potential :math:`\Phi`, nats; minus
            infinity outside the support, never NaN (the engine guards it).
        exponent: Float[""], :math:`\lambda`, in [0, 1] for a tempering path.
        base_mean, base_scale: mean and lower Cholesky factor (standard deviations of a diagonal one) of the base
            where it is Gaussian, else ``None``: what elliptical slice and Crank-Nicolson kernels need.
    """

    log_base: Callable[[Array], Array]
    log_potential: Callable[[Array], Array]
    exponent: Scalar
    base_mean: Float[Array, " dim"] | None = None
    base_scale: Float[Array, "dim dim"] | Float[Array, " dim"] | None = None

    def combine(self, log_base: Array, log_potential: Array) -> Array:
        """Log density from its two parts; zero times minus infinity counts as zero."""
        weighted = self.exponent * jnp.where(self.exponent == 0, 0.0, log_potential)
        return log_base + weighted

    def combine_gradients(self, base_gradient: Position, potential_gradient: Position) -> Position:
        r"""Gradient of the log density from its parts' gradients, zero wherever it is not finite.

        At exponent zero the potential counts for nothing, whatever its gradient. A gradient only
        proposes: leapfrog steps under *any* force that is a function of the position alone are
        reversible and keep volume, so a component set to zero costs acceptance, never exactness. Rejecting
        instead would cut the points whose gradient is NaN but whose density is fine out of the target.
        """
        total = base_gradient + jnp.where(self.exponent == 0, 0.0, self.exponent * potential_gradient)
        return jnp.where(jnp.isfinite(total), total, 0.0)

    def __call__(self, position: Position) -> Scalar:
        """Log density at a point, nats; may be differentiated."""
        # At exponent zero a NaN gradient of the potential, times zero, would still be NaN.
        reached = jnp.where(self.exponent == 0, jax.lax.stop_gradient(position), position)
        return self.combine(self.log_base(position), self.log_potential(reached))


class KernelState(eqx.Module):
    """Where one chain is: its position and the two parts of the log density there.

    The parts are kept apart so that a change of exponent costs no evaluation. ``gradients`` holds the
    gradients of the two parts for kernels that use them, else ``None``.
    """

    position: Position
    log_base: Scalar
    log_potential: Scalar
    gradients: tuple[Position, Position] | None = None


class KernelInfo(eqx.Module):
    """What one transition did.

    Attributes:
        acceptance: Float[""], acceptance probability in [0, 1] (one for kernels that always move).
        num_evals: Int[""], density evaluations (a density with its gradient counts one).
        cap_reached: Int[""], one where a bounded loop stopped at its bound.
    """

    acceptance: Scalar
    num_evals: Int[Array, ""]
    cap_reached: Int[Array, ""]


def info(acceptance: Array, num_evals: Array | int, cap_reached: Array | bool | int = 0) -> KernelInfo:
    """A `KernelInfo` with the dtypes the engine's loops carry.

    Args:
        acceptance: acceptance probability of the transition, in [0, 1].
        num_evals: evaluations of the density it took.
        cap_reached: 1 where it stopped at a cap on its evaluations.
    """
    return KernelInfo(
        acceptance=jnp.asarray(acceptance, dtype=jnp.result_type(float)),
        num_evals=jnp.asarray(num_evals, dtype=jnp.int32),
        cap_reached=jnp.asarray(cap_reached, dtype=jnp.int32),
    )


class Kernel(eqx.Module):
    """A Markov kernel on vectors, with parameters that a particle cloud can tune.

    Subclasses are frozen settings (`eqx.Module` fields); everything that is tuned lives in the
    ``params`` pytree, which the engine freezes during a move.

    Attributes:
        uses_gradient: whether states carry the gradients of both parts of the density.
    """

    uses_gradient: ClassVar[bool] = False

    def init(self, position: Position, density: TemperedDensity) -> KernelState:
        """State of a chain at ``position``: one evaluation, with gradients if the kernel uses them."""
        return value_and_gradients(density, position) if self.uses_gradient else evaluated(density, position)

    @abc.abstractmethod
    def parameters(self, dim: int) -> PyTree[Any]:
        """Starting parameters in ``dim`` dimensions, before any cloud was seen."""

    def tune(
        self,
        params: PyTree[Any],
        positions: Float[Array, "n dim"],
        log_weights: Float[Array, " n"],
        acceptance: Scalar,
    ) -> PyTree[Any]:
        """Parameters for the next move, from the weighted cloud and the last move's mean acceptance.

        Args:
            params: the last move's parameters; what comes back has its structure, shapes and dtypes.
            positions: Float["n dim"], the cloud.
            log_weights: Float["n"], nats, need not be normalised.
            acceptance: Float[""], mean of `KernelInfo.acceptance`; NaN before the first move.
        """
        del positions, log_weights, acceptance
        return params

    def share(self, key: KeyArray, params: PyTree[Any]) -> PyTree[Any]:
        """Randomness that all lanes of one sweep share (a trajectory length), drawn once a sweep.

        It must not depend on any lane's state. Lanes that share it stay in lockstep. A sweep that
        skips it uses what `parameters` or `tune` left in its place.
        """
        del key
        return params

    @abc.abstractmethod
    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: PyTree[Any]
    ) -> tuple[KernelState, KernelInfo]:
        """One transition of one chain that leaves ``density`` invariant."""


GRADIENT_FREE = 'take a kernel that needs no gradient: kernel="random_walk", "gibbsian_polar_slice" or "hit_and_run"'
"""What to take where the target has no gradient."""


@outlined
def evaluated(density: TemperedDensity, position: Position) -> KernelState:
    """A `KernelState` without gradients."""
    return KernelState(position, density.log_base(position), density.log_potential(position))


@outlined
def value_and_gradients(density: TemperedDensity, position: Position) -> KernelState:
    """A `KernelState` with both parts' gradients, for kernels that use them."""
    with differentiating("the target", GRADIENT_FREE):
        log_base, base_gradient = jax.value_and_grad(density.log_base)(position)
        log_potential, potential_gradient = jax.value_and_grad(density.log_potential)(position)
    return KernelState(position, log_base, log_potential, (base_gradient, potential_gradient))


def gradient(state: KernelState, density: TemperedDensity) -> Position:
    """Gradient of the log density at a state that caches its parts: no evaluation."""
    if state.gradients is None:
        raise TargetError(
            "a gradient kernel was given a state without gradients",
            expected="a state made by the kernel's own init",
            got="KernelState(gradients=None)",
            hint="call kernel.init(position, density) before kernel.step",
        )
    return density.combine_gradients(*state.gradients)
