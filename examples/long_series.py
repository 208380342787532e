"""A long nonlinear series filtered at all steps at once: iterations in place of a loop over time, and what they leave.

    python examples/long_series.py [--steps 20000]

A driven pendulum seen through its sine. The extended Kalman filter is evaluated by one loop, and by loops within blocks of
steps, all at once, which start again from where the block before has ended: soon all end at the same moments.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

import smcinfer
from smcinfer.core.recursions import Way
from smcinfer.ground.arrays import Array, Time
from smcinfer.results.gaussian import GaussianMoments
from smcinfer.state_space import StateSpace, simulate, state_space

INITIAL = dist.Normal(jnp.zeros(2), 0.5).to_event(1)


def transition(t: Time, x: Array) -> Distribution:
    """A tenth of a second of a pendulum that is damped and pushed."""
    angle, speed = x[0], x[1]
    return dist.Normal(jnp.stack([angle + 0.1 * speed, 0.98 * speed - 0.2 * jnp.sin(angle)]), 0.05).to_event(1)


def observation(t: Time, x: Array) -> Distribution:
    """Its shadow."""
    return dist.Normal(jnp.sin(x[0]), 0.1)


def filtered(model: StateSpace, way: Way | None) -> tuple[GaussianMoments, float]:
    """The moments, and the seconds of a second run."""
    options = {} if way is None else {"in_parallel": way}
    smcinfer.gaussian_filter(model, method="extended", **options)
    start = time.perf_counter()
    return smcinfer.gaussian_filter(model, method="extended", **options), time.perf_counter() - start


def main(num_steps: int) -> None:
    """Simulate, filter in every way, and compare."""
    with jax.enable_x64(True):
        _, seen = simulate(jax.random.key(0), INITIAL, transition, observation, num_steps)
        model = state_space(INITIAL, transition, observation, seen)
        loop, seconds = filtered(model, None)
        print(f"loop: log Z {loop.log_z:.4f}, {seconds:.2f} s")
        for way in (smcinfer.GaussSeidelJacobi(num_blocks=16), smcinfer.GaussSeidelJacobi(num_blocks=64)):
            found, seconds = filtered(model, way)
            told = f"{found.settings['iterations']} iterations, which left {found.settings['error']:.0e}"
            apart = np.abs(found.mean - loop.mean).max()
            print(f"{way.num_blocks} blocks: {told}; means apart by {apart:.0e}, {seconds:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000, help="observations")
    main(parser.parse_args().steps)
