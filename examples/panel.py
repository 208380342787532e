"""A panel of a few hundred short series: which of them does the model not explain?

    python examples/panel.py [--series 200]

Series of different lengths from one model, one of them in another unit: its likelihood stands out.
"""

import argparse

import jax
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

import smcinfer
from smcinfer.ground.arrays import Scalar, Time
from smcinfer.state_space import simulate

INITIAL = dist.Normal(0.0, 1.0)
ODD = 7


def transition(t: Time, x: Scalar) -> Distribution:
    """What is measured goes back to zero."""
    return dist.Normal(0.9 * x, 0.4)


def observation(t: Time, x: Scalar) -> Distribution:
    """A measurement, with outliers."""
    return dist.StudentT(4.0, x, 0.5)


def main(num_series: int, num_particles: int) -> None:
    """Simulate the series, filter all of them, and find the odd one."""
    lengths = np.random.default_rng(0).integers(10, 60, size=num_series)
    longest = int(lengths.max())
    draw = jax.jit(jax.vmap(lambda key: simulate(key, INITIAL, transition, observation, longest)[1]))
    every = np.asarray(draw(jax.random.split(jax.random.key(0), num_series)))
    series = [row[:length] for row, length in zip(every, lengths, strict=True)]
    series[ODD] = 10.0 * series[ODD]
    panel = smcinfer.panel(INITIAL, transition, observation, series)
    found = panel.filter(jax.random.key(1), num_particles=num_particles)
    print(found)
    each = found.log_z_series / found.lengths
    print(f"series {int(np.argmin(each))} is the odd one, {each.min():.2f} nats an observation; it was {ODD}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=200, help="how many")
    parser.add_argument("--num-particles", type=int, default=256)
    arguments = parser.parse_args()
    main(arguments.series, arguments.num_particles)
