"""Handwritten digits in black and white, pixel by pixel: a trained masked denoiser and its exact twin."""

from smcinfer.diffusion.discrete import MaskedModel, masked_model
from smcinfer.models.digits.data import DIM
from smcinfer.models.masked_digits.images import binary
from smcinfer.models.masked_digits.network import INK, MASK, PAPER, VOCAB, MaskedNetwork
from smcinfer.models.masked_digits.smoothed import Smoothed, smoothed_images
from smcinfer.models.masked_digits.weights import FILE, weights

__all__ = [
    "DIM",
    "FILE",
    "INK",
    "MASK",
    "PAPER",
    "VOCAB",
    "MaskedNetwork",
    "Smoothed",
    "binary",
    "load",
    "smoothed_images",
    "weights",
]


def load() -> MaskedModel:
    """The trained model (`recipe` trains it)."""
    return masked_model(weights(), DIM, VOCAB)
