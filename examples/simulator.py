"""Predators and prey by simulation: the rates of a Lotka-Volterra model, with no likelihood.

    python examples/simulator.py [--num-particles 500]

Populations are simulated by a diffusion approximation of the births and deaths; what is seen are 16 noisy counts of each.
The rates that made the data are printed beside the posterior.
"""

import argparse

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import smcinfer

TRUTH = {"birth": 1.0, "catch": 0.005, "death": 0.6}
PRIOR = {
    "birth": dist.LogNormal(0.0, 0.5),
    "catch": dist.LogNormal(-5.0, 0.5),
    "death": dist.LogNormal(-0.5, 0.5),
}
STEPS_A_COUNT, COUNTS, STEP = 20, 16, 0.05


def simulate(key: jax.Array, theta: dict) -> jax.Array:
    """Counts of prey and predators, Float["counts 2"]; extinct ones stay so."""
    start = jnp.array([50.0, 100.0])

    def once(state: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        prey, predators = state
        events = jnp.array([theta["birth"] * prey, theta["catch"] * prey * predators, theta["death"] * predators])
        happened = events * STEP + jnp.sqrt(events * STEP) * jax.random.normal(key, (3,))
        born, caught, died = happened
        return jnp.clip(state + jnp.array([born - caught, caught - died]), 0.0, 1e4), None

    def count(state: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        walk_key, noise_key = jax.random.split(key)
        state, _ = jax.lax.scan(once, state, jax.random.split(walk_key, STEPS_A_COUNT))
        return state, state + 5.0 * jax.random.normal(noise_key, (2,))

    return jax.lax.scan(count, start, jax.random.split(key, COUNTS))[1]


def summaries(data: jax.Array) -> jax.Array:
    """Mean, log variance, lag-one and cross correlations of the two counts."""
    centred = data - data.mean(axis=0)
    spread = jnp.sqrt(jnp.mean(centred**2, axis=0)) + 1e-3
    scaled = centred / spread
    lagged = jnp.mean(scaled[1:] * scaled[:-1], axis=0)
    return jnp.concatenate(
        [data.mean(axis=0), jnp.log(spread), lagged, jnp.mean(scaled[:, :1] * scaled[:, 1:], axis=0)]
    )


def main(num_particles: int) -> None:
    """Simulate data, infer, print."""
    data = simulate(jax.random.key(7), {name: jnp.asarray(value) for name, value in TRUTH.items()})
    target = smcinfer.simulator(PRIOR, simulate, data, summaries=summaries, least_acceptance=0.05)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=num_particles)
    print(result)
    print(f"tolerance {result.history['tolerance'][0, result.num_steps[0]]:.2f}")
    for name, row in result.summary().loc[list(PRIOR)].iterrows():
        print(f"{name}: {row['mean']:.4g}, sd {row['sd']:.2g}, made by {TRUTH[str(name)]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-particles", type=int, default=500)
    main(parser.parse_args().num_particles)
