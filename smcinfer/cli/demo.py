"""The demonstration: a posterior on real data and a filter of hidden volatility, with error bars and plots, in one command."""

from pathlib import Path

import jax
from rich.console import Console

from smcinfer import api
from smcinfer.cli.options import command
from smcinfer.cli.output import console, new_folder
from smcinfer.models import logistic_regression, stochastic_volatility
from smcinfer.results import Result

SEED = 2024
NUM_PARTICLES = 2048
NUM_RUNS = 4
NUM_RETURNS = 300


@command
def demo(*, out: Path = Path("output/demo"), force: bool = False) -> int:
    """Run the demonstration.

    Args:
        out: folder for its files.
        force: overwrite the files of an earlier demonstration.

    Returns:
        The exit code.
    """
    return main(new_folder(out, force, "*.nc"))


def main(out: Path, num_particles: int = NUM_PARTICLES, num_runs: int = NUM_RUNS) -> int:
    """Logistic regression on the breast-cancer data, and a filter: sample, print, save and plot them.

    Args:
        out: an existing folder, for ``run.nc`` and ``filter.nc`` and the figures.
        num_particles, num_runs: the size of the run.

    Returns:
        The exit code: 0, or 1 where the status of one of them is serious.
    """
    plain = console()
    reference, reference_se = logistic_regression.REFERENCE_LOG_Z, logistic_regression.REFERENCE_LOG_Z_SE
    plain.print(
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
    plain.print(str(result))
    plain.print(f"\nlog Z by importance sampling, for comparison: {reference} +- {reference_se}\n")
    plain.print(result.summary().to_string(float_format=lambda value: f"{value:.3g}", max_rows=12))
    plain.print(f"\nsaved {result.save(out / 'run.nc')}")
    # Matplotlib and ArviZ take seconds to import, and only figures need them.
    from smcinfer import plots

    for path in plots.save_all(result, out):
        plain.print(f"saved {path}")
    filtered = _filter(plain, out, num_particles, num_runs)
    return int(result.serious or filtered.serious)


def _filter(plain: Console, out: Path, num_particles: int, num_runs: int) -> Result:
    """The hidden log variance of simulated returns, filtered: the truth is known, and so is how good the bands are."""
    from smcinfer import plots

    model = stochastic_volatility.StochasticVolatility()
    truth, returns = model.simulate(jax.random.key(SEED), NUM_RETURNS)
    plain.print(f"\nStochastic volatility: {NUM_RETURNS + 1} simulated returns, their hidden log variance filtered.\n")
    target = model.state_space(returns, quantiles=(0.05, 0.5, 0.95))
    result = api.sample(jax.random.key(SEED + 1), target, num_particles=num_particles, num_runs=num_runs)
    plain.print(str(result))
    plain.print(f"\nsaved {result.save(out / 'filter.nc')}")
    figure = plots.plot_filter(result, truth=truth, data=returns)
    figure.savefig(out / "filter.png")
    plain.print(f"saved {out / 'filter.png'}")
    return result
