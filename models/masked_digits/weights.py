"""The masked denoiser's weights: its size, and the file they are kept in."""

from pathlib import Path

import equinox as eqx
import jax

from smcinfer import nn
from smcinfer.models.masked_digits.network import MaskedNetwork

FILE = Path(__file__).resolve().parent / "weights.safetensors"
SIZE = (128, 2)
"""Width and residual layers."""


def weights(path: Path = FILE) -> MaskedNetwork:
    """The trained network, read from the repository's own file."""
    return nn.restore(path, eqx.filter_eval_shape(lambda key: MaskedNetwork(key, *SIZE), jax.random.key(0)))
