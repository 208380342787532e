"""Rows of `benchmarks.diffusion` on digits: how far log Z is from sums over the images.

Each function takes seconds on one core and returns a dict of named figures.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer import diffusion
from smcinfer.diffusion import discrete
from smcinfer.models import digits, masked_digits, masked_table
from smcinfer.results.finished import Run
from smcinfer.run.runner import run

NUM_RUNS = 8


def _total_variation(found: np.ndarray, exact: np.ndarray) -> float:
    return 0.5 * float(np.abs(found - exact).sum())


def _floor(exact: np.ndarray, size: float) -> float:
    """Mean total variation between the exact masses and as many independent draws of them as there are effective ones."""
    counts = np.random.default_rng(0).multinomial(round(size), exact, 200) / round(size)
    return float(np.mean([_total_variation(row, exact) for row in counts]))


def _row(
    prefix: str, done: Run, log_z: float, masses: np.ndarray, found: Callable[[Any, np.ndarray], np.ndarray]
) -> dict[str, float]:
    """Errors of a run: of pooled log Z, with its standard error from the spread of Z_hat (nats), and of masses.

    ``found`` gives the masses of weighted particles, all runs in one.
    """
    estimates = np.asarray(done.log_z, np.float64)
    ratios = np.exp(estimates - estimates.max())
    weights = (np.exp(np.asarray(done.log_weights, np.float64)) * (ratios / ratios.sum())[:, None]).ravel()
    particles: Any = done.particles
    states = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(len(weights), *leaf.shape[2:]), particles.state)
    return {
        f"{prefix}_log_z_error": abs(estimates.max() + np.log(ratios.mean()) - log_z),
        f"{prefix}_log_z_se": ratios.std(ddof=1) / len(ratios) ** 0.5 / ratios.mean(),
        f"{prefix}_tv": _total_variation(found(states, weights), masses),
        f"{prefix}_tv_floor": _floor(masses, 1 / np.sum(weights**2)),
        f"{prefix}_seconds": done.seconds - done.compile_seconds,
    }


def kernel_density_digits(num_particles: int = 500, num_steps: int = 50) -> dict[str, float]:
    """SMC with the exact denoiser of the kernel density, under a reward for ink in the middle."""
    density = digits.kernel_density()
    ink = np.zeros((digits.SIDE, digits.SIDE))
    ink[2:6, 3:5] = 0.5
    direction = jnp.asarray(ink.ravel(), float)
    exact = density.linear(ink.ravel())
    target = diffusion.alignment(density.model, lambda x: direction @ x, num_steps=num_steps)
    done = run(jax.random.key(0), target, num_particles, num_runs=NUM_RUNS)
    return _row("digits", done, exact.log_z, exact.classes, lambda states, w: density.classes(states.x, w))


def masked_pixels(num_particles: int = 200) -> dict[str, float]:
    """First-hitting SMC with the exact conditionals of the smoothed images, sure pixels first, under a linear reward."""
    law = masked_digits.smoothed_images()
    tilt = np.where(np.arange(digits.DIM) % digits.SIDE < digits.SIDE // 2, 0.3, -0.3)
    exact = law.linear(tilt)
    direction = jnp.asarray(tilt, float)
    relaxed = lambda rows: direction @ rows[:, masked_digits.INK]  # noqa: E731
    target = discrete.alignment(
        law.model,
        discrete.on_tokens(relaxed, masked_digits.VOCAB),
        guide_order=discrete.Confidence(sharpness=0.5),
        twist=discrete.RelaxedTwist(relaxed),
        tilt=discrete.GradientTilt(relaxed),
    )
    done = run(jax.random.key(1), target, num_particles, num_runs=NUM_RUNS)
    return _row("masked_pixels", done, exact.log_z, exact.classes, lambda states, w: law.classes(states.tokens, w))


def masked_sequences(num_particles: int = 1000) -> dict[str, float]:
    """First-hitting SMC on sequences that can be listed, raised to a power and rewarded, in an order of its own."""
    table = masked_table.example(3, 6)
    reward = lambda tokens: 1.0 * (tokens[0] == tokens[-1]) - 0.5 * jnp.sum(tokens == 1)  # noqa: E731
    target = discrete.power(table.model, 2.0, reward, guide_order="confidence")
    rewards = np.asarray(jax.vmap(reward)(table.sequences), np.float64)
    exact = 2.0 * np.asarray(table.log_p, np.float64) + rewards
    log_z = table.log_z(rewards, 2.0)
    masses = np.exp(exact - log_z)
    done = run(jax.random.key(2), target, num_particles, num_runs=NUM_RUNS)
    powers = 3 ** np.arange(5, -1, -1)
    return _row("masked", done, log_z, masses, lambda states, w: np.bincount(states.tokens @ powers, w, len(masses)))


def rows() -> dict[str, float]:
    """All three."""
    return kernel_density_digits() | masked_pixels() | masked_sequences()
