r"""How values along the path become intermediate potentials, and with them the twist.

With :math:`v_s` the value at step s and :math:`\lambda_s` its strength, the increment of step t is

.. math::
    \text{difference: } \lambda_t v_t - \lambda_{t-1} v_{t-1}, \qquad
    \text{max: } \lambda_t \max_{s \le t} v_s, \qquad
    \text{sum: } \sum_{s \le t} \lambda_s v_s ,

and the twist is their sum so far. The engine takes the twist back at the last step, so that every one of them ends
with the weight :math:`\phi(x_0) / \prod_{s<T} G_s`: the terminal correction, without which max and sum would sample
another law.

Source: Singhal et al. (2025), section 3.
"""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground.arrays import PyTree, Scalar
from smcinfer.ground.errors import ArgumentError


class PathPotential(eqx.Module):
    """What a path has earned so far, kept in the particle's state."""

    @abc.abstractmethod
    def start(self, value: Scalar, strength: Scalar | float) -> PyTree[Any]:
        """The memory after step 0."""

    @abc.abstractmethod
    def extend(self, memory: PyTree[Any], value: Scalar, strength: Scalar | float) -> PyTree[Any]:
        """The memory after one more value."""

    @abc.abstractmethod
    def log_twist(self, memory: PyTree[Any]) -> Scalar:
        """log psi, nats."""


class Difference(PathPotential):
    """The twist is the value of now: the default, and the only one that asks no more of a path than its end."""

    def start(self, value: Scalar, strength: Scalar | float) -> Scalar:
        """The value."""
        return strength * value

    def extend(self, memory: Scalar, value: Scalar, strength: Scalar | float) -> Scalar:
        """The new value."""
        del memory
        return strength * value

    def log_twist(self, memory: Scalar) -> Scalar:
        """The value."""
        return memory


class Maximum(PathPotential):
    """Paths are judged by their best moment."""

    def start(self, value: Scalar, strength: Scalar | float) -> tuple[Scalar, Scalar]:
        """The best value and the sum of the increments."""
        return value, strength * value

    def extend(self, memory: tuple[Scalar, Scalar], value: Scalar, strength: Scalar | float) -> tuple[Scalar, Scalar]:
        """The best so far, added once more."""
        best = jnp.maximum(memory[0], value)
        return best, memory[1] + strength * best

    def log_twist(self, memory: tuple[Scalar, Scalar]) -> Scalar:
        """The sum of the increments."""
        return memory[1]


class Sum(PathPotential):
    """Paths are judged by all their moments."""

    def start(self, value: Scalar, strength: Scalar | float) -> tuple[Scalar, Scalar]:
        """The sum of values and the sum of the increments."""
        return strength * value, strength * value

    def extend(self, memory: tuple[Scalar, Scalar], value: Scalar, strength: Scalar | float) -> tuple[Scalar, Scalar]:
        """The sum so far, added once more."""
        total = memory[0] + strength * value
        return total, memory[1] + total

    def log_twist(self, memory: tuple[Scalar, Scalar]) -> Scalar:
        """The sum of the increments."""
        return memory[1]


POTENTIALS: dict[str, PathPotential] = {"difference": Difference(), "max": Maximum(), "sum": Sum()}
"""Path potentials by name."""


def by_name(potential: str | PathPotential) -> PathPotential:
    """The path potential of a name; one is itself."""
    if isinstance(potential, PathPotential):
        return potential
    if potential not in POTENTIALS:
        raise ArgumentError("unknown path potential", expected=" | ".join(POTENTIALS), got=repr(potential))
    return POTENTIALS[potential]
