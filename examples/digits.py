"""Digits written to order: a diffusion model of 8 by 8 images aligned to a reward, its exact twin, and pixels one by one.

    python examples/digits.py [--out output/digits] [--label 4] [--num-particles 128]

The reward is a classifier's log probability of the digit asked for. The kernel density over the same images is a
diffusion model whose normaliser is a sum, so that log Z can be checked.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import smcinfer
from smcinfer import diffusion
from smcinfer.diffusion import discrete
from smcinfer.models import digits, masked_digits
from smcinfer.plots.diffusion import plot_reward_path, plot_samples

NUM_SHOWN = 24


def denoised(label: int, num_particles: int) -> tuple[smcinfer.Result, np.ndarray]:
    """Samples of the trained denoiser that a classifier takes for ``label``."""
    found = digits.load()
    target = diffusion.alignment(found.model, lambda x: found.reward.log_probability(x, label), num_steps=30)
    result = smcinfer.sample(
        jax.random.key(0), target, num_particles=num_particles, num_runs=2, history="ancestors", progress=False
    )
    x = np.asarray(result.draws(3, NUM_SHOWN)["x"])
    judged = jnp.exp(jax.vmap(lambda x: found.judge.log_probability(x, label))(jnp.asarray(x)))
    print(f"another classifier, trained on other images, gives them probability {float(judged.mean()):.2f} on average")
    return result, x


def exactly(num_particles: int) -> smcinfer.Result:
    """The kernel density under a reward for ink in the middle, whose log Z is a sum over the images."""
    density = digits.kernel_density()
    ink = np.zeros((digits.SIDE, digits.SIDE))
    ink[2:6, 3:5] = 0.5
    direction = jnp.asarray(ink.ravel())
    target = diffusion.alignment(density.model, lambda x: direction @ x, num_steps=50)
    result = smcinfer.sample(jax.random.key(1), target, num_particles=num_particles, num_runs=4, progress=False)
    low, high = result.log_z_interval()
    exact = density.linear(ink.ravel()).log_z
    print(f"kernel density: log Z in [{low:.3f}, {high:.3f}], exactly {exact:.3f}")
    return result


def in_pixels(num_particles: int) -> np.ndarray:
    """Black and white pixels unmasked one by one, surest first, asked for a dark left half and a light right one."""
    model = masked_digits.load()
    side = jnp.where(jnp.arange(digits.DIM) % digits.SIDE < digits.SIDE // 2, 0.4, -0.4)
    relaxed = lambda rows: side @ rows[:, masked_digits.INK]  # noqa: E731
    target = discrete.alignment(
        model,
        discrete.on_tokens(relaxed, masked_digits.VOCAB),
        guide_order="confidence",
        twist=discrete.RelaxedTwist(relaxed),
        tilt=discrete.GradientTilt(relaxed),
    )
    result = smcinfer.sample(jax.random.key(2), target, num_particles=num_particles, num_runs=2, progress=False)
    print(f"pixel by pixel: log Z {result.log_z:.2f}, effective sample size {result.ess.min():.0f} of {num_particles}")
    return np.asarray(result.draws(4, NUM_SHOWN)["tokens"])


def main(out: Path, label: int = 4, num_particles: int = 128) -> None:
    """Run all three, print what is known of them and draw the figures."""
    out.mkdir(parents=True, exist_ok=True)
    result, asked = denoised(label, num_particles)
    print(result)
    exactly(num_particles)
    ordered = in_pixels(num_particles)
    plain = digits.images().pixels[:NUM_SHOWN]
    groups = {"images of the data": plain, f"denoised, asked for a {label}": np.clip(asked, -1.0, 1.0)}
    figures = {
        "samples": plot_samples(groups | {"pixel by pixel, asked for ink on the left": 2.0 * ordered - 1.0}),
        "path": plot_reward_path(result),
        "genealogy": smcinfer.plots.plot_genealogy(result),
    }
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png")
        print(f"saved {out / name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/digits"), help="folder for the figures")
    parser.add_argument("--label", type=int, default=4, choices=range(10), help="the digit asked for")
    parser.add_argument("--num-particles", type=int, default=128)
    arguments = parser.parse_args()
    main(arguments.out, arguments.label, arguments.num_particles)
