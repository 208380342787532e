"""Smoothing: what all returns, earlier and later, say of the hidden volatility.

    python examples/smoothing.py [--out output/smoothing] [--steps 200]

A stochastic volatility model is simulated, so the truth is known. Four methods look back; the default one is drawn.
"""

import argparse
from pathlib import Path

import jax

import smcinfer
from smcinfer.models.stochastic_volatility import StochasticVolatility
from smcinfer.results.smoothed import Smoothed
from smcinfer.state_space.smoothing.smooth import METHODS, smooth


def compare(num_steps: int, num_particles: int) -> tuple[dict[str, Smoothed], jax.Array, jax.Array]:
    """The same series smoothed by every method, with the truth and the returns."""
    model = StochasticVolatility()
    truth, returns = model.simulate(jax.random.key(0), num_steps)
    target = model.state_space(returns)
    found = {
        method: smooth(jax.random.key(1), target, method=method, num_particles=num_particles, progress=True)
        for method in METHODS
    }
    return found, truth, returns


def main(out: Path, num_steps: int, num_particles: int) -> None:
    """Smooth, print every method, draw the paths of the default one."""
    out.mkdir(parents=True, exist_ok=True)
    found, truth, returns = compare(num_steps, num_particles)
    for smoothed in found.values():
        print(smoothed)
    figure = smcinfer.plots.plot_smoothed(found["backward"], truth=truth, data=returns)
    figure.savefig(out / "volatility.png")
    print(f"saved {out / 'volatility.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/smoothing"), help="folder for the figure")
    parser.add_argument("--steps", type=int, default=200, help="length of the series of returns")
    parser.add_argument("--num-particles", type=int, default=1000)
    arguments = parser.parse_args()
    main(arguments.out, arguments.steps, arguments.num_particles)
