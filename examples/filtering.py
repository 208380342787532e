"""Filtering: the hidden volatility of a series of returns, with bands, and its log likelihood.

    python examples/filtering.py [--out output/filtering] [--steps 300] [--guided]

A stochastic volatility model is simulated, so the truth is known; the filter sees only the returns. Then a target is tracked by
bearings alone.
"""

import argparse
from pathlib import Path

import jax
from matplotlib.figure import Figure

import smcinfer
from smcinfer.models import bearings_only
from smcinfer.models.stochastic_volatility import StochasticVolatility

QUANTILES = (0.05, 0.5, 0.95)


def volatility(num_steps: int, num_particles: int, kind: str) -> tuple[smcinfer.Result, Figure]:
    """Simulate returns, filter them, and draw what the filter knew."""
    model = StochasticVolatility()
    truth, returns = model.simulate(jax.random.key(0), num_steps)
    result = smcinfer.sample(
        jax.random.key(1), model.state_space(returns, kind, quantiles=QUANTILES), num_particles=num_particles
    )
    return result, smcinfer.plots.plot_filter(result, truth=truth, data=returns)


def tracking(num_particles: int) -> tuple[smcinfer.Result, Figure]:
    """A target that is heard by direction alone."""
    course = bearings_only.zigzag(40)
    model = bearings_only.bearings_only(course)
    truth, bearings = model.simulate(jax.random.key(1), (4.5, 3.5, -0.02, 0.05))
    result = smcinfer.sample(jax.random.key(2), model.state_space(bearings), num_particles=num_particles)
    return result, smcinfer.plots.plot_track(result, truth=truth, observer=course)


def main(out: Path, num_steps: int, num_particles: int, kind: str) -> None:
    """Run both, print the results and draw the figures."""
    out.mkdir(parents=True, exist_ok=True)
    result, bands = volatility(num_steps, num_particles, kind)
    print(result)
    bands.savefig(out / "volatility.png")
    for path in smcinfer.plots.save_all(result, out / "figures"):
        print(f"saved {path}")
    result, track = tracking(num_particles)
    print(result)
    track.savefig(out / "track.png")
    print(f"saved {out / 'volatility.png'} and {out / 'track.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/filtering"), help="folder for the figures")
    parser.add_argument("--steps", type=int, default=300, help="length of the series of returns")
    parser.add_argument("--num-particles", type=int, default=4096)
    parser.add_argument("--guided", action="store_true", help="guide the volatility filter by the next return")
    arguments = parser.parse_args()
    main(arguments.out, arguments.steps, arguments.num_particles, "guided" if arguments.guided else "bootstrap")
