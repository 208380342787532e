"""A PyMC model as it stands, beside PyMC's own sequential Monte Carlo: log Z and its error, and what it cost.

pip install 'smcinfer[pymc]'
python examples/pymc_model.py [--num-particles 1000] [--out output/pymc_model]
"""

import argparse
from pathlib import Path

import jax
import numpy as np
import pymc as pm

import smcinfer

EFFECT = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
ERROR = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def schools() -> pm.Model:
    """Eight schools, non-centred."""
    with pm.Model(coords={"school": list("ABCDEFGH")}) as model:
        error = pm.Data("error", ERROR, dims="school")
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        z = pm.Normal("z", dims="school")
        theta = pm.Deterministic("theta", mu + tau * z, dims="school")
        pm.Normal("effect", theta, error, observed=EFFECT, dims="school")
    return model


def main(out: Path, num_particles: int) -> None:
    """Sample by both."""
    out.mkdir(parents=True, exist_ok=True)
    model = schools()
    result = smcinfer.sample(jax.random.key(0), smcinfer.from_pymc(model), num_particles=num_particles)
    print(result)
    tree = result.to_arviz(groups="all")
    print(tree["posterior/theta"].mean(("chain", "draw")).to_series().round(2).to_dict())
    tree.to_netcdf(out / "tree.nc", engine="h5netcdf")
    with model:
        peer = pm.sample_smc(draws=num_particles, chains=4, cores=1, progressbar=False, random_seed=0)
    last = [np.asarray(chain)[-1] for chain in peer["sample_stats"]["log_marginal_likelihood"].values]
    print(f"pm.sample_smc: log Z {np.mean(last):.3f}, spread of four chains {np.std(last, ddof=1):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-particles", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("output/pymc_model"))
    arguments = parser.parse_args()
    main(arguments.out, arguments.num_particles)
