r"""Look-aheads of a masked diffusion that see its reward through what the network already says of the masked tokens.

A *relaxed* reward takes a row of probabilities for every position instead of a token, ``Float["length vocab"] ->
Float[""]``, and is the reward itself on rows of zeros and ones. It needs no more evaluations of the network than the
process makes.
"""

from collections.abc import Callable
from typing import override

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.nouns import Time, Twist
from smcinfer.diffusion.discrete.process import MaskedState
from smcinfer.ground.arrays import Array, Float, Int, Scalar

Relaxed = Callable[[Float[Array, "length vocab"]], Scalar]


def expected_tokens(state: MaskedState) -> Float[Array, "length vocab"]:
    """Rows of probabilities: certain for known tokens, the network's conditionals for the others."""
    vocab_size = state.log_p.shape[-1]
    known = (state.tokens < vocab_size)[:, None]
    # one_hot of the mask is a row of zeros.
    return jnp.where(known, jax.nn.one_hot(state.tokens, vocab_size, dtype=state.log_p.dtype), jnp.exp(state.log_p))


def on_tokens(relaxed: Relaxed, vocab_size: int) -> Callable[[Int[Array, " length"]], Scalar]:
    """The reward of tokens that a relaxed reward is."""
    return lambda tokens: relaxed(jax.nn.one_hot(tokens, vocab_size))


class RelaxedTwist(Twist):
    r"""log psi = strength times the relaxed reward of the expected tokens, over the temperature.

    A lower bound of the log expected :math:`e^{r/\alpha}` where the relaxed reward is convex, the tokens independent
    and the strength one.

    Attributes:
        relaxed: the relaxed reward.
        temperature: alpha.
        strength: what it is multiplied by: how far to trust it.
    """

    relaxed: Relaxed
    temperature: float | int = 1.0
    strength: float | int = 1.0

    @override
    def __call__(self, t: Time, state: MaskedState) -> Scalar:
        del t
        return self.strength / self.temperature * self.relaxed(expected_tokens(state))


class GradientTilt(eqx.Module):
    r"""What each token is worth to first order: the gradient of the relaxed reward at the expected tokens.

    .. math:: \text{tilt}_{iv} = \frac{s}{\alpha} \frac{\partial r}{\partial p_{iv}}

    For a reward that is a sum over positions it is exact: with it :math:`q_i \propto p_i e^{r_i/\alpha}`. Source:
    Schiff et al. (2024), section 3.2.

    Attributes:
        relaxed: the relaxed reward.
        temperature: alpha.
        strength: s, what it is multiplied by: how far to trust it.
    """

    relaxed: Relaxed
    temperature: float | int = 1.0
    strength: float | int = 1.0

    def __call__(self, t: Time, state: MaskedState) -> Float[Array, "length vocab"]:
        """The tilt of the token logits, nats."""
        del t
        return self.strength / self.temperature * jax.grad(self.relaxed)(expected_tokens(state))
