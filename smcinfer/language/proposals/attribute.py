r"""Attribute tokens as a proposal: tokens that stand for what is wanted are drawn more often, and the weight takes it back.

With A the attribute tokens, :math:`p_A` their mass and :math:`\Gamma \in (0, 1)`,

.. math::
    q_A = p_A^{\tan(\pi \Gamma / 2)}, \qquad
    q(v) = p(v)\, \frac{q_A}{p_A} \; (v \in A), \qquad q(v) = p(v)\, \frac{1 - q_A}{1 - p_A} \; (v \notin A)

Below one half they come more often, at one half nothing changes. Used alone, without weights, this is a biased way to steer.

Source: Wu & Sun (2022), Gamma sampling.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.proposals.filters import Filter


def attribute_tokens(tokens: Sequence[int], gamma: float) -> Filter:
    """A filter of logits that draws some tokens more often, for `filtered`.

    Args:
        tokens: the attribute's token ids, at least one.
        gamma: in (0, 1): below one half the tokens come more often, above it less.

    Raises:
        ArgumentError: for no token, or a gamma out of range.

    Properly weighted for: the model itself, as a proposal: every token keeps a positive probability.
    """
    ids = np.asarray(tokens)
    if ids.ndim != 1 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0:
        raise ArgumentError("tokens are the ids of an attribute", expected="at least one token id", got=tokens)
    validate.number("gamma", gamma, above=0.0, below=1.0)
    exponent = float(np.tan(np.pi * gamma / 2))

    def scale(logits: Float[Array, " vocab"]) -> Float[Array, " vocab"]:
        log_p = jax.nn.log_softmax(logits)
        ours = jnp.zeros(log_p.shape, bool).at[ids].set(True)
        log_a = jax.nn.logsumexp(jnp.where(ours, log_p, -jnp.inf))
        log_rest = jax.nn.logsumexp(jnp.where(ours, -jnp.inf, log_p))
        raised = exponent * log_a
        # Where either side has no mass there is nothing to move.
        both = (log_a > -jnp.inf) & (log_rest > -jnp.inf)
        up = jnp.where(both, raised - log_a, 0.0)
        down = jnp.where(both, jnp.log(-jnp.expm1(jnp.minimum(raised, -1e-7))) - log_rest, 0.0)
        return log_p + jnp.where(ours, up, down)

    return scale
