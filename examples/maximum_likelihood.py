"""Stochastic volatility by maximum likelihood: three parameters and their standard errors, from the score of a particle filter.

python examples/maximum_likelihood.py [--returns 500]
"""

import argparse
from typing import Any

import jax
import numpyro.distributions as dist

import smcinfer
from smcinfer.models.stochastic_volatility import StochasticVolatility


def main(num_returns: int, num_particles: int, num_steps: int) -> None:
    """Simulate returns, climb, and print what was found beside the truth."""
    truth = StochasticVolatility()
    _, returns = truth.simulate(jax.random.key(0), num_returns - 1)

    def build(theta: Any) -> smcinfer.StateSpace:
        return StochasticVolatility(theta["mu"], theta["rho"], theta["sigma"]).state_space(returns, "guided")

    prior = {"mu": dist.Normal(0.0, 2.0), "rho": dist.Uniform(0.0, 1.0), "sigma": dist.LogNormal(-1.5, 0.5)}
    target = smcinfer.parametric(prior, build)
    found = smcinfer.maximum_likelihood(jax.random.key(1), target, num_particles=num_particles, num_steps=num_steps)
    print(found)
    print(f"simulated with mu {float(truth.mu):.2f}, rho {float(truth.rho):.2f}, sigma {float(truth.sigma):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--returns", type=int, default=500, help="length of the series")
    parser.add_argument("--num-particles", type=int, default=512)
    parser.add_argument("--steps", type=int, default=150, help="steps of the climb")
    arguments = parser.parse_args()
    main(arguments.returns, arguments.num_particles, arguments.steps)
