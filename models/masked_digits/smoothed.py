r"""The exact twin of the learned masked denoiser: images with pixels flipped at random, whose every conditional is known.

.. math::
    p(x) = \frac1n \sum_j \prod_i f^{[x_i \ne y_{ji}]} (1 - f)^{[x_i = y_{ji}]}, \qquad
    p_i(1 \mid x_K) = \sum_j W_j(x_K)\, \bigl[ y_{ji} (1 - f) + (1 - y_{ji}) f \bigr],

with :math:`W_j` proportional to what image j gives the known pixels K. Under a reward that is a sum over pixels the
normaliser and the mass of every class are sums over 1797 images, though there are :math:`2^{64}` sequences.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from smcinfer.diffusion.discrete import MaskedModel, masked_model
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.models.digits.data import DIM, images
from smcinfer.models.digits.kde import Tilted, tilted
from smcinfer.models.masked_digits.images import binary
from smcinfer.models.masked_digits.network import INK, PAPER, VOCAB


class Flipped(eqx.Module):
    """Exact logits of every pixel given the known ones.

    Attributes:
        ink: Float["n 64"], probability of ink at every pixel of every image, flips included.
    """

    ink: Float[Array, "n dim"]

    def __call__(self, tokens: Int[Array, " dim"]) -> Float[Array, "dim vocab"]:
        """Log probabilities of paper and ink at every pixel of one image, given the pixels that are known."""
        # A known pixel gives image j its log odds of ink, or minus them, up to what all images share.
        dtype = self.ink.dtype
        paper, ink = jnp.log1p(-self.ink), jnp.log(self.ink)
        log_w = ink @ (tokens == INK).astype(dtype) + paper @ (tokens == PAPER).astype(dtype)
        share = jax.nn.softmax(log_w) @ self.ink
        return jnp.stack([jnp.log1p(-share), jnp.log(share)], axis=-1)


@dataclass(frozen=True)
class Smoothed:
    """The law, its masked model, and its exact answers (made by `smoothed_images`).

    Attributes:
        model: for `smcinfer.diffusion.discrete`.
        ink: (n, 64), probability of ink at every pixel of every image.
        labels: (n,).
    """

    model: MaskedModel
    ink: NDArray[np.float64]
    labels: NDArray[np.int64]

    def linear(self, direction: ArrayLike) -> Tilted:
        r"""Normaliser and masses under the reward :math:`\sum_i w_i x_i`.

        Args:
            direction: (64,), w, nats for ink at a pixel.
        """
        gain = np.exp(np.asarray(direction, np.float64))
        return tilted(np.sum(np.log1p(self.ink * (gain - 1.0)), axis=1), self.labels)

    def classes(self, tokens: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
        """Mass of every digit among weighted samples, each shared among all images as they explain it.

        Args:
            tokens: (m, 64), samples.
            weights: (m,), that sum to one.
        """
        x = np.asarray(tokens, np.float64)
        log_w = x @ np.log(self.ink).T + (1.0 - x) @ np.log1p(-self.ink).T
        shares = np.exp(log_w - np.logaddexp.reduce(log_w, axis=1, keepdims=True))
        return np.bincount(self.labels, np.asarray(weights, np.float64) @ shares, 10)


def smoothed_images(flip: float = 0.05) -> Smoothed:
    """The law of a random image with pixels flipped.

    Args:
        flip: f, probability that a pixel is flipped, strictly between 0 and one half.
    """
    validate.number("flip", flip, above=0.0, below=0.5)
    found = images()
    black = binary(found)
    ink = np.where(black == INK, 1.0 - flip, flip)
    return Smoothed(masked_model(Flipped(jnp.asarray(ink, float)), DIM, VOCAB), ink, found.labels)
