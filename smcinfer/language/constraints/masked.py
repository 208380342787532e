r"""Generation under a constraint: only allowed tokens are drawn, and the weight gives back what that took.

.. math::
    \sigma(s) \propto p_0(s)\, 1\{s \in L\}\, \phi(s), \qquad
    q(v \mid s) = \frac{p(v \mid s)\, 1\{v \text{ allowed}\}}{C(s)}, \qquad w = C(s) = \sum_{v \text{ allowed}} p(v \mid s)

Masking alone samples from the product of the q, which prefers texts that the constraint forced on the model. The weight, known
before the draw, makes it the conditional law again. A learned twist :math:`\psi` that sees dead ends multiplies the mask.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from smcinfer.core.nouns import Proposal, Twist
from smcinfer.ground.arrays import Array, Bool, Float, PyTree, Scalar, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.constraints.constraint import Constraint, only
from smcinfer.language.generation import Generation, TokenPotential, generation
from smcinfer.language.networks.lm import as_model
from smcinfer.language.process import LanguageProcess, TokenState

CONSTRAINT = "constraint"
"""The name that a generation's constraint has among its readers."""


class Allowed(Twist):
    """The twist of a constraint: zero on prefixes that can still be completed, minus infinity on tokens that cannot follow.

    Attributes:
        constraint: the generation's.
        inner: another twist on top, which has ``next`` too; ``None`` for none. It is what learning changes.
        cut_off: as in `Completed`.
    """

    constraint: Constraint
    inner: Twist | None = None
    cut_off: bool = eqx.field(static=True, default=False)

    def mask(self, state: TokenState) -> Bool[Array, " vocab"]:
        """Tokens that may come next; EOS alone once it was drawn, and where only a sequence that ends now will count."""
        after = only(self.constraint.eos_id, self.constraint.vocab_size, jnp.asarray(True))
        allowed = self.constraint.allowed(state.readings[CONSTRAINT])
        if not self.cut_off:
            last = state.length + 1 >= state.tokens.shape[0]
            allowed = jnp.where(last, allowed & after, allowed)
        return jnp.where(state.finished, after, allowed)

    def __call__(self, t: Time, state: PyTree[Any]) -> Scalar:
        """The inner twist's: tokens that are not allowed are never drawn."""
        return jnp.zeros(()) if self.inner is None else self.inner(t, state)

    def next(self, t: Time, state: PyTree[Any]) -> Float[Array, " vocab"]:
        """log of the mask, the inner twist on top."""
        ahead = jnp.zeros((self.constraint.vocab_size,)) if self.inner is None else self.inner.next(t, state)
        return jnp.where(self.mask(state), jnp.where(state.finished, 0.0, ahead), -jnp.inf)


class Completed(eqx.Module):
    """The potential of a constraint: minus infinity where a sequence ends and does not belong to the set.

    Attributes:
        constraint: the generation's.
        inner: another potential on top, or ``None``.
        cut_off: whether a sequence that the limit cuts off counts as long as it can still be completed.
    """

    constraint: Constraint
    inner: TokenPotential | None
    cut_off: bool = eqx.field(static=True)

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """log phi_t of one sequence, nats."""
        value = jnp.zeros(()) if self.inner is None else self.inner(t, state)
        carried = state.readings[CONSTRAINT]
        complete = self.constraint.complete(carried)
        ends = state.finished if self.cut_off else state.just_ended(t)
        # A prefix that nothing can follow was forbidden, or is a dead end.
        alive = jnp.any(self.constraint.allowed(carried))
        fine = jnp.where(ends, state.finished & complete, alive)
        return jnp.where(fine, value, -jnp.inf)


def constrained(
    lm: Any,
    prompt: Any,
    constraint: Constraint,
    potential: TokenPotential | None = None,
    *,
    max_tokens: int,
    twist: Twist | None = None,
    proposal: Proposal | Callable[[LanguageProcess], Proposal] | None = None,
    cut_off: bool = False,
    **options: Any,
) -> Generation:
    """A language model's continuations of a prompt that keep to a constraint, weighed by a potential.

    Args:
        lm, prompt, potential, max_tokens: as in `language.generation`.
        constraint: made by `regex`, `json_schema`, `lark`, `allowed_texts`, `automaton`; ``a & b`` for both.
        twist: a look-ahead on top of the mask, one that has ``next``.
        proposal: how tokens are drawn instead of through the mask; what it draws outside the set weighs zero.
        cut_off: whether sequences that ``max_tokens`` cuts off count as long as they could still be completed; else only
            complete ones that have ended have weight, and the last token is EOS. Where none is complete by then, log Z is -inf
            and the status says that ``max_tokens`` is short; a constraint that nothing satisfies has its own.
        **options: others of `language.generation`.

    Returns:
        A `Generation`. All its finished sequences of positive weight belong to the set.

    Raises:
        ArgumentError: for a constraint over another vocabulary, or what `generation` refuses.

    Properly weighted for: ``p0(s) 1{s in L} phi(s)``; log Z is the log probability that the model keeps to the constraint by
    itself within ``max_tokens``, times the mean potential.
    """
    model = as_model(lm)
    if (constraint.vocab_size, constraint.eos_id) != (model.vocab_size, options.get("eos_id", constraint.eos_id)):
        raise ArgumentError(
            "the constraint is over another vocabulary than the model's",
            expected=f"{model.vocab_size} tokens, EOS {options.get('eos_id', constraint.eos_id)}",
            got=f"{constraint.vocab_size} tokens, EOS {constraint.eos_id}",
        )
    if constraint.eos_id != getattr(lm, "eos_id", None):
        # A loaded model's own end is left to it: several tokens may count as that.
        options.setdefault("eos_id", constraint.eos_id)
    readers = {**options.pop("readers", {}), CONSTRAINT: constraint}
    return generation(
        lm,
        prompt,
        Completed(constraint, potential, cut_off),
        max_tokens=max_tokens,
        twist=Allowed(constraint, twist, cut_off) if proposal is None else twist,
        proposal=proposal,
        readers=readers,
        **options,
    )
