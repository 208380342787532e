"""Evidence that two paths sign: tempering checked by levels on problems whose log Z is known.

    python examples/evidence.py [--num-particles 1024]

The spike is what tempering misses; on the small region most of its runs find nothing at all.
"""

import argparse

import jax

import smcinfer
from smcinfer.models import evidence_problems

PROBLEMS = ("spike_5", "shells_2", "log_gamma_2", "truncated", "small_region")


def main(num_particles: int = 1024) -> None:
    """Run every problem and print a table."""
    print(f"{'problem':<14}{'exact':>9}{'tempering':>17}{'levels':>17}  status")
    for name in PROBLEMS:
        problem = evidence_problems.EXAMPLES[name]()
        result = smcinfer.sample(
            jax.random.key(0),
            problem.target,
            num_particles=num_particles,
            kernel="random_walk",
            check="nested",
            progress=False,
        )
        assert result.check is not None
        both = [f"{value:.2f} ± {error:.2f}" for value, error in ((result.log_z, result.log_z_se), result.check[1:3])]
        print(f"{name:<14}{problem.log_z:9.2f}{both[0]:>17}{both[1]:>17}  {result.status.name or 'OK'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-particles", type=int, default=1024)
    main(parser.parse_args().num_particles)
