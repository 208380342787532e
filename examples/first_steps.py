"""First steps: a target is a Python function; sample it, read log Z, look at it with ArviZ.

    python examples/first_steps.py [--out output/first_steps]

Eight schools: the effects of coaching in eight schools, partially pooled. The numpyro model is the target as it stands.
"""

import argparse
from pathlib import Path

import jax
import numpyro
import numpyro.distributions as dist

import smcinfer

EFFECT = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
ERROR = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def model(effect, error) -> None:  # noqa: ANN001
    """Non-centred eight schools."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(effect)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("y", dist.Normal(theta, error), obs=effect)


def main(out: Path, num_particles: int = 2000) -> None:
    """Sample, print, save and plot."""
    out.mkdir(parents=True, exist_ok=True)
    effect, error = jax.numpy.array(EFFECT), jax.numpy.array(ERROR)
    target = smcinfer.from_numpyro(model, effect, error)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=num_particles, history="ancestors")
    print(result)
    print(result.summary())
    mean, se = result.expectation(lambda draw: draw["theta"][0] > draw["theta"][2], with_se=True)
    print(f"P(school A better than school C) = {mean:.3f} +- {se:.3f}")
    result.save(out / "eight_schools.nc")
    for path in smcinfer.plots.save_all(result, out):
        print(f"saved {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("output/first_steps"), help="folder for the result and figures"
    )
    parser.add_argument("--num-particles", type=int, default=2000)
    arguments = parser.parse_args()
    main(arguments.out, arguments.num_particles)
