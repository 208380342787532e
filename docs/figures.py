"""Draws the figures that the pages show, into docs/figures; all of them, or those that are named."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from matplotlib.figure import Figure

import smcinfer
from docs.figures_families import FIGURES
from smcinfer import plots
from smcinfer.kernels import GibbsianPolarSlice
from smcinfer.models import hard_targets
from smcinfer.models.beat_tracker import synthetic_song, track
from smcinfer.models.beat_tracker.plots import plot_beats
from smcinfer.plots import style
from smcinfer.run.chains.run import mcmc
from smcinfer.state_space import simulate, state_space

FOLDER = Path(__file__).resolve().parent / "figures"


def straight_line() -> smcinfer.Result:
    """The run of the first example."""
    x = jnp.linspace(-2.0, 2.0, 20)
    y = 1.0 + 0.5 * x + 0.3 * jnp.sin(9.0 * x)
    prior = {"line": dist.Normal(0.0, 2.0).expand([2]).to_event(1), "noise": dist.HalfNormal(1.0)}

    def log_likelihood(theta: dict[str, jax.Array]) -> jax.Array:
        return dist.Normal(theta["line"][0] + theta["line"][1] * x, theta["noise"]).log_prob(y).sum()

    target = smcinfer.posterior(prior, log_likelihood)
    return smcinfer.sample(jax.random.key(0), target, num_particles=1000, progress=False)


def volatility() -> Figure:
    """The bands of the page on filtering."""
    mu, rho, sigma = -1.0, 0.97, 0.2
    parts = (
        dist.Normal(mu, sigma / (1 - rho**2) ** 0.5),
        lambda t, x: dist.Normal(mu + rho * (x - mu), sigma),
        lambda t, x: dist.Normal(0.0, jnp.exp(x / 2)),
    )
    truth, returns = simulate(jax.random.key(0), *parts, 200)
    model = state_space(*parts, returns, quantiles=(0.05, 0.5, 0.95))
    result = smcinfer.sample(jax.random.key(1), model, num_particles=2000, progress=False)
    return plots.plot_filter(result, truth=truth, data=returns)


def smoothed() -> Figure:
    """The bands of the page on smoothing."""
    parts = (
        dist.Normal(0.0, 1.0),
        lambda t, x: dist.Normal(0.9 * x, 0.4),
        lambda t, x: dist.Normal(x, 0.6),
    )
    truth, data = simulate(jax.random.key(0), *parts, 50)
    found = smcinfer.smooth(jax.random.key(1), state_space(*parts, data), num_particles=300)
    return plots.plot_smoothed(found, truth=truth, data=data)


def beats() -> Figure:
    """The figure of the page on beat tracking."""
    song = synthetic_song(jax.random.key(2), meter=3)
    heard = track(jax.random.key(0), song.strengths, song.downbeat_strengths)
    return plot_beats(song.strengths, song.frame_rate, found=heard.beats, truth=song.beats)


def heavy_tails() -> Figure:
    """The figure of the page on move kernels: who leaves the radius where it starts."""
    exact = hard_targets.cauchy(100)
    initial = exact.draw(jax.random.key(0), 32)
    kernels = {
        "gibbsian_polar_slice": GibbsianPolarSlice(affine=False),
        "random_walk": "random_walk",
        "hmc": "hmc",
    }
    figure = style.new_figure(height=3.5)
    with style.styled():
        axes = figure.subplots()
        for (name, kernel), colour in zip(kernels.items(), style.PALETTE, strict=False):
            chains = mcmc(jax.random.key(1), exact.log_density, kernel, initial=initial, num_chains=32, num_draws=300)
            radius = np.linalg.norm(chains.draws["theta"][0], axis=-1)
            axes.semilogy(radius, color=colour, linewidth=1.0, label=name)
        axes.set(xlabel="step", ylabel="radius")
        axes.legend(loc="upper right")
    return figure


def two_modes() -> Figure:
    """The figure of the page on parallel tempering: a chain alone, and the top rung of a ladder."""
    centres, shares = jnp.array([-3.0, 3.0]), jnp.array([0.2, 0.8])
    log_mixture = lambda x: jax.nn.logsumexp(jnp.log(shares) + dist.Normal(centres, 0.3).log_prob(x))  # noqa: E731
    target = smcinfer.log_density(log_mixture, dist.Normal(0.0, 4.0))
    size: dict[str, Any] = {"num_chains": 16, "num_draws": 300, "num_warmup": 300, "progress": False}
    alone = mcmc(jax.random.key(0), target, "random_walk", **size)
    ladders = smcinfer.parallel_tempering(jax.random.key(0), target, "random_walk", num_rungs=6, **size)
    figure = style.new_figure(height=3.0)
    with style.styled():
        for axes, found, title in zip(
            figure.subplots(1, 2, sharey=True), (alone, ladders), ("alone", "top rung"), strict=True
        ):
            axes.plot(found.draws["theta"][0], ".", markersize=3)
            axes.set(xlabel="draw", title=title)
        figure.axes[0].set_ylabel("x")
    return figure


def main() -> None:
    """Draw the figures."""
    FOLDER.mkdir(exist_ok=True)
    line = straight_line()
    figures = {
        "ess_temperature": lambda: plots.plot_ess_temperature(line),
        "log_z": lambda: plots.plot_log_z(line),
        "filter": volatility,
        "smoothed": smoothed,
        "beats": beats,
        "heavy_tails": heavy_tails,
        "parallel_tempering": two_modes,
        **FIGURES,
    }
    wanted = sys.argv[1:] or list(figures)
    for name in wanted:
        figures[name]().savefig(FOLDER / f"{name}.png", dpi=120)
        print(f"drew {FOLDER.name}/{name}.png", flush=True)


if __name__ == "__main__":
    main()
