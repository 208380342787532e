r"""The Gaussian that elliptical slice and Crank-Nicolson kernels move along, and the density that is left over.

A target :math:`\gamma_\lambda` is written as a Gaussian times the rest, :math:`\gamma_\lambda(x) = N(x; m, L L^T)\,
e^{\Psi(x)}`. With the base's own Gaussian the rest is the tempered potential. With the particle cloud's it is
:math:`\Psi = \log \gamma_\lambda - \log N`, so that any base will do.
"""

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels import tuning
from smcinfer.kernels.base import KernelState, Position, TemperedDensity, gradient

REFERENCES = ("base", "cloud")


class Reference(eqx.Module):
    """A Gaussian, and whether it is the base itself.

    Attributes:
        gaussian: mean and lower Cholesky factor.
        is_base: whether the base is this Gaussian.
    """

    gaussian: tuning.Cloud
    is_base: bool = eqx.field(static=True)

    def log_rest(self, state: KernelState, density: TemperedDensity, squared_norm: Array) -> Scalar:
        r""":math:`\Psi` at a state, nats, up to a constant.

        Args:
            state: parts evaluated.
            density: the target.
            squared_norm: Float[""], of the whitened position.
        """
        if self.is_base:
            return density.combine(jnp.zeros_like(state.log_base), state.log_potential)
        return density.combine(state.log_base, state.log_potential) + 0.5 * squared_norm

    def log_gaussian(self, state: KernelState, whitened: Position) -> Scalar:
        """Log of the Gaussian factor at a state, nats, up to a constant."""
        return state.log_base if self.is_base else -0.5 * jnp.sum(whitened**2)

    def pull_back(self, state: KernelState, density: TemperedDensity, whitened: Position) -> Position:
        r"""Gradient of :math:`\Psi` in whitened coordinates, components that are not finite taken as zero."""
        if self.is_base and state.gradients is not None:
            state = eqx.tree_at(lambda state: state.gradients[0], state, jnp.zeros_like(state.gradients[0]))
        pulled = self.gaussian.pull_back(gradient(state, density))
        return pulled if self.is_base else pulled + whitened


def check_reference(reference: str) -> None:
    """Raise `ArgumentError` unless ``reference`` is one of `REFERENCES`."""
    if reference not in REFERENCES:
        raise ArgumentError("unknown reference", expected=" or ".join(map(repr, REFERENCES)), got=repr(reference))


def reference_of(which: str, name: str, density: TemperedDensity, cloud: tuning.Cloud) -> Reference:
    """The Gaussian that a kernel moves along.

    Args:
        which: ``"base"`` or ``"cloud"``.
        name: of the kernel, for the error.
        density: the target.
        cloud: the particle cloud's Gaussian.

    Raises:
        TargetError: ``which`` is ``"base"`` and the base is not known to be Gaussian.
    """
    if which == "cloud":
        return Reference(cloud, False)
    if density.base_mean is None or density.base_scale is None:
        raise TargetError(
            f"{name} moves along a Gaussian base, and this base is not known to be one",
            expected="a target whose base is Gaussian on the unconstrained space",
            got="base_mean=None, base_scale=None",
            hint=f'give {name} reference="cloud": it then moves along the Gaussian of the particle cloud',
        )
    return Reference(tuning.Cloud(density.base_mean, density.base_scale), True)
