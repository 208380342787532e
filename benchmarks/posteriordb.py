"""Every posterior of a posteriordb folder against its reference draws: means, standard deviations, log Z.

    python -m benchmarks.posteriordb [--quick] [--folder ../shared/data/posteriordb]

For each parameter, the error of the posterior mean in reference standard deviations and the ratio of standard deviations;
a posterior passes where every mean is within 0.1 and every standard deviation within 10%. Log Z is beside its exact or
importance-sampled value. ``--quick`` takes three posteriors.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from benchmarks.timing import print_json
from smcinfer.api import sample
from smcinfer.models import posteriordb

QUICK = ("eight_schools-eight_schools_noncentered", "kidiq-kidscore_momhs", "hmm_example-hmm_example")


def compare(folder: Path, name: str, num_particles: int) -> dict[str, float | str]:
    """Sample one posterior and compare it with its reference draws."""
    posterior = posteriordb.load(folder, name)
    result = sample(jax.random.key(1), posterior.target, num_particles=num_particles, progress=False)
    weights = np.exp(result.pooled_log_weights)
    worst_mean, worst_sd = 0.0, 0.0
    for variable, draws in posterior.reference_draws().items():
        reference = np.asarray(draws, np.float64)
        reference = reference.reshape(-1, *reference.shape[2:])  # chains and draws together
        spread = reference.std(axis=0)
        values = np.asarray(result.particles[variable], np.float64)
        mean = np.einsum("rn,rn...->...", weights, values)
        sd = np.sqrt(np.einsum("rn,rn...->...", weights, (values - mean) ** 2))
        worst_mean = max(worst_mean, float(np.max(np.abs(mean - reference.mean(axis=0)) / spread)))
        worst_sd = max(worst_sd, float(np.max(np.abs(sd / spread - 1))))
    exact, exact_se = posterior.log_z()
    return {
        "mean_error_sd": worst_mean,
        "sd_error": worst_sd,
        "log_z": result.log_z,
        "log_z_se": result.log_z_se,
        "log_z_error": result.log_z - exact,
        "log_z_reference_se": exact_se,
        "seconds": result.seconds,
        "status": str(int(result.status)),
    }


def main() -> None:
    """Print a row a posterior, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three posteriors")
    parser.add_argument("--folder", type=Path, default=Path("../shared/data/posteriordb"), help="a posteriordb folder")
    parser.add_argument("--num-particles", type=int, default=2048)
    args = parser.parse_args()
    if not args.folder.is_dir():
        print(f"no posteriordb folder at {args.folder}: name one with --folder")
        print_json({"posteriors": 0})
        return
    table = {}
    print(f"{'posterior':<44}{'mean':>7}{'sd':>7}{'log Z':>11}{'s.e.':>7}{'error':>8}{'s':>7}  status")
    for name in QUICK if args.quick else posteriordb.names(args.folder):
        row = compare(args.folder, name, args.num_particles)
        table[name] = row
        print(
            f"{name:<44}{row['mean_error_sd']:7.3f}{row['sd_error']:7.3f}{row['log_z']:11.3f}{row['log_z_se']:7.3f}"
            f"{row['log_z_error']:8.3f}{row['seconds']:7.1f}  {row['status']}",
            flush=True,
        )
    passed = sum(row["mean_error_sd"] < 0.1 and row["sd_error"] < 0.1 for row in table.values())
    print_json({"passed": passed, "posteriors": len(table), "table": table})


if __name__ == "__main__":
    main()
