"""Monitoring a sensor as its readings come: a filter that is stopped and goes on, and an alarm where the model fails.

    python examples/online.py [--out output/online] [--steps 300]

Readings of a slow temperature, some of them lost. For the last third the sensor is broken: the log density of each reading
given those before it falls.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

import smcinfer
from smcinfer.ground.arrays import Scalar, Time
from smcinfer.state_space import StateSpace, simulate, state_space

ALARM = 3.0
"""Nats by which the mean of the last ten increments must fall below that of all before."""

INITIAL = dist.Normal(20.0, 2.0)


def transition(t: Time, x: Scalar) -> Distribution:
    """The temperature goes back to 20 degrees, slowly."""
    return dist.Normal(20.0 + 0.98 * (x - 20.0), 0.3)


def observation(t: Time, x: Scalar) -> Distribution:
    """A reading of it."""
    return dist.Normal(x, 0.3)


def the_model() -> StateSpace:
    """The model without data: they come one by one."""
    return state_space(INITIAL, transition, observation, missing="skip")


def readings(num_steps: int) -> np.ndarray:
    """Readings of which a tenth are lost, the last third from a broken sensor."""
    _, made = simulate(jax.random.key(0), INITIAL, transition, observation, num_steps)
    seen, generator = np.array(made, float), np.random.default_rng(0)
    broken = np.arange(num_steps + 1) > 2 * num_steps // 3
    seen[broken] += generator.normal(size=broken.sum()) * 3.0
    seen[generator.uniform(size=seen.size) < 0.1] = np.nan
    return seen


def main(out: Path, num_steps: int, num_particles: int) -> None:
    """Filter the readings as they come, stop half way, go on from the file, and raise the alarm."""
    out.mkdir(parents=True, exist_ok=True)
    monitor = smcinfer.online(jax.random.key(1), the_model(), num_particles=num_particles, lag=20)
    foreseen: list[float] = []
    for t, reading in enumerate(readings(num_steps)):
        monitor.update(reading)
        foreseen.append(monitor.log_z_increment)
        if t == num_steps // 2:
            paused: Any = smcinfer.load(monitor.save(out / "monitor.nc"))
            monitor = paused.resume(the_model())
            print(monitor)
            print(monitor.predict(10))
        if t > 20 and np.mean(foreseen[-10:]) < np.mean(foreseen[:-10]) - ALARM:
            print(f"alarm at t = {t}: readings are no longer foreseen")
            break
    print(f"the last twenty temperatures: {np.round(monitor.smoothed.mean(), 1)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/online"), help="folder for the file of the filter")
    parser.add_argument("--steps", type=int, default=300, help="readings")
    parser.add_argument("--num-particles", type=int, default=4096)
    arguments = parser.parse_args()
    main(arguments.out, arguments.steps, arguments.num_particles)
