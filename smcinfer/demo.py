"""The demonstration: a posterior on real data, its evidence with an error bar, and its plots, in one command."""

from pathlib import Path

import jax
from rich.console import Console

from smcinfer import api
from smcinfer.models import logistic_regression

SEED = 2024
NUM_PARTICLES = 2048
NUM_RUNS = 4


def main(out: Path, num_particles: int = NUM_PARTICLES, num_runs: int = NUM_RUNS) -> int:
    """Logistic regression on the breast-cancer data: sample it, print it, save it, plot it.

    Args:
        out: an existing folder, for ``run.nc`` and the figures.
        num_particles, num_runs: the size of the run.

    Returns:
        The exit code: 0, or 1 where the run's status is serious.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    reference, reference_se = logistic_regression.REFERENCE_LOG_Z, logistic_regression.REFERENCE_LOG_Z_SE
    console.print(
        "Bayesian logistic regression on 569 biopsies: 30 standardised features and an intercept, prior N(0, 5^2) on each.\n"
        f"{num_runs} runs of {num_particles} particles are tempered from the prior to the posterior and moved by HMC.\n"
    )
    result = api.sample(
        jax.random.key(SEED),
        logistic_regression.breast_cancer(),
        num_particles=num_particles,
        num_runs=num_runs,
        kernel="hmc",
        history="ancestors",
    )
    console.print(str(result))
    console.print(f"\nlog Z by importance sampling, for comparison: {reference} +- {reference_se}\n")
    console.print(result.summary().to_string(float_format=lambda value: f"{value:.3g}", max_rows=12))
    console.print(f"\nsaved {result.save(out / 'run.nc')}")
    # Matplotlib and ArviZ take seconds to import, and only figures need them.
    from smcinfer import plots

    for path in plots.save_all(result, out):
        console.print(f"saved {path}")
    return int(result.serious)
