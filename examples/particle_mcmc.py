"""Unknown parameters: the persistence and the roughness of a hidden volatility, by three methods.

    python examples/particle_mcmc.py [--method particle_gibbs|pmmh|smc2] [--out output/particle_mcmc] [--steps 100]

Returns are simulated, so the truth is known. Particle Gibbs draws parameters and paths, PMMH parameters, SMC2 the evidence too.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from smcinfer.state_space import simulate, state_space
from smcinfer.state_space.parameters.gibbs import particle_gibbs
from smcinfer.state_space.parameters.parametric import Parametric, parametric
from smcinfer.state_space.parameters.pmmh import pmmh
from smcinfer.state_space.parameters.smc2 import smc2

TRUTH = {"persistence": 0.9, "roughness": 0.4}
PRIOR = {"persistence": dist.Uniform(0.0, 1.0), "roughness": dist.HalfNormal(1.0)}


def parts(theta: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Log variance as an autoregression; returns without mean."""
    a, q = theta["persistence"], theta["roughness"]
    return (
        dist.Normal(0.0, q / jnp.sqrt(1.0 - a**2)),
        lambda t, x: dist.Normal(a * x, q),
        lambda t, x: dist.Normal(0.0, jnp.exp(x / 2)),
    )


def target(num_steps: int) -> Parametric:
    """The model of simulated returns with its parameters unknown."""
    _, returns = simulate(jax.random.key(0), *parts(TRUTH), num_steps)
    return parametric(PRIOR, lambda theta: state_space(*parts(theta), returns))


def main(method: str, out: Path, num_steps: int) -> None:
    """Sample, print, save."""
    out.mkdir(parents=True, exist_ok=True)
    model = target(num_steps)
    run = {"particle_gibbs": particle_gibbs, "pmmh": pmmh, "smc2": smc2}[method]
    found = run(jax.random.key(1), model)
    print(found)
    print(found.summary().loc[list(TRUTH)])
    print("truth:", TRUTH)
    print(f"saved {found.save(out / f'{method}.nc')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=["particle_gibbs", "pmmh", "smc2"], default="particle_gibbs")
    parser.add_argument("--out", type=Path, default=Path("output/particle_mcmc"), help="folder for the draws")
    parser.add_argument("--steps", type=int, default=100, help="length of the series of returns")
    arguments = parser.parse_args()
    main(arguments.method, arguments.out, arguments.steps)
