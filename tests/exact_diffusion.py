"""Diffusions whose every answer is known: normal data have a linear denoiser, and the whole chain is normal."""

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer import diffusion
from smcinfer.diffusion.model import Model, Prediction
from smcinfer.diffusion.process import GaussianSteps
from smcinfer.diffusion.schedule import NoiseSchedule

MEAN, STD = 0.7, 0.8


def normal_model(schedule: NoiseSchedule, mean: float = MEAN, std: float = STD) -> Model:
    """The exact model of N(mean, std^2) in one dimension."""

    def denoiser(y: jax.Array, noise_ratio: jax.Array) -> jax.Array:
        return mean + std**2 / (std**2 + noise_ratio**2) * (y - mean)

    return diffusion.diffusion_model(denoiser, schedule, (1,), parameterisation="denoiser")


def affine_steps(process: GaussianSteps) -> list[tuple[float, float, float]]:
    """Slope, intercept and variance of every step of a chain of the normal model."""
    schedule, found = process.model.schedule, []
    for t in range(1, process.num_steps + 1):
        means = []
        for x in (0.0, 1.0):
            point = jnp.full((1,), x)
            said: Prediction = process.model.predict(point, process.times[t - 1])
            mean, variance = process.kernel(said, point, schedule, process.times[t - 1], process.times[t])
            means.append(float(mean[0]))
        found.append((means[1] - means[0], means[0], float(variance)))
    return found


def end_of(process: GaussianSteps) -> tuple[float, float]:
    """Mean and variance of the chain's sample."""
    mean, variance = 0.0, float(process.start_std) ** 2
    for slope, intercept, noise in affine_steps(process):
        mean, variance = slope * mean + intercept, slope**2 * variance + noise
    return mean, variance


def log_tilt(mean: float, variance: float, curvature: float, centre: float) -> float:
    """log E[exp(-c (x - b)^2)] of a normal law."""
    grown = 1.0 + 2.0 * curvature * variance
    return float(-curvature * (mean - centre) ** 2 / grown - 0.5 * np.log(grown))


def log_power(power: float, variance: float) -> float:
    """log of the integral of N(m, v)^b in one dimension."""
    return float(0.5 * ((1.0 - power) * np.log(2.0 * np.pi * variance) - np.log(power)))
