"""Forecasting daily counts: bands of the next two weeks, and scores beside those of a constant rate.

    python examples/forecasting.py [--out output/forecasting] [--days 120]

Counts of visitors whose log rate wanders, simulated; the last two weeks are kept back and scored.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from numpyro.distributions import Distribution

import smcinfer
from smcinfer.ground.arrays import Scalar, Time
from smcinfer.results.scores import crps
from smcinfer.state_space import simulate, state_space

HORIZON = 14
INITIAL = dist.Normal(3.0, 0.5)


def transition(t: Time, x: Scalar) -> Distribution:
    """The log rate goes back to its mean, slowly."""
    return dist.Normal(3.0 + 0.9 * (x - 3.0), 0.15)


def observation(t: Time, x: Scalar) -> Distribution:
    """Visitors of one day."""
    return dist.Poisson(jnp.exp(x))


def main(out: Path, num_days: int, num_particles: int) -> None:
    """Filter all but the last two weeks, forecast those, draw and score the forecast."""
    out.mkdir(parents=True, exist_ok=True)
    _, counts = simulate(jax.random.key(0), INITIAL, transition, observation, num_days - 1)
    visitors = pd.Series(np.asarray(counts), pd.date_range("2024-03-01", periods=num_days))
    past, future = visitors[:-HORIZON], visitors[-HORIZON:]
    model = state_space(INITIAL, transition, observation, past)
    result = smcinfer.sample(jax.random.key(1), model, num_particles=num_particles)
    forecast = result.forecast(HORIZON, num_draws=2000)
    print(forecast)
    flat = np.random.default_rng(0).poisson(past.mean(), size=(2000, HORIZON))
    print(f"CRPS {forecast.crps(future).mean():.2f} visitors, of a constant rate {crps(flat, future).mean():.2f}")
    print(f"log score of a day {forecast.log_score(future).mean():.2f} nats")
    smcinfer.plots.plot_forecast(forecast, data=past[-30:], outcome=future).savefig(out / "forecast.png")
    print(f"saved {out / 'forecast.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/forecasting"), help="folder for the figure")
    parser.add_argument("--days", type=int, default=120, help="length of the series")
    parser.add_argument("--num-particles", type=int, default=4096)
    arguments = parser.parse_args()
    main(arguments.out, arguments.days, arguments.num_particles)
