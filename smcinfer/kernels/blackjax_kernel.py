"""How one step of a blackjax sampler becomes one step of a move kernel on a tempered density.

A bridged sampler may run in the whitened coordinates of the particle cloud, so that one without a mass
matrix (a slice sampler, plain Langevin) is preconditioned too, and step sizes are in units of the
cloud's spread.
"""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Flag, KeyArray, PyTree
from smcinfer.kernels import tuning
from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, TemperedDensity, gradient, info
from smcinfer.kernels.metropolis import choose

LogDensity = Callable[[Array], Array]


class BlackjaxKernel(Kernel):
    """A blackjax sampler on a tempered density; subclasses say how it is built and tuned.

    Each step builds the sampler on the tempered density, starts it at the particle, takes one of its
    steps, and evaluates both parts of the density where it landed. A density that is NaN or plus
    infinity counts as zero, and a step that lands on one is undone. Whatever state the sampler has
    besides the position (a momentum, a slice) is drawn afresh, which leaves the density invariant.
    """

    @abc.abstractmethod
    def build(self, logdensity_fn: LogDensity, density: TemperedDensity, params: PyTree[Any], dim: int) -> Any:
        """The blackjax ``SamplingAlgorithm`` for a log density in the coordinates of `cloud`."""

    def cloud(self, params: PyTree[Any]) -> tuning.Cloud | None:
        """The cloud whose whitened coordinates the sampler sees, or ``None`` for the target's own."""
        del params

    def log_target(self, density: TemperedDensity, position: Array) -> Array:
        """What the sampler is told to be the log density."""
        return density(position)

    def start(self, log_target: Array, target_gradient: Array, position: Array) -> Any:
        """The sampler's state from cached values, or ``None`` where its own ``init`` must make it."""
        del log_target, target_gradient, position

    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: PyTree[Any]
    ) -> tuple[KernelState, KernelInfo]:
        """One step of the sampler, and one evaluation of both parts where it landed."""
        init_key, step_key = jax.random.split(key)
        origin, cloud = state.position, self.cloud(params)
        log_here = density.combine(state.log_base, state.log_potential)
        # A particle of weight zero stands outside the target: it walks about as on a flat one.
        standing = jnp.isfinite(log_here)

        # The sampler's coordinates put the cloud's mean at zero, but the way back starts at the particle: a
        # rejected step then gives back the particle's very bits.
        view = origin if cloud is None else cloud.whiten(origin)

        def back(point: Array) -> Array:
            return point if cloud is None else origin + cloud.stretch(point - view)

        def logdensity_fn(point: Array) -> Array:
            value = self.log_target(density, _with_finite_gradient(back(point)))
            return jnp.where(standing, jnp.where(value < jnp.inf, value, -jnp.inf), 0.0)

        algorithm = self.build(logdensity_fn, density, params, origin.shape[0])
        chain = self._cached_start(state, density, view, cloud, standing)
        num_evals = 1
        if chain is None:
            chain = algorithm.init(view, init_key)
            num_evals += 1
        chain, report = algorithm.step(step_key, chain)
        landed = self.init(back(chain.position), density)
        possible = jnp.isfinite(density.combine(landed.log_base, landed.log_potential))
        possible &= jnp.all(jnp.isfinite(landed.position))
        evals, acceptance = _read(report)
        return choose(possible, landed, state), info(jnp.where(possible, acceptance, 0.0), evals + num_evals)

    def _cached_start(
        self, state: KernelState, density: TemperedDensity, view: Array, cloud: tuning.Cloud | None, standing: Flag
    ) -> Any:
        slope = jnp.zeros_like(view)
        if state.gradients is not None:
            slope = gradient(state, density)
            slope = jnp.where(standing, slope if cloud is None else cloud.pull_back(slope), 0.0)
        log_here = density.combine(state.log_base, state.log_potential)
        return self.start(jnp.where(standing, log_here, 0.0), slope, view)


@jax.custom_vjp
def _with_finite_gradient(position: Array) -> Array:
    """The position itself; what is differentiated through it has its non-finite components set to zero.

    The same rule as `TemperedDensity.combine_gradients`: a sampler must see one force at one point,
    cached or not, or its trajectories are not reversible.
    """
    return position


def _forward(position: Array) -> tuple[Array, None]:
    return position, None


def _backward(_: None, cotangent: Array) -> tuple[Array]:
    return (jnp.where(jnp.isfinite(cotangent), cotangent, 0.0),)


_with_finite_gradient.defvjp(_forward, _backward)


def _read(report: Any) -> tuple[Array, Array]:
    """Evaluations beyond the first and the last, and the acceptance rate, from a sampler's info."""
    counts = [getattr(report, name) for name in ("num_integration_steps", "subiter") if hasattr(report, name)]
    counts += [getattr(report, name) for name in ("num_expansions", "num_shrink") if hasattr(report, name)]
    evals = sum((jnp.asarray(count, jnp.int32) for count in counts), jnp.asarray(0 if counts else 1, jnp.int32))
    rate = getattr(report, "acceptance_rate", getattr(report, "is_accepted", 1.0))
    return evals, jnp.clip(jnp.nan_to_num(jnp.asarray(rate, jnp.result_type(float)), nan=0.0), 0.0, 1.0)
