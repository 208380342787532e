"""Laws of the next tokens of a masked diffusion: which positions are unmasked, and to what.

A sequence of L tokens takes values 0 .. V-1 where it is known and V, the mask, where it is not. What is known stays.
Both laws draw with ``mode="high"``: Gumbel noise made of one float32 uniform ends at 16 nats, so that rare tokens would
never be drawn, and the sampler would run at a lower temperature than its weights say (Zheng et al. 2024, section 4).
"""

from typing import override

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from smcinfer.core.draws import together
from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray

Tokens = Int[Array, "*batch length"]
TokenLogits = Float[Array, "*batch length vocab"]


def masked(tokens: Tokens, vocab_size: int) -> Bool[Array, "*batch length"]:
    """Which positions are not known yet."""
    return tokens == vocab_size


def log_probabilities_at(logits: TokenLogits, tokens: Tokens) -> Float[Array, "*batch length"]:
    """Normalised log probability of every position's token; of token 0 where it is the mask."""
    known = jnp.where(masked(tokens, logits.shape[-1]), 0, tokens)
    return jnp.take_along_axis(jax.nn.log_softmax(logits), known[..., None], axis=-1)[..., 0]


class OneByOne(Distribution):
    r"""One masked position is chosen, then its token.

    .. math:: p(x' \mid x) = \pi(i \mid x)\, p_i(x'_i \mid x)

    with x' the same as x but at the masked position i. Where nothing is masked, x stays.

    Args:
        tokens: Int["*batch length"], x.
        position_logits: Float["*batch length"], of the positions; those of known ones count for nothing.
        token_logits: Float["*batch length vocab"], of the tokens of every position.
    """

    pytree_data_fields = ("tokens", "position_logits", "token_logits")

    def __init__(
        self, tokens: Tokens, position_logits: Float[Array, "*batch length"], token_logits: TokenLogits
    ) -> None:
        self.tokens, self.position_logits, self.token_logits = tokens, position_logits, token_logits
        super().__init__(tokens.shape[:-1], tokens.shape[-1:])

    def _log_positions(self) -> tuple[Array, Array]:
        """Log probabilities of the positions, and whether any is masked."""
        open_ = masked(self.tokens, self.token_logits.shape[-1])
        anything = jnp.any(open_, axis=-1, keepdims=True)
        logits = jnp.where(open_, self.position_logits, -jnp.inf)
        return jax.nn.log_softmax(jnp.where(anything, logits, 0.0)), anything[..., 0]

    @override
    def sample(self, key: KeyArray | None, sample_shape: tuple[int, ...] = ()) -> Tokens:
        position_key, token_key = jax.random.split(key, 2)
        log_positions, anything = self._log_positions()
        shape = (*sample_shape, *anything.shape)
        at = jax.random.categorical(position_key, log_positions, shape=shape, mode="high")
        logits = jnp.broadcast_to(self.token_logits, (*sample_shape, *self.token_logits.shape))
        chosen = jnp.take_along_axis(logits, at[..., None, None], axis=-2)[..., 0, :]
        token = jax.random.categorical(token_key, chosen, mode="high").astype(self.tokens.dtype)
        here = jnp.arange(self.tokens.shape[-1]) == at[..., None]
        return jnp.where(here & anything[..., None], token[..., None], self.tokens)

    @override
    def log_prob(self, value: Tokens) -> Float[Array, "*batch"]:
        log_positions, anything = self._log_positions()
        changed = value != self.tokens
        open_, still = (masked(tokens, self.token_logits.shape[-1]) for tokens in (self.tokens, value))
        terms = jnp.where(changed, log_positions + log_probabilities_at(self.token_logits, value), 0.0)
        possible = jnp.where(anything, jnp.sum(changed, axis=-1) == 1, True)
        possible &= jnp.all(~changed | (open_ & ~still), axis=-1)
        return jnp.where(possible, jnp.sum(terms, axis=-1), -jnp.inf)


class AllAtOnce(Distribution):
    r"""Every masked position decides by itself whether it is unmasked, and to what.

    .. math:: p(x' \mid x) = \prod_{i \text{ masked}} \begin{cases} \rho_i\, p_i(x'_i \mid x) & x'_i \text{ known} \\
        1 - \rho_i & x'_i \text{ masked} \end{cases}

    Args:
        tokens: Int["*batch length"], x.
        log_odds: Float["*batch length"], of unmasking: the logit of rho; infinite where it is certain.
        token_logits: Float["*batch length vocab"].
    """

    pytree_data_fields = ("tokens", "log_odds", "token_logits")

    def __init__(self, tokens: Tokens, log_odds: Float[Array, "*batch length"], token_logits: TokenLogits) -> None:
        self.tokens, self.log_odds, self.token_logits = tokens, log_odds, token_logits
        super().__init__(tokens.shape[:-1], tokens.shape[-1:])

    @override
    def sample(self, key: KeyArray | None, sample_shape: tuple[int, ...] = ()) -> Tokens:
        unmask_key, token_key = jax.random.split(key, 2)
        shape = (*sample_shape, *self.tokens.shape)
        opened = jax.random.bernoulli(unmask_key, jax.nn.sigmoid(self.log_odds), shape, mode="high")
        drawn = jax.random.categorical(token_key, self.token_logits, shape=shape, mode="high")
        opened &= masked(self.tokens, self.token_logits.shape[-1])
        return jnp.where(opened, drawn.astype(self.tokens.dtype), self.tokens)

    @override
    def log_prob(self, value: Tokens) -> Float[Array, "*batch"]:
        open_, still = (masked(tokens, self.token_logits.shape[-1]) for tokens in (self.tokens, value))
        log_tokens = jax.nn.log_sigmoid(self.log_odds) + log_probabilities_at(self.token_logits, value)
        terms = jnp.where(still, jax.nn.log_sigmoid(-self.log_odds), log_tokens)
        possible = jnp.all(open_ | (value == self.tokens), axis=-1)
        return jnp.where(possible, jnp.sum(jnp.where(open_, terms, 0.0), axis=-1), -jnp.inf)


@together.register(OneByOne)
@together.register(AllAtOnce)
def _one_key_for_all(law: Distribution) -> bool:
    """Both draw for every row of their arrays."""
    del law
    return True
