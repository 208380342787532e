"""Any move kernel of this package as a blackjax sampler."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from jax.flatten_util import ravel_pytree

from smcinfer.ground.arrays import Array, Int, KeyArray, PyTree, Scalar
from smcinfer.kernels.base import Kernel, KernelState, TemperedDensity


class ExportedState(NamedTuple):
    """State of an exported kernel: ``position`` in the user's structure, and what the kernel caches."""

    position: PyTree[Any]
    logdensity: Scalar
    kernel_state: KernelState


class ExportedInfo(NamedTuple):
    """What one step did, under blackjax's names.

    Attributes:
        acceptance_rate: Float[""], acceptance probability.
        num_evals: Int[""], density evaluations (a density with its gradient counts one).
        cap_reached: Int[""], one where a bounded loop stopped at its bound.
    """

    acceptance_rate: Scalar
    num_evals: Int[Array, ""]
    cap_reached: Int[Array, ""]


def as_blackjax(
    kernel: Kernel, logdensity_fn: Callable[[Any], Any], params: PyTree[Any] | None = None
) -> SamplingAlgorithm:
    """A kernel on a plain log density as a blackjax ``SamplingAlgorithm(init, step)``.

    The log density takes the base's place, at exponent one and with a potential of zero. Shared
    randomness (a trajectory length) is drawn anew at each step.

    Args:
        kernel: any kernel of this package that needs no Gaussian base.
        logdensity_fn: log density of positions of any structure, nats.
        params: the kernel's parameters: from ``kernel.tune`` on a pilot cloud, say; by default its first
            ones, in which the cloud is a standard normal.
    """

    def density_on(unravel: Callable[[Array], Any], dtype: Any) -> TemperedDensity:
        return TemperedDensity(
            log_base=lambda vector: jnp.asarray(logdensity_fn(unravel(vector))),
            log_potential=lambda vector: jnp.zeros((), vector.dtype),
            exponent=jnp.ones((), dtype),
        )

    def init(position: PyTree[Any], rng_key: KeyArray | None = None) -> ExportedState:
        del rng_key
        vector, unravel = ravel_pytree(position)
        state = kernel.init(vector, density_on(unravel, vector.dtype))
        return ExportedState(position, state.log_base, state)

    def step(rng_key: KeyArray, state: Any) -> tuple[ExportedState, ExportedInfo]:
        share_key, step_key = jax.random.split(rng_key)
        vector, unravel = ravel_pytree(state.position)
        current = kernel.parameters(vector.shape[0]) if params is None else params
        current = kernel.share(share_key, current)
        moved, info = kernel.step(step_key, state.kernel_state, density_on(unravel, vector.dtype), current)
        report = ExportedInfo(info.acceptance, info.num_evals, info.cap_reached)
        return ExportedState(unravel(moved.position), moved.log_base, moved), report

    return SamplingAlgorithm(init, step)
