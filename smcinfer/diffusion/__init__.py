"""Diffusion models under a reward, their powers, products and guidance, sampled with exact weights and a log Z."""

from smcinfer.diffusion.alignment import Alignment, alignment
from smcinfer.diffusion.frames import sequence
from smcinfer.diffusion.looks import Look, RollOut, Tweedie
from smcinfer.diffusion.model import (
    PARAMETERISATIONS,
    Model,
    Preconditioned,
    Prediction,
    classifier_free,
    diffusion_model,
)
from smcinfer.diffusion.powers import corrected, guided, power, product
from smcinfer.diffusion.process import Denoising, Reverse, reverse_process
from smcinfer.diffusion.reverse import DDIM, DDPM, EulerMaruyama, Exponential, ReverseKernel
from smcinfer.diffusion.rewards import Reward, inpainting, low_density, measurement, on_host
from smcinfer.diffusion.schedule import NoiseSchedule, check_schedule
from smcinfer.diffusion.schedules import EDM, Cosine, LinearFlow, VarianceExploding, VariancePreserving, tabulated
from smcinfer.diffusion.soft_value import GradientOf, SoftValue, soft_value, value_network
from smcinfer.diffusion.tempered import TemperedAlignment
from smcinfer.diffusion.watched import Watched, Watching

__all__ = [
    "DDIM",
    "DDPM",
    "EDM",
    "PARAMETERISATIONS",
    "Alignment",
    "Cosine",
    "Denoising",
    "EulerMaruyama",
    "Exponential",
    "GradientOf",
    "LinearFlow",
    "Look",
    "Model",
    "NoiseSchedule",
    "Preconditioned",
    "Prediction",
    "Reverse",
    "ReverseKernel",
    "Reward",
    "RollOut",
    "SoftValue",
    "TemperedAlignment",
    "Tweedie",
    "VarianceExploding",
    "VariancePreserving",
    "Watched",
    "Watching",
    "alignment",
    "check_schedule",
    "classifier_free",
    "corrected",
    "diffusion_model",
    "guided",
    "inpainting",
    "low_density",
    "measurement",
    "on_host",
    "power",
    "product",
    "reverse_process",
    "sequence",
    "soft_value",
    "tabulated",
    "value_network",
]
