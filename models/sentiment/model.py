r"""The classifier: logistic regression on the words and pairs of words of a text.

.. math:: \mathrm{logit}\; p(\text{positive} \mid s) = b + \frac{1}{\sqrt{n}} \sum_{f \in s} w_f

with n the number of features, so that a long text is not surer than its sentences agree to be.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Float, Int, Scalar, UInt
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.tokenizer import as_tokenizer
from smcinfer.language.potentials import Factor, classifier
from smcinfer.language.spelling import Spelling, spelling
from smcinfer.models.sentiment.features import NUM_ROWS, rows

LABELS = ("negative", "positive")


class Sentiment(eqx.Module):
    """The classifier (made by `smcinfer.models.sentiment.load`).

    Attributes:
        weights: Float["rows"], one a row of the table of hashed words and pairs.
        bias: Float[""].
    """

    weights: Float[Array, " rows"]
    bias: Scalar

    def logit(self, found: Int[Array, "*features"], there: Bool[Array, "*features"]) -> Scalar:
        """log odds of positive, given the features' rows."""
        count = jnp.maximum(jnp.sum(there), 1).astype(self.weights.dtype)
        return self.bias + jnp.sum(jnp.where(there, self.weights[found], 0.0)) / jnp.sqrt(count)

    def of_bytes(self, text: UInt[Array, " bytes"], size: Int[Array, ""]) -> Float[Array, "2"]:
        """log probabilities of negative and positive of a text given as bytes, nats."""
        logit = self.logit(*rows(text, size))
        return jnp.stack([jax.nn.log_sigmoid(-logit), jax.nn.log_sigmoid(logit)])

    def __call__(self, text: str) -> float:
        """log probability that a text is positive, nats: what `potentials.on_text` takes."""
        return float(self.log_probabilities([text])[0, 1])

    def log_probabilities(self, texts: list[str]) -> Float[np.ndarray, "texts 2"]:
        """log probabilities of negative and positive of some texts, nats."""
        table, sizes = as_bytes(texts)
        return np.asarray(_of_batch(self, jnp.asarray(table), jnp.asarray(sizes)))

    def potential(self, tokenizer: Any, label: str = "positive") -> Factor:
        """The probability of a label as a potential of sequences, compiled with the rest.

        Args:
            tokenizer: a `Tokenizer`, or the loaded model that has one; of the model that generates.
            label: "positive" or "negative".
        """
        if label not in LABELS:
            raise ArgumentError("unknown label", expected=" | ".join(LABELS), got=label)
        return classifier(_OnTokens(self, spelling(as_tokenizer(tokenizer))), LABELS.index(label))


class _OnTokens(eqx.Module):
    """The classifier reading tokens."""

    model: Sentiment
    spelling: Spelling

    def __call__(self, tokens: Int[Array, " max_tokens"], length: Int[Array, ""]) -> Float[Array, "2"]:
        """log probabilities of both labels."""
        return self.model.of_bytes(*self.spelling.read(tokens, length))


@eqx.filter_jit
def _of_batch(model: Sentiment, table: Array, sizes: Array) -> Array:
    return jax.vmap(model.of_bytes)(table, sizes)


def as_bytes(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Texts as one table of bytes, its width a power of two so that few programs are compiled, and their sizes."""
    encoded = [text.encode() for text in texts]
    width = 1 << (max([32, *map(len, encoded)]) - 1).bit_length()
    table = np.zeros((len(texts), width), np.uint8)
    for row, word in zip(table, encoded, strict=True):
        row[: len(word)] = np.frombuffer(word, np.uint8)
    return table, np.array([len(word) for word in encoded], np.int32)


def blank() -> Sentiment:
    """The classifier that knows nothing."""
    return Sentiment(jnp.zeros(NUM_ROWS, jnp.float32), jnp.zeros((), jnp.float32))
