r"""A learned twist under a constraint: what the mask forbids it forbids, and on what is left it looks ahead.

.. math:: \chi_t(s, v) = 1\{v \text{ allowed after } s\}\; \chi^{\text{inner}}_t(s, v)

The inner twist learns which allowed tokens lead to dead ends, so that particles do not walk into them.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from numpyro.distributions import Distribution

from smcinfer.ground.arrays import Array, Bool, Float, PyTree, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.constraints.masked import Allowed
from smcinfer.language.generation import Generation
from smcinfer.twists.learned import Seen
from smcinfer.twists.symbols import SymbolTwist

FORBIDDEN = -40.0
"""log of what a forbidden token is worth: next to nothing, and finite, so that no gradient is NaN."""


class _Masked(eqx.Module):
    """What the inner twist sees, and the mask."""

    inner: Seen
    mask: Bool[Array, " vocab"]


class UnderConstraint(SymbolTwist):
    """A learned twist on top of a constraint's mask (made by `under_constraint`).

    Attributes:
        inner: the twist that is trained.
        allowed: the mask of the generation.
    """

    inner: SymbolTwist
    allowed: Allowed

    def look(self, law: Distribution, state: PyTree[Any]) -> _Masked:
        """What the inner twist sees, and which tokens may follow."""
        return _Masked(self.inner.look(law, state), self.allowed.mask(state))

    def log_base(self, seen: Any) -> Float[Array, " vocab"]:
        """log p0 of every symbol as the inner twist kept it, nats."""
        return self.inner.log_base(seen.inner)

    def log_values(self, t: Time, seen: Any) -> Float[Array, " vocab"]:
        """The inner twist's on allowed tokens, `FORBIDDEN` on the others."""
        return jnp.where(seen.mask, self.inner.log_values(t, seen.inner), FORBIDDEN)


def under_constraint(target: Generation, twist: SymbolTwist) -> UnderConstraint:
    """A twist that keeps to a target's constraint, for `smcinfer.twists.learn` to train and `attach` to put on the target.

    Args:
        target: made by `constrained`.
        twist: a twist over the vocabulary, ``twists.linear_head(...)`` say.

    Raises:
        ArgumentError: for a target without a constraint.
    """
    mask = target.twist
    if not isinstance(mask, Allowed):
        raise ArgumentError(
            "the target has no mask to look ahead of", expected="a target made by constrained", got=type(mask).__name__
        )
    return UnderConstraint(twist, mask)
