"""A diffusion model under a reward, and raised to a power: nine Gaussians in the plane, whose every answer is known.

    python examples/diffusion_alignment.py [--out output/diffusion] [--num-particles 1000]

The point was measured near one corner. Importance sampling, the look-ahead of the measurement with its gradient, and the
power two of the density itself, each with log Z beside the exact one.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import smcinfer
from smcinfer import diffusion
from smcinfer.models import gaussian_mixtures
from smcinfer.plots import style

CORNER, NOISE_STD, DATA_STD = (4.5, 4.5), 0.2, 3.3


def draw(results: dict[str, smcinfer.Result], draws: np.ndarray) -> Figure:
    """The samples of every result over draws of the model."""
    figure = style.new_figure(height=3.2)
    with style.styled():
        for axes, (name, result) in zip(figure.subplots(1, len(results), sharey=True), results.items(), strict=True):
            axes.plot(*draws.T, ".", color="0.85", markersize=2)
            axes.plot(*result.draws(0, 500)["x"].T, ".", color=style.PALETTE[0], markersize=2)
            axes.set_title(f"{name}: log Z {result.log_z:.2f}", fontsize=8)
            axes.set_aspect("equal")
    return figure


def main(out: Path, num_particles: int, num_steps: int) -> None:
    """Run the targets, print what they say, and draw them."""
    out.mkdir(parents=True, exist_ok=True)
    nine = gaussian_mixtures.nine_modes()
    model = nine.model(diffusion.Cosine())
    options: dict[str, Any] = {"num_steps": num_steps, "kernel": "euler_maruyama"}
    seen = diffusion.measurement(lambda x: x, CORNER, NOISE_STD, data_std=DATA_STD)
    targets = {
        "importance sampling": diffusion.alignment(model, seen, look="none", **options),
        "twisted": diffusion.alignment(model, seen, proposal="gradient", **options),
        "power two": diffusion.power(
            model, 2.0, num_steps=num_steps, data_std=DATA_STD, log_density=nine.noised(model.schedule)
        ),
    }
    curvature = 0.5 / NOISE_STD**2
    exact = nine.tilted([curvature, curvature], CORNER).log_z - np.log(np.pi / curvature)
    known = {"importance sampling": exact, "twisted": exact, "power two": nine.power(2.0, points=600).log_z}
    results = {}
    for name, target in targets.items():
        results[name] = smcinfer.sample(jax.random.key(0), target, num_particles=num_particles)
        print(f"{name}, exact log Z {known[name]:.3f}")
        print(results[name])
    figure = draw(results, np.asarray(nine.draw(jax.random.key(1), 2000)))
    figure.savefig(out / "alignment.png")
    print(f"saved {out / 'alignment.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/diffusion"), help="folder for the figure")
    parser.add_argument("--num-particles", type=int, default=1000)
    parser.add_argument("--num-steps", type=int, default=100)
    arguments = parser.parse_args()
    main(arguments.out, arguments.num_particles, arguments.num_steps)
