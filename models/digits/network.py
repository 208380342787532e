"""The denoiser's network: a residual perceptron that is told where on the way between image and noise it stands."""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.models.digits.data import DIM

NUM_HARMONICS = 8


class Block(eqx.Module):
    """A residual layer: what it is given, and a bent linear map of it normalised."""

    norm: eqx.nn.LayerNorm
    into: eqx.nn.Linear
    out: eqx.nn.Linear

    def __init__(self, key: KeyArray, width: int) -> None:
        keys = jax.random.split(key, 2)
        self.norm = eqx.nn.LayerNorm(width, dtype=jnp.float32)
        self.into = eqx.nn.Linear(width, width, dtype=jnp.float32, key=keys[0])
        self.out = eqx.nn.Linear(width, width, dtype=jnp.float32, key=keys[1])

    def __call__(self, hidden: Float[Array, " width"]) -> Float[Array, " width"]:
        return hidden + self.out(jax.nn.silu(self.into(self.norm(hidden))))


class Perceptron(eqx.Module):
    """A residual perceptron with as many outputs as an image has pixels.

    Args:
        key: for the initial weights.
        num_inputs: length of what it is given.
        width: of the hidden layers.
        num_blocks: residual layers.
    """

    entry: eqx.nn.Linear
    blocks: tuple[Block, ...]
    exit: eqx.nn.Linear

    def __init__(self, key: KeyArray, num_inputs: int, width: int, num_blocks: int) -> None:
        keys = jax.random.split(key, num_blocks + 2)
        self.entry = eqx.nn.Linear(num_inputs, width, dtype=jnp.float32, key=keys[0])
        self.blocks = tuple(Block(key, width) for key in keys[2:])
        self.exit = eqx.nn.Linear(width, DIM, dtype=jnp.float32, key=keys[1])

    def through(self, inputs: Float[Array, " inputs"]) -> Float[Array, " dim"]:
        """From the inputs to the outputs."""
        hidden = self.entry(inputs)
        for block in self.blocks:
            hidden = block(hidden)
        return self.exit(jax.nn.silu(hidden))


class Network(Perceptron):
    r"""From a noisy image and an angle to a vector as long as the image.

    The angle :math:`\varphi \in [0, \pi/2]` enters as its harmonics :math:`\cos k\varphi, \sin k\varphi`. What the output
    means is for whoever trains it to say: the recipe's denoiser learns :math:`v = \alpha\epsilon - \sigma x_0`, the
    straightened one :math:`\epsilon - x_0`.

    Args:
        key: for the initial weights.
        width: of the hidden layers.
        num_blocks: residual layers.
    """

    def __init__(self, key: KeyArray, width: int, num_blocks: int) -> None:
        super().__init__(key, DIM + 2 * NUM_HARMONICS, width, num_blocks)

    def __call__(self, x: Float[Array, " dim"], angle: Scalar) -> Float[Array, " dim"]:
        """One image, one angle in radians."""
        harmonics = angle * jnp.arange(1, NUM_HARMONICS + 1)
        return self.through(jnp.concatenate([x, jnp.cos(harmonics), jnp.sin(harmonics)]))
