r"""Drawing a symbol from logits over a large vocabulary, exactly and with little noise.

The Gumbel trick wants one random number for each of V symbols. Here the symbols are split into about :math:`\sqrt V` classes,

.. math:: P(c) \propto \sum_{v \in c} e^{\ell_v}, \qquad P(v \mid c) \propto e^{\ell_v},

and the trick draws a class, then a symbol in it: the same law with :math:`2 \sqrt V` random numbers. Classes are residues,
so that the sums run over contiguous rows.
"""

import jax
import jax.numpy as jnp
from numpyro.distributions import CategoricalLogits

from smcinfer.ground.arrays import Array, Float, Int, KeyArray

SMALL = 64
"""Vocabularies up to this size are drawn from in one go."""


def draw_symbols(key: KeyArray, logits: Float[Array, "*batch vocab"]) -> Int[Array, "*batch"]:
    r"""One symbol a row, :math:`P(v) \propto e^{\ell_v}`.

    Args:
        key: one key for all rows.
        logits: Float["*batch vocab"], nats, unnormalised; minus infinity is never drawn where anything else is finite.
    """
    vocab = logits.shape[-1]
    if vocab <= SMALL:
        return jax.random.categorical(key, logits).astype(jnp.int32)
    columns = _columns(vocab)
    rows = -(-vocab // columns)
    if rows * columns > vocab:
        padding = [(0, 0)] * (logits.ndim - 1) + [(0, rows * columns - vocab)]
        logits = jnp.pad(logits, padding, constant_values=-jnp.inf)
    table = logits.reshape(*logits.shape[:-1], rows, columns)
    # One call for both draws: for few rows the generator's own overhead is what a draw costs.
    noise = jax.random.gumbel(key, (*logits.shape[:-1], columns + rows), logits.dtype)
    chosen = jnp.argmax(jax.nn.logsumexp(table, axis=-2) + noise[..., :columns], axis=-1)
    members = jnp.take_along_axis(table, chosen[..., None, None], axis=-1)[..., 0]
    return (jnp.argmax(members + noise[..., columns:], axis=-1) * columns + chosen).astype(jnp.int32)


def _columns(vocab: int) -> int:
    """Number of classes: a divisor of the vocabulary's size near its root where there is one, else the root itself."""
    root = round(vocab**0.5)
    divisors = [size for size in range(root // 2, 2 * root + 1) if vocab % size == 0]
    return min(divisors, key=lambda size: abs(size - root), default=root)


class TokenLaw(CategoricalLogits):
    """The law of the next token: a categorical distribution that is drawn from by `draw_symbols`."""

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of the next token, Int["*sample_shape *batch"]."""
        assert key is not None
        return draw_symbols(key, jnp.broadcast_to(self.logits, (*sample_shape, *jnp.shape(self.logits))))
