"""Masked discrete diffusion: tokens unmasked in any order, under a reward, to powers or multiplied, with exact weights."""

from smcinfer.diffusion.discrete.laws import AllAtOnce, OneByOne
from smcinfer.diffusion.discrete.model import MaskedModel, masked_model, product
from smcinfer.diffusion.discrete.orders import ORDERS, Confidence, left_to_right, uniform
from smcinfer.diffusion.discrete.process import (
    FirstHitting,
    Guide,
    MaskedState,
    ParallelUnmasking,
    Unmasking,
    hitting_times,
)
from smcinfer.diffusion.discrete.rewards import GradientTilt, RelaxedTwist, expected_tokens, on_tokens
from smcinfer.diffusion.discrete.targets import MaskedTarget, alignment, multiplied, power

__all__ = [
    "ORDERS",
    "AllAtOnce",
    "Confidence",
    "FirstHitting",
    "GradientTilt",
    "Guide",
    "MaskedModel",
    "MaskedState",
    "MaskedTarget",
    "OneByOne",
    "ParallelUnmasking",
    "RelaxedTwist",
    "Unmasking",
    "alignment",
    "expected_tokens",
    "hitting_times",
    "left_to_right",
    "masked_model",
    "multiplied",
    "on_tokens",
    "power",
    "product",
    "uniform",
]
