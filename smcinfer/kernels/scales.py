"""A kernel whose steps are of many sizes at once, for densities that are wide here and narrow there."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, Position, TemperedDensity


class Scales(Kernel):
    r"""Another kernel whose step is now and then drawn smaller, by a factor from several decades.

    .. math:: h' = h\, 10^{-D u b}, \qquad u \sim U(0, 1), \quad b \sim \mathrm{Bernoulli}(s)

    drawn for each particle and transition, whatever its state: a mixture of kernels that are invariant is. Steps that suit the
    wide part of a funnel are rejected in its neck, where the smaller ones are not, so that particles work their way in. What
    they cost is the share s of all transitions, and about as many more moves.

    Args:
        kernel: a kernel with a step size: `HMC`, `MALA`, `RandomWalk` or one like them.
        share_smaller: s, of transitions with a smaller step, in (0, 1).
        decades: D, how small steps get: the smallest is :math:`10^{-D}` of what was tuned.
    """

    kernel: Kernel
    share_smaller: float = eqx.field(default=0.5, static=True)
    decades: float | int = eqx.field(default=3.0, static=True)

    def __check_init__(self) -> None:
        validate.instance("kernel", self.kernel, Kernel, "smcinfer.kernels.HMC()")
        validate.number("share_smaller", self.share_smaller, above=0.0, below=1.0)
        validate.number("decades", self.decades, above=0.0)

    def init(self, position: Position, density: TemperedDensity) -> KernelState:
        """That of the kernel."""
        return self.kernel.init(position, density)

    def parameters(self, dim: int) -> PyTree[Any]:
        """Those of the kernel.

        Raises:
            ArgumentError: for a kernel that has no step size, a slice sampler say, which finds the scale by itself.
        """
        params = self.kernel.parameters(dim)
        if not hasattr(params, "step_size"):
            raise ArgumentError(
                "the kernel has no step size to scale",
                expected="HMC(), MALA() or RandomWalk()",
                got=type(self.kernel).__name__,
            )
        return params

    def tune(
        self, params: PyTree[Any], positions: Float[Array, "n dim"], log_weights: Float[Array, " n"], acceptance: Scalar
    ) -> PyTree[Any]:
        """As the kernel tunes itself, by the acceptance of all steps, the smaller ones among them."""
        return self.kernel.tune(params, positions, log_weights, acceptance)

    def share(self, key: KeyArray, params: PyTree[Any]) -> PyTree[Any]:
        """What lanes share is the kernel's."""
        return self.kernel.share(key, params)

    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: PyTree[Any]
    ) -> tuple[KernelState, KernelInfo]:
        """One transition of the kernel, at a step of its own."""
        which_key, size_key, step_key = jax.random.split(key, 3)
        decades = self.decades * jax.random.uniform(size_key, dtype=params.step_size.dtype)
        smaller = jax.random.bernoulli(which_key, self.share_smaller)
        step_size = params.step_size * jnp.where(smaller, 10.0**-decades, 1.0)
        return self.kernel.step(
            step_key, state, density, eqx.tree_at(lambda params: params.step_size, params, step_size)
        )
