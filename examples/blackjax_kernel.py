"""Bring your own blackjax kernel: any blackjax sampler moves the particles, and any smcinfer kernel runs in blackjax.

python examples/blackjax_kernel.py [--num-particles 1024]
"""

import argparse

import blackjax
import jax
import jax.numpy as jnp

import smcinfer
from smcinfer.models import logistic_regression


def main(num_particles: int = 1024) -> None:
    """Temper with a Barker proposal and with NUTS from blackjax, then run smcinfer's HMC inside blackjax's loop."""
    target = logistic_regression.breast_cancer()
    kernels = {
        "barker (blackjax)": smcinfer.kernels.from_blackjax(blackjax.barker_proposal, step_size=0.5),
        "nuts (blackjax)": smcinfer.kernels.from_blackjax(blackjax.nuts, step_size=0.6),
    }
    for name, kernel in kernels.items():
        result = smcinfer.sample(
            jax.random.key(0),
            target,
            num_particles=num_particles,
            num_runs=2,
            kernel=kernel,
            method=smcinfer.Tempering(moves=smcinfer.Moves(max_steps=30)),
            progress=False,
        )
        print(f"== {name}\n{result}\n")

    # The other way: one of smcinfer's kernels as a blackjax SamplingAlgorithm on a plain log density.
    algorithm = smcinfer.kernels.as_blackjax(smcinfer.kernels.HMC(), lambda x: -0.5 * jnp.sum((x - 1.0) ** 2))
    state = algorithm.init(jnp.zeros(2))
    step = jax.jit(algorithm.step)
    total = jnp.zeros(2)
    for key in jax.random.split(jax.random.key(1), 500):
        state, _ = step(key, state)
        total += state.position
    print(f"mean of N(1, I) by smcinfer's HMC in a blackjax loop: {total / 500}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-particles", type=int, default=1024)
    main(parser.parse_args().num_particles)
