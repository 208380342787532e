"""A likelihood that JAX cannot trace, on worker processes: 20 ms a call, as a small simulator takes.

    python examples/host_likelihood.py [--workers 2] [--num-particles 32]

The posterior is conjugate, so that log Z can be judged; what the workers cost beside the calls is printed as efficiency.
"""

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import jax
import numpy as np
import numpyro.distributions as dist

import smcinfer

DATA = np.array([0.7, 1.9, -0.4, 1.1])
CALL_SECONDS = 0.02


def log_likelihood(theta: float) -> float:
    """y_i ~ N(theta, 1) after 20 ms, nats."""
    time.sleep(CALL_SECONDS)
    return float(-0.5 * np.sum((DATA - theta) ** 2) - 0.5 * len(DATA) * np.log(2 * np.pi))


def exact_log_z() -> float:
    """Evidence under theta ~ N(0, 1)."""
    return float(dist.MultivariateNormal(np.zeros(4), np.eye(4) + 1.0).log_prob(DATA))


def main(num_workers: int, num_particles: int) -> None:
    """Sample, and compare with the exact evidence."""
    with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        hosted = smcinfer.on_host(log_likelihood, executor=pool, timeout=10.0)
        target = smcinfer.posterior(dist.Normal(0.0, 1.0), hosted)
        list(pool.map(log_likelihood, np.zeros(4 * num_workers)))  # workers take seconds to start
        result = smcinfer.sample(jax.random.key(0), target, num_particles=num_particles, num_runs=2)
    print(result)
    print(hosted)
    print(f"log Z exact {exact_log_z():.3f}")
    tally = hosted.tally
    print(f"efficiency of the workers {tally.work_seconds / (num_workers * tally.wait_seconds):.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--num-particles", type=int, default=32)
    arguments = parser.parse_args()
    main(arguments.workers, arguments.num_particles)
