"""Yesterday's result is today's reference: the posterior follows the data, a week long.

    python examples/warm_start.py [--num-particles 256]

Every day brings ten data of a normal law with unknown mean and spread. The cold runs start from the prior, the warm ones from
the day before; both estimate the same log Z.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import smcinfer

PRIOR = {"mean": dist.Normal(0.0, 10.0), "sd": dist.LogNormal(0.0, 1.0)}


def log_likelihood(theta: dict, y: jax.Array) -> jax.Array:
    """One datum, nats."""
    return dist.Normal(theta["mean"], theta["sd"]).log_prob(y)


def main(num_particles: int) -> None:
    """Print a row a day."""
    data = np.random.default_rng(0).normal(1.0, 1.0, 70)
    before = None
    for day in range(1, 8):
        target = smcinfer.posterior(PRIOR, log_likelihood, jnp.asarray(data[: 10 * day]))
        row = f"day {day}"
        starts = {"cold": None} if before is None else {"cold": None, "warm": smcinfer.reference_from(before)}
        for name, reference in starts.items():
            started = target if reference is None else target.with_reference(reference)
            before = smcinfer.sample(jax.random.key(day), started, num_particles=num_particles, progress=False)
            evals = np.nansum(before.history["num_evals"], axis=1).mean()
            row += f"   {name}: log Z {before.log_z:8.3f} +- {before.log_z_se:.3f}, {evals:4.0f} evaluations a particle"
        print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-particles", type=int, default=256)
    main(parser.parse_args().num_particles)
