"""A family of your own: rankings of items, tempered from all orders alike, with the exact log Z to compare with.

    python examples/your_own_family.py [--num-particles 1024]
    smcinfer sample examples/your_own_family.py:target --num-particles 1024 --out rankings.nc

Three methods make a path: a start, a log potential and one move. Adaptive exponents, the error bar, checkpoints, the progress
bar, ArviZ export and the command line come with `smcinfer.Path`.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import smcinfer


class Rankings(smcinfer.Path):
    """Orders of items in which every pair that stands the wrong way round costs some nats (Mallows 1957)."""

    num_items: int = eqx.field(static=True)
    cost: float = 0.7
    weighted_for = "rankings, exp(-cost) for each inverted pair; log Z is the log of its mean over all orders"

    def start(self, key, num_particles):
        """All orders alike."""
        keys = jax.random.split(key, num_particles)
        orders = jax.vmap(lambda key: jax.random.permutation(key, self.num_items))(keys)
        return smcinfer.Mutation(orders, jnp.zeros(num_particles))

    def log_potential(self, particles):
        """Minus the cost of the inverted pairs, nats."""
        inverted = jnp.triu(particles[:, :, None] > particles[:, None, :])
        return -self.cost * jnp.sum(inverted, axis=(1, 2))

    def move(self, key, particles, at, params):
        """Two items change places, or not: Metropolis at the exponent."""
        pair_key, accept_key = jax.random.split(key)
        rows = jnp.arange(len(particles))[:, None]
        pairs = jax.random.randint(pair_key, (len(particles), 2), 0, self.num_items)
        swapped = particles.at[rows, pairs].set(particles[rows, pairs[:, ::-1]])
        gain = at.exponent * (self.log_potential(swapped) - self.log_potential(particles))
        accepted = jnp.log(jax.random.uniform(accept_key, gain.shape)) < gain
        return jnp.where(accepted[:, None], swapped, particles), {"acceptance": jnp.mean(accepted)}


target = Rankings(10)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-particles", type=int, default=1024)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=parser.parse_args().num_particles)
    q, items = np.exp(-target.cost), np.arange(1, 11)
    print(result)
    print(f"exact log Z {np.log((1 - q**items) / (1 - q) / items).sum():.3f}")
    print(result.to_arviz().posterior["x"].mean(("chain", "draw")).values.round(2))
