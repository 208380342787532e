r"""A masked diffusion over sequences few enough to list: its conditionals are those of a table, and every sum is exact.

.. math:: p_i(v \mid x) = \frac{\sum_{y \sim x,\, y_i = v} p(y)}{\sum_{y \sim x} p(y)}, \qquad
    Z = \sum_y p(y)^\beta\, e^{r(y) / \alpha}

with :math:`y \sim x` the sequences that agree with x where it is known.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from smcinfer.core.nouns import Time, Twist
from smcinfer.diffusion.discrete import MaskedModel, MaskedState, masked_model
from smcinfer.ground.arrays import Array, Float, Int, Scalar
from smcinfer.ground.errors import ArgumentError

MAX_SEQUENCES = 100_000


class MaskedTable(eqx.Module):
    """A law on V^L given by a table (made by `masked_table`).

    Attributes:
        sequences: Int["n length"], all of them.
        log_p: Float["n"], log probabilities, normalised.
        vocab_size: V; also the mask.
    """

    sequences: Int[Array, "n length"]
    log_p: Float[Array, " n"]
    vocab_size: int = eqx.field(static=True)

    def _worth(self, tokens: Int[Array, " length"], log_worth: Float[Array, " n"]) -> Float[Array, "length vocab"]:
        """Log of the summed worth of the sequences that agree with the known tokens, by position and token there."""
        agrees = jnp.all((tokens == self.vocab_size) | (tokens == self.sequences), axis=1)
        log_worth = jnp.where(agrees, log_worth, -jnp.inf)
        by_token = self.sequences[:, :, None] == jnp.arange(self.vocab_size)
        return jax.nn.logsumexp(jnp.where(by_token, log_worth[:, None, None], -jnp.inf), axis=0)

    def __call__(self, tokens: Int[Array, " length"]) -> Float[Array, "length vocab"]:
        """Exact token logits of every position given the known ones: the denoiser."""
        return self._worth(tokens, self.log_p)

    @property
    def model(self) -> MaskedModel:
        """The masked model with these conditionals."""
        return masked_model(self, self.sequences.shape[1], self.vocab_size)

    def log_z(self, log_factor: ArrayLike, power: float = 1.0) -> float:
        """Exact log of sum p^power exp(log_factor), float64 on the host.

        Args:
            log_factor: (n,), r / alpha of every sequence, nats.
            power: beta.
        """
        terms = power * np.asarray(self.log_p, np.float64) + np.asarray(log_factor, np.float64)
        return float(np.logaddexp.reduce(terms))

    def soft_value(self, log_factor: Float[Array, " n"]) -> "ExactValue":
        """The exact twist for potentials ``exp(log_factor)``, with the tilt that makes the proposal exact too."""
        return ExactValue(self, jnp.asarray(log_factor))


class ExactValue(Twist):
    r"""log psi(x) = log E[e^f | x], exactly.

    Attributes:
        table: the law.
        log_factor: Float["n"], f of every sequence, nats.
    """

    table: MaskedTable
    log_factor: Float[Array, " n"]

    def __call__(self, t: Time, state: MaskedState) -> Scalar:
        """log psi of one partly masked sequence, nats, by a sum over all sequences that complete it."""
        del t
        plain = jax.nn.logsumexp(self.table._worth(state.tokens, self.table.log_p)[0])
        return jax.nn.logsumexp(self.table._worth(state.tokens, self.table.log_p + self.log_factor)[0]) - plain

    def tilt(self, t: Time, state: MaskedState) -> Float[Array, "length vocab"]:
        """log E[e^f | x, x_i = v] of every position and token."""
        del t
        worth = self.table._worth(state.tokens, self.table.log_p + self.log_factor)
        plain = self.table._worth(state.tokens, self.table.log_p)
        # What cannot happen is worth nothing in particular.
        return jnp.where(plain > -jnp.inf, worth - jnp.where(plain > -jnp.inf, plain, 0.0), 0.0)


def masked_table(log_p: ArrayLike) -> MaskedTable:
    """A law from its table.

    Args:
        log_p: (V, ..., V), log probabilities with one axis a position, normalised here; at most 100,000 entries.
    """
    table = np.asarray(log_p, np.float64)
    if table.ndim < 1 or len(set(table.shape)) != 1 or table.shape[0] < 2 or table.size > MAX_SEQUENCES:
        raise ArgumentError(
            "the table is not one of sequences",
            expected=f"(V, ..., V) with V at least 2 and at most {MAX_SEQUENCES} entries",
            got=table.shape,
        )
    flat = table.reshape(-1)
    total = np.logaddexp.reduce(flat)
    if not np.isfinite(total):
        raise ArgumentError("the table has no finite mass", expected="log probabilities", got=total)
    sequences = np.array(list(itertools.product(range(table.shape[0]), repeat=table.ndim)), np.int32)
    return MaskedTable(jnp.asarray(sequences), jnp.asarray(flat - total, float), table.shape[0])


def example(vocab_size: int = 3, length: int = 4, coupling: float = 1.5) -> MaskedTable:
    r"""A made-up law on a ring in which neighbours prefer to be alike and every position leans to some token.

    .. math:: \log p(y) = c \sum_i [y_i = y_{i+1}] + \tfrac12 \sum_i \cos(1.3\, y_i + i) + \text{const}

    Args:
        vocab_size, length: V and L.
        coupling: c, nats.
    """
    values = np.indices((vocab_size,) * length).reshape(length, -1)
    alike = np.sum(values == np.roll(values, 1, axis=0), axis=0)
    lean = np.sum(np.cos(1.3 * values + np.arange(length)[:, None]), axis=0)
    return masked_table((coupling * alike + 0.5 * lean).reshape((vocab_size,) * length))
