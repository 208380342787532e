"""Reading the diagnostics: one run that is fine and one that is not, and where the difference shows.

    python examples/reading_the_diagnostics.py [--out output/diagnostics]

Two far modes under a random walk of few steps: particles cannot change mode, so each run keeps the shares that chance gave
it. The status says so, and the spread between runs says how much it matters.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import smcinfer


def two_modes(separation: float) -> smcinfer.StaticTarget:
    """Equal modes of width 0.1 at plus and minus ``separation``, from a wide normal."""

    def log_likelihood(theta: dict[str, jax.Array]) -> jax.Array:
        x = theta["x"]
        return jnp.logaddexp(
            dist.Normal(separation, 0.1).log_prob(x) - jnp.log(2.0),
            dist.Normal(-separation, 0.1).log_prob(x) - jnp.log(2.0),
        )

    return smcinfer.posterior({"x": dist.Normal(0.0, 5.0)}, log_likelihood)


def main(out: Path, num_particles: int = 512) -> None:
    """Sample both, print the reports, save the figures that tell them apart."""
    out.mkdir(parents=True, exist_ok=True)
    for name, separation in {"one_mode": 0.0, "two_modes": 4.0}.items():
        result = smcinfer.sample(
            jax.random.key(3),
            two_modes(separation),
            num_particles=num_particles,
            kernel="random_walk",
            method=smcinfer.Tempering(moves=smcinfer.Moves(max_steps=20)),
            history="ancestors",
            progress=False,
        )
        print(f"== {name}\n{result}")
        share, se = result.expectation(lambda draw: draw["x"] > 0, with_se=True)
        print(f"share of the right mode {share:.3f} +- {se:.3f}; error bar of log Z from {result.evidence.source}\n")
        smcinfer.plots.plot_ess_temperature(result).savefig(out / f"{name}_ess.png")
        smcinfer.plots.plot_log_z(result).savefig(out / f"{name}_log_z.png")
        smcinfer.plots.plot_genealogy(result).savefig(out / f"{name}_genealogy.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/diagnostics"), help="folder for the figures")
    parser.add_argument("--num-particles", type=int, default=512)
    arguments = parser.parse_args()
    main(arguments.out, arguments.num_particles)
