"""Handwritten digits of 8 by 8 pixels: a trained denoiser, its exact twin, a straightened flow, a reward and its judge."""

import math

import equinox as eqx

from smcinfer.diffusion import Cosine, LinearFlow, Model, diffusion_model
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.models.digits.classifier import Classifier
from smcinfer.models.digits.data import DIM, NUM_CLASSES, SIDE, Images, images, split
from smcinfer.models.digits.kde import KernelDensity, Tilted, kernel_density
from smcinfer.models.digits.network import Network
from smcinfer.models.digits.weights import FILE, Weights, weights

__all__ = [
    "DIM",
    "FILE",
    "NUM_CLASSES",
    "SIDE",
    "Classifier",
    "Digits",
    "Images",
    "KernelDensity",
    "Network",
    "Tilted",
    "Weights",
    "images",
    "kernel_density",
    "load",
    "split",
    "weights",
]


class AtAngle(eqx.Module):
    """A network of angles as a function of diffusion time: a right angle is time one."""

    network: Network

    def __call__(self, x: Float[Array, " dim"], time: Scalar) -> Float[Array, " dim"]:
        """One point, one diffusion time."""
        return self.network(x, 0.5 * math.pi * time)


class Digits(eqx.Module):
    """The trained networks, ready for `smcinfer.diffusion` (made by `load`).

    Attributes:
        model: the denoiser, on the cosine schedule.
        straight: the straightened flow, on the linear one: what it says of pure noise is already an image.
        reward: log probabilities of the classes, for rewards.
        judge: the same from other images, for judging samples that were chosen by the reward.
    """

    model: Model
    straight: Model
    reward: Classifier
    judge: Classifier


def load() -> Digits:
    """The committed weights (`recipe` trains them)."""
    found = weights()
    return Digits(
        diffusion_model(AtAngle(found.denoiser), Cosine(), (DIM,), parameterisation="v"),
        diffusion_model(AtAngle(found.straight), LinearFlow(), (DIM,), parameterisation="velocity"),
        found.reward,
        found.judge,
    )
