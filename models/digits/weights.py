"""The networks' weights: their sizes, and the file they are kept in."""

from pathlib import Path

import equinox as eqx
import jax

from smcinfer import nn
from smcinfer.ground.arrays import KeyArray
from smcinfer.models.digits.classifier import Classifier
from smcinfer.models.digits.network import Network

FILE = Path(__file__).resolve().parent / "weights.safetensors"
SIZES = {"denoiser": [144, 3], "straight": [96, 3], "reward": 48, "judge": 48}
"""Width and residual layers of the flows, hidden width of the classifiers."""


class Weights(eqx.Module):
    """The four networks that `smcinfer.models.digits.recipe` trains.

    Attributes:
        denoiser: predicts v of the variance-preserving flow.
        straight: predicts the velocity of the straightened flow.
        reward: a classifier for rewards.
        judge: a classifier trained on other images, to judge what was sampled for a reward.
    """

    denoiser: Network
    straight: Network
    reward: Classifier
    judge: Classifier


def blank(key: KeyArray, sizes: dict) -> Weights:
    """Networks of these sizes with initial weights."""
    keys = jax.random.split(key, 4)
    return Weights(
        Network(keys[0], *sizes["denoiser"]),
        Network(keys[1], *sizes["straight"]),
        Classifier(keys[2], sizes["reward"]),
        Classifier(keys[3], sizes["judge"]),
    )


def weights(path: Path = FILE) -> Weights:
    """The trained networks, read from the repository's own file."""
    like = eqx.filter_eval_shape(blank, jax.random.key(0), SIZES)
    return nn.restore(path, like)
