"""The masked denoiser's network: a residual perceptron that sees which pixels are known, and what they are."""

import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Int, KeyArray
from smcinfer.models.digits.data import DIM
from smcinfer.models.digits.network import Perceptron

PAPER, INK, MASK = 0, 1, 2
VOCAB = 2


class MaskedNetwork(Perceptron):
    """``Int["64"] -> Float["64 2"]``, logits of paper and ink at every pixel given the known ones.

    Args:
        key: for the initial weights.
        width: of the hidden layers.
        num_blocks: residual layers.
    """

    def __init__(self, key: KeyArray, width: int, num_blocks: int) -> None:
        super().__init__(key, 2 * DIM, width, num_blocks)

    def __call__(self, tokens: Int[Array, " dim"]) -> Float[Array, "dim vocab"]:
        """Logits of paper and ink at every pixel of one image, given the pixels that are known."""
        ink = self.through(jnp.concatenate([tokens == INK, tokens == PAPER]).astype(jnp.result_type(float)))
        return jnp.stack([jnp.zeros_like(ink), ink], axis=-1)
