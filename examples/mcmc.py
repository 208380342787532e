"""Markov chains: one posterior by several kernels, with what each cost, and the draws as ArviZ has them.

    python examples/mcmc.py [--num-draws 500]

The breast-cancer logistic regression, 31 coefficients. Chains learn the covariance from each other during the warm-up.
"""

import argparse

import jax

from smcinfer.models import logistic_regression
from smcinfer.run.chains.run import mcmc


def main(num_draws: int = 500) -> None:
    """Run three kernels, print what each says of itself, then the table of the last."""
    target = logistic_regression.breast_cancer()
    for kernel in ("gibbsian_polar_slice", "hit_and_run", "hmc"):
        chains = mcmc(jax.random.key(0), target, kernel, num_draws=num_draws, num_warmup=1000)
        print(chains)
        per_thousand = 1000 * chains.ess_bulk.value / chains.num_evals.sum()
        print(f"  bulk ESS of the slowest coefficient, per 1000 evaluations: {per_thousand:.2f}\n")
    print(chains.summary().head())
    print(chains.to_arviz())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-draws", type=int, default=500)
    main(parser.parse_args().num_draws)
