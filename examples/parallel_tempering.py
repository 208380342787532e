"""Parallel tempering beside chains alone: a mixture in ten dimensions whose modes no chain leaves.

    python examples/parallel_tempering.py [--num-draws 1000]

Three normal modes with shares .5, .3 and .2 lie six units apart; the integral of their density is one. Chains alone report the
shares of the modes in which they began.
"""

import argparse

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import smcinfer

DIM = 10
SHARES = jnp.array([0.5, 0.3, 0.2])
CENTRES = 6.0 * jnp.eye(3, DIM)


def log_mixture(x: jax.Array) -> jax.Array:
    """Log density of the mixture, nats."""
    parts = dist.Normal(CENTRES, 0.5).to_event(1).log_prob(x)
    return jax.nn.logsumexp(jnp.log(SHARES) + parts)


def shares(draws: jax.Array) -> jax.Array:
    """Share of the draws nearest to each centre."""
    distances = jnp.linalg.norm(jnp.asarray(draws)[..., None, :] - CENTRES, axis=-1)
    return jnp.mean(jax.nn.one_hot(jnp.argmin(distances, axis=-1), 3), axis=(0, 1))


def main(num_draws: int) -> None:
    """Print both, and the exact shares."""
    target = smcinfer.log_density(log_mixture, dist.Normal(jnp.full(DIM, 1.0), 4.0).to_event(1))
    alone = smcinfer.mcmc(jax.random.key(0), target, num_chains=8, num_draws=num_draws)
    ladders = smcinfer.parallel_tempering(jax.random.key(0), target, num_rungs=14, num_draws=num_draws)
    print(ladders)
    found = {"exact": SHARES, "alone": shares(alone.draws["theta"]), "ladders": shares(ladders.draws["theta"])}
    for name, each in found.items():
        print(f"{name:<8}", " ".join(f"{share:.2f}" for share in each))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-draws", type=int, default=1000)
    main(parser.parse_args().num_draws)
