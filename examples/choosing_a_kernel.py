"""Choosing a kernel and a schedule: the same target under each, with what it cost and how far log Z was off.

    python examples/choosing_a_kernel.py [--num-particles 1024]

A correlated Gaussian likelihood on a Gaussian prior in ten dimensions: log Z is known exactly, so every row can be judged.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import smcinfer

DIM = 10
RIDGE = 0.99 * jnp.ones((DIM, DIM)) + 0.01 * jnp.eye(DIM)
SETTINGS: dict[str, dict] = {
    "hmc, ESS 1/2": {"kernel": "hmc"},
    "nuts": {"kernel": "nuts"},
    "mala": {"kernel": "mala"},
    "random walk": {"kernel": "random_walk"},
    "independent": {"kernel": "independent"},
    "hmc, conditional ESS .9": {"kernel": "hmc", "method": smcinfer.Tempering("conditional_ess")},
    "hmc, 10 fixed exponents": {"kernel": "hmc", "method": smcinfer.Tempering([(k / 10) ** 3 for k in range(1, 11)])},
    "random walk, waste-free": {"kernel": "random_walk", "method": smcinfer.Tempering(chain_length=32)},
}


def target_and_log_z() -> tuple[smcinfer.StaticTarget, float]:
    """N(0, I) prior, N(1, RIDGE) log likelihood; its evidence in closed form."""
    likelihood = dist.MultivariateNormal(jnp.ones(DIM), RIDGE)
    prior = dist.Normal(0.0, 1.0).expand([DIM]).to_event(1)
    exact = dist.MultivariateNormal(jnp.ones(DIM), RIDGE + jnp.eye(DIM)).log_prob(jnp.zeros(DIM))
    return smcinfer.posterior(prior, likelihood.log_prob), float(exact)


def main(num_particles: int = 1024) -> None:
    """Run every setting and print a table."""
    target, exact = target_and_log_z()
    print(f"exact log Z {exact:.3f}")
    print(f"{'setting':<26}{'log Z':>9}{'s.e.':>8}{'error':>8}{'steps':>7}{'evals':>8}{'seconds':>9}  status")
    for name, settings in SETTINGS.items():
        result = smcinfer.sample(jax.random.key(1), target, num_particles=num_particles, progress=False, **settings)
        evals = np.nansum(result.history["num_evals"], axis=1).mean()
        seconds = result.seconds - result.compile_seconds
        print(
            f"{name:<26}{result.log_z:9.3f}{result.log_z_se:8.3f}{result.log_z - exact:8.3f}{result.num_steps.max():7d}"
            f"{evals:8.0f}{seconds:9.2f}  {result.status.name or 'OK'}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-particles", type=int, default=1024)
    main(parser.parse_args().num_particles)
