"""Which digit an image shows: a small perceptron, for rewards and for judging them."""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.models.digits.data import DIM, NUM_CLASSES


class Classifier(eqx.Module):
    """``Float["64"] -> Float["10"]``, log probabilities of the classes.

    Args:
        key: for the initial weights.
        width: of the hidden layer.
    """

    layers: tuple[eqx.nn.Linear, eqx.nn.Linear]

    def __init__(self, key: KeyArray, width: int) -> None:
        keys = jax.random.split(key, 2)
        self.layers = (
            eqx.nn.Linear(DIM, width, dtype=jnp.float32, key=keys[0]),
            eqx.nn.Linear(width, NUM_CLASSES, dtype=jnp.float32, key=keys[1]),
        )

    def __call__(self, x: Float[Array, " dim"]) -> Float[Array, " classes"]:
        """Log probabilities of the ten classes of one image, nats."""
        hidden, out = self.layers
        return jax.nn.log_softmax(out(jax.nn.silu(hidden(x))))

    def log_probability(self, x: Float[Array, " dim"], label: Int[Array, ""] | int) -> Scalar:
        """Log probability that the image shows ``label``: a reward."""
        return self(x)[label]
