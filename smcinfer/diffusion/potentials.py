r"""How values along the path become the twist, and with its increments the intermediate potentials.

With :math:`v_s` the value at step s and :math:`\lambda_s` its strength, the log twist after step t is

.. math::
    \text{difference: } \lambda_t v_t, \qquad
    \text{max: } \frac{1}{t + 1} \sum_{s \le t} \lambda_s \max_{r \le s} v_r, \qquad
    \text{sum: } \frac{2}{(t + 1)(t + 2)} \sum_{s \le t} \sum_{r \le s} \lambda_r v_r ,

where steps at which the look-ahead is not asked do not count. The engine takes the twist back at the last step, so that
every one of them ends with the weight :math:`\phi(x_0) / \prod_{s<T} G_s`: the terminal correction, without which max and sum
would sample another law.

All three stand on the scale of one value. Published, max and sum are not means: what a path has earned is multiplied on at
every step, so that the twist grows with the number of steps (sum: with its square), chooses paths by hundreds of nats, and
the terminal correction takes all that back in a single step, from the one particle that is left.

Source: Singhal et al. (2025), section 3, for the potentials without the means.
"""

import abc
from typing import Any, override

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground.arrays import PyTree, Scalar
from smcinfer.ground.errors import ArgumentError


class PathPotential(eqx.Module):
    """What a path has earned so far, kept in the particle's state."""

    @abc.abstractmethod
    def start(self, value: Scalar, strength: Scalar | float) -> PyTree[Any]:
        """The memory after step 0.

        Args:
            value: Float[""], what the look-ahead makes of the point, nats.
            strength: Float[""], what it is multiplied by.
        """

    @abc.abstractmethod
    def extend(self, memory: PyTree[Any], value: Scalar, strength: Scalar | float) -> PyTree[Any]:
        """The memory after one more value.

        Args:
            memory: as `start` or this made it.
            value: Float[""], what the look-ahead makes of the new point, nats.
            strength: Float[""], what it is multiplied by.
        """

    @abc.abstractmethod
    def log_twist(self, memory: PyTree[Any]) -> Scalar:
        """log psi of a path with this memory, nats."""


class Difference(PathPotential):
    """The twist is the value of now: the default, and the only one that asks no more of a path than its end."""

    @override
    def start(self, value: Scalar, strength: Scalar | float) -> Scalar:
        return strength * value

    @override
    def extend(self, memory: Scalar, value: Scalar, strength: Scalar | float) -> Scalar:
        del memory
        return strength * value

    @override
    def log_twist(self, memory: Scalar) -> Scalar:
        return memory


class Account(eqx.Module):
    """What `Maximum` and `Sum` remember of a path.

    Attributes:
        now: Float[""], the best value so far, or the sum of values and strengths, nats.
        total: Float[""], what that was at every step, summed, nats.
        weight: Float[""], what the total is divided by.
        count: Float[""], values so far.
    """

    now: Scalar
    total: Scalar
    weight: Scalar
    count: Scalar


class Maximum(PathPotential):
    """Paths are judged by their best moment, as it stood at every step in the mean."""

    @override
    def start(self, value: Scalar, strength: Scalar | float) -> Account:
        one = jnp.ones_like(value)
        return Account(value, strength * value, one, one)

    @override
    def extend(self, memory: Account, value: Scalar, strength: Scalar | float) -> Account:
        best, count = jnp.maximum(memory.now, value), memory.count + 1.0
        return Account(best, memory.total + strength * best, count, count)

    @override
    def log_twist(self, memory: Account) -> Scalar:
        return memory.total / memory.weight


class Sum(PathPotential):
    """Paths are judged by all their moments, the early ones most."""

    @override
    def start(self, value: Scalar, strength: Scalar | float) -> Account:
        one = jnp.ones_like(value)
        return Account(strength * value, strength * value, one, one)

    @override
    def extend(self, memory: Account, value: Scalar, strength: Scalar | float) -> Account:
        now, count = memory.now + strength * value, memory.count + 1.0
        return Account(now, memory.total + now, memory.weight + count, count)

    @override
    def log_twist(self, memory: Account) -> Scalar:
        return memory.total / memory.weight


POTENTIALS: dict[str, PathPotential] = {"difference": Difference(), "max": Maximum(), "sum": Sum()}
"""Path potentials by name."""


def by_name(potential: str | PathPotential) -> PathPotential:
    """The path potential of a name; one is itself."""
    if isinstance(potential, PathPotential):
        return potential
    if not isinstance(potential, str) or potential not in POTENTIALS:
        raise ArgumentError("unknown path potential", expected=" | ".join(POTENTIALS), got=repr(potential))
    return POTENTIALS[potential]
