"""Learned twists: a volatility model whose filter looks ahead, learned in a few rounds of its own runs.

    python examples/learned_twists.py [--out output/learned_twists] [--steps 200]

The same returns are filtered by the bootstrap filter, by a guide that sees one return, and by the learned twist, which sees
them all; the figure shows how far log Z varies between runs at each number of particles.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

import smcinfer
from smcinfer import twists
from smcinfer.core.compose import Composed
from smcinfer.models.stochastic_volatility import StochasticVolatility
from smcinfer.plots.style import finish, new_figure, styled


def filters(num_steps: int) -> tuple[dict[str, Composed], twists.Learned]:
    """Three ways to filter one series, and what was learned."""
    truth = StochasticVolatility()
    _, returns = truth.simulate(jax.random.key(0), num_steps)
    plain = truth.state_space(returns)
    learned = twists.learn(jax.random.key(1), plain, "controlled", num_particles=256, num_steps=4)
    return {
        "bootstrap": plain,
        "guided": truth.state_space(returns, "guided"),
        "twisted": learned.attach(plain),
    }, learned


def draw(spreads: dict[str, dict[int, float]]) -> Figure:
    """Standard deviation of log Z against the number of particles."""
    with styled():
        figure = new_figure(width=6.0, height=4.0)
        axes = figure.subplots()
        for name, by_size in spreads.items():
            axes.loglog(list(by_size), list(by_size.values()), marker="o", markersize=4, label=name)
        finish(axes, xlabel="particles N", ylabel="sd of log Z (nats)", title="stochastic volatility")
        axes.legend(loc="best")
    return figure


def main(out: Path, num_steps: int) -> None:
    """Learn, filter at several sizes, draw."""
    out.mkdir(parents=True, exist_ok=True)
    models, learned = filters(num_steps)
    print(learned)
    spreads: dict[str, dict[int, float]] = {}
    for name, model in models.items():
        spreads[name] = {}
        for size in (16, 64, 256):
            done = smcinfer.run(jax.random.key(2), model, size, num_runs=64)
            spreads[name][size] = float(np.std(done.log_z, ddof=1))
        print(f"{name:10s} sd of log Z", "  ".join(f"N={size}: {sd:.4f}" for size, sd in spreads[name].items()))
    draw(spreads).savefig(out / "spread.png")
    print(f"saved {out / 'spread.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/learned_twists"), help="folder for the figure")
    parser.add_argument("--steps", type=int, default=200, help="length of the series of returns")
    arguments = parser.parse_args()
    main(arguments.out, arguments.steps)
