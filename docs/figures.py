"""Draws the figures that the pages show, into docs/figures."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import smcinfer
from smcinfer import plots

FOLDER = Path(__file__).resolve().parent / "figures"


def straight_line() -> smcinfer.Result:
    """The run of the first example."""
    x = jnp.linspace(-2.0, 2.0, 20)
    y = 1.0 + 0.5 * x + 0.3 * jnp.sin(9.0 * x)
    prior = {"line": dist.Normal(0.0, 2.0).expand([2]).to_event(1), "noise": dist.HalfNormal(1.0)}

    def log_likelihood(theta: dict[str, jax.Array]) -> jax.Array:
        return dist.Normal(theta["line"][0] + theta["line"][1] * x, theta["noise"]).log_prob(y).sum()

    target = smcinfer.posterior(prior, log_likelihood)
    return smcinfer.sample(jax.random.key(0), target, num_particles=1000, progress=False)


def main() -> None:
    """Draw every figure."""
    FOLDER.mkdir(exist_ok=True)
    result = straight_line()
    figures = {"ess_temperature": plots.plot_ess_temperature(result), "log_z": plots.plot_log_z(result)}
    for name, figure in figures.items():
        figure.savefig(FOLDER / f"{name}.png", dpi=120)
        print(f"drew {FOLDER.name}/{name}.png")


if __name__ == "__main__":
    main()
