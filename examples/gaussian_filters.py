"""Position from velocity: a Kalman filter and smoother of a moving target, beside a particle filter.

    python examples/gaussian_filters.py [--steps 100]

The position follows from the velocity without noise, so the state has a point mass in it; every fifth observation is lost.
"""

import argparse

import jax
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

import smcinfer
from smcinfer.ground.arrays import PyTree, Time
from smcinfer.state_space import simulate, state_space

INITIAL = {"place": dist.Normal(0.0, 1.0), "speed": dist.Normal(0.0, 0.5)}


def transition(t: Time, x: PyTree) -> dict[str, Distribution]:
    """The speed wanders, the place follows."""
    return {"place": dist.Delta(x["place"] + x["speed"]), "speed": dist.Normal(0.95 * x["speed"], 0.2)}


def observation(t: Time, x: PyTree) -> Distribution:
    """The place, seen through noise."""
    return dist.Normal(x["place"], 0.8)


def main(num_steps: int, num_particles: int) -> None:
    """Simulate, filter by both, and compare."""
    truth, seen = simulate(jax.random.key(0), INITIAL, transition, observation, num_steps)
    data = np.array(seen)
    data[::5] = np.nan
    model = state_space(INITIAL, transition, observation, data, missing="skip")
    exact = smcinfer.gaussian_filter(model)
    print(exact)
    by_particles = smcinfer.sample(jax.random.key(1), model, num_particles=num_particles)
    low, high = by_particles.log_z_interval()
    print(f"log Z by particles in [{low:.2f}, {high:.2f}]")
    speed = exact.of("speed")
    for name, mean in (("filtered", exact.mean), ("smoothed", exact.smoothed_mean)):
        print(f"{name} speed, error {np.std(mean[:, speed] - np.asarray(truth['speed'])):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="length of the series")
    parser.add_argument("--num-particles", type=int, default=4096)
    arguments = parser.parse_args()
    main(arguments.steps, arguments.num_particles)
