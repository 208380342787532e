"""Figures of language models, diffusion models and learned proposals, for `docs/figures.py`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import smcinfer
from examples.constraints import compare
from smcinfer import bounds, diffusion, language, plots, proposals, twists
from smcinfer.diffusion import discrete, initial
from smcinfer.graphs.block_exact import single_sites
from smcinfer.graphs.block_gibbs import BlockGibbs
from smcinfer.graphs.inference.curves import error_curve
from smcinfer.models import digits, gaussian_mixtures, masked_digits, stories, syntactic_control, tagging_crf
from smcinfer.models import open_mixture as om
from smcinfer.models.binary_grids import binary_grid
from smcinfer.models.stochastic_volatility import StochasticVolatility
from smcinfer.models.tagging_crf import inference
from smcinfer.models.tagging_crf.plot import plot_marginals
from smcinfer.plots import style
from smcinfer.plots.endings import plot_endings
from smcinfer.proposals import chain_tags


def language_bounds() -> Figure:
    """Bounds from both sides against the number of particles."""

    def rising(t: jax.Array, state: language.TokenState) -> jax.Array:
        before = state.tokens[jnp.maximum(t - 2, 0)]
        return jnp.where((t > 1) & (state.last_token < before), -2.0, 0.0)

    lm = language.table_lm(jax.random.key(0), vocab_size=8, order=2)
    target = language.generation(lm, [3], rising, max_tokens=6, eos_id=None)
    exact = language.exact.enumerated(target)
    table = bounds.by_particles(jax.random.key(1), target, exact, (1, 4, 16, 64), num_runs=64)
    return plots.plot_bounds(table, log_z=exact.log_z)


def story() -> Figure:
    """What an ending is worth after stories told without it in mind, and after those drawn given it."""
    target = language.generation(
        stories.load(),
        "Once upon a time, there was a little dog named Max.",
        max_tokens=30,
        continuation=" Max was happy and went home.",
        eos_id=None,
    )
    result = smcinfer.sample(jax.random.key(0), target, num_particles=256, num_runs=4, progress=False)
    return plot_endings(target, result)


def constraints() -> Figure:
    """Twelve endings: exact, by masking alone, by SMC."""
    return compare(stories.load(), 64)


def diffusion_modes() -> Figure:
    """Nine modes, one corner measured."""
    nine = gaussian_mixtures.nine_modes()
    model = nine.model(diffusion.Cosine())
    seen = diffusion.measurement(lambda x: x, [4.5, 4.5], 0.2, data_std=3.3)
    how = {"kernel": "euler_maruyama"}
    density = nine.noised(model.schedule)
    targets = {
        "importance sampling": diffusion.alignment(model, seen, look="none", **how),
        "twisted": diffusion.alignment(model, seen, proposal="gradient", **how),
        "power two": diffusion.power(model, 2.0, num_steps=100, data_std=3.3, log_density=density),
    }
    figure = style.new_figure(height=3.2)
    with style.styled():
        for axes, (name, target) in zip(figure.subplots(1, 3, sharey=True), targets.items(), strict=True):
            result = smcinfer.sample(jax.random.key(0), target, num_particles=1000, progress=False)
            axes.plot(*np.asarray(nine.draw(jax.random.key(1), 2000)).T, ".", color="0.85", markersize=2)
            axes.plot(*result.draws(0, 500)["x"].T, ".", markersize=2)
            axes.set_title(name, fontsize=8)
    return figure


def masked_pixels() -> Figure:
    """Digits in black and white pixel by pixel, as the model writes them and asked for ink on the left."""
    side = jnp.where(jnp.arange(digits.DIM) % digits.SIDE < digits.SIDE // 2, 0.4, -0.4)
    relaxed = lambda rows: side @ rows[:, masked_digits.INK]  # noqa: E731
    model, reward = masked_digits.load(), discrete.on_tokens(relaxed, masked_digits.VOCAB)
    looking = {"twist": discrete.RelaxedTwist(relaxed), "tilt": discrete.GradientTilt(relaxed)}
    targets = {
        "as the model writes them": discrete.alignment(model, None),
        "asked for ink on the left": discrete.alignment(model, reward, guide_order="confidence", **looking),
    }
    drawn = {}
    for name, target in targets.items():
        result = smcinfer.sample(jax.random.key(2), target, num_particles=64, num_runs=2, progress=False)
        drawn[name] = result.draws(0, 24)["tokens"]
    return plots.plot_samples(drawn)


def initial_particles() -> Figure:
    """Digits between 3 and 8 from plain noise and from chains on the noise."""
    found = digits.load()
    reward = lambda x: 0.5 * (found.reward(x)[3] + found.reward(x)[8])  # noqa: E731
    path = diffusion.alignment(found.straight, reward, 0.5, num_steps=10, kernel=diffusion.DDIM(0.1))
    chains = initial.chains(jax.random.key(0), path, num_tries=10, num_steps=10)
    drawn = {}
    for name, target in {"from plain noise": path, "from chains on the noise": chains}.items():
        result = smcinfer.sample(jax.random.key(1), target, num_particles=64, num_runs=2, progress=False)
        drawn[name] = np.clip(result.draws(0, 24)["x"], -1.0, 1.0)
    return plots.plot_samples(drawn)


def learned_proposals() -> Figure:
    """Error of the marginals of a grid against time, by kind of move."""
    grid = binary_grid(jax.random.key(100))
    exact, graph = np.asarray(grid.marginals()).ravel(), grid.graph()
    sites = single_sites(graph)
    kinds = {"single site": (sites,), "learned blocks": (proposals.load("grid").moves(graph), sites)}
    curves = {}
    for name, moves in kinds.items():
        sweeps = 50 if len(moves) == 1 else 1
        curves[name] = error_curve(jax.random.key(1), graph, BlockGibbs(moves), exact, seconds=5.0, sweeps=sweeps)
    return plots.plot_error_curves(curves)


def syntactic_control_ess() -> Figure:
    """What is left of the particles after each word, by how words are proposed."""
    control = syntactic_control.load()
    tree = "(S (NP (DT) (JJ) (NN)) (VP (VBD) (PP (IN) (NP (DT) (NN)))) (. .))"
    ways = {
        "tree at the end only": {"causal": False, "proposal": "lm"},
        "causal twist": {"proposal": "lm"},
        "with mixture": {"proposal": "mixture"},
        "with product": {"proposal": "product"},
    }
    with style.styled():
        figure = style.new_figure(height=3.5)
        axes = figure.add_subplot()
        for number, (name, options) in enumerate(ways.items()):
            result = smcinfer.sample(
                jax.random.key(0),
                control.target(tree, **options),
                num_particles=64,
                num_runs=16,
                progress=False,
            )
            left = np.asarray(result.history["ess"]).mean(axis=0) / 64
            axes.plot(left, color=style.PALETTE[number], label=name)
        axes.set_ylim(0.0, 1.02)
        axes.legend()
        style.finish(axes, xlabel="words", ylabel="effective share of particles", title="64 particles, mean of 16 runs")
    return figure


def open_mixture() -> Figure:
    """Where chains of both kinds stand, and how they got there."""
    data, _ = om.simulate(jax.random.key(1), 60, 5)
    model = om.open_mixture(data, num_slots=8)
    learned = om.InTurn((om.Gibbs(), proposals.load("mixture_pair")))
    figure = style.new_figure(height=3.2)
    with style.styled():
        left, right = figure.subplots(1, 2)
        left.plot(data[:, 0], data[:, 1], ".", color=style.FAINT)
        for (name, move), colour in zip(
            {"single sites": om.Gibbs(), "with learned pairs": learned}.items(), style.PALETTE, strict=False
        ):
            chains = om.run_chains(jax.random.key(3), model, move, num_draws=40, progress=False)
            owned = jax.vmap(model.counts)(chains.state.labels) > 0
            means = np.asarray(chains.state.means)[np.asarray(owned)]
            left.plot(means[:, 0], means[:, 1], "x", color=colour, markersize=5, label=name)
            right.plot(chains.draws["log_likelihood"].mean(axis=0), color=colour, label=name)
        left.legend(loc="best")
        right.set(xlabel="step", ylabel="log likelihood")
    return figure


def named_entities() -> Figure:
    """Marginals of the tags of one sentence."""
    field = tagging_crf.load()
    words = [tuple("RT @anna : Kim Gordon plays in Chicago tonight".split())]
    graph = field.graph(words)
    kernel = inference.tag_kernel(graph, chain_tags.load("chain_2").moves(graph))
    tagged = inference.tag(jax.random.key(0), graph, kernel, num_sweeps=100, num_chains=16)
    return plot_marginals(words[0], tagged.marginals, field.tags)


def learned_twists() -> Figure:
    """How far log Z varies: bootstrap, guided, learned."""
    truth = StochasticVolatility()
    _, returns = truth.simulate(jax.random.key(0), 100)
    plain = truth.state_space(returns)
    learned = twists.learn(jax.random.key(1), plain, "controlled", num_particles=256, num_steps=3)
    models = {"bootstrap": plain, "guided": truth.state_space(returns, "guided"), "twisted": learned.attach(plain)}
    with style.styled():
        figure = style.new_figure(width=6.0, height=4.0)
        axes = figure.subplots()
        for name, model in models.items():
            spread = [np.std(smcinfer.run(jax.random.key(2), model, num, num_runs=64).log_z) for num in (16, 128)]
            axes.loglog((16, 128), spread, marker="o", label=name)
        style.finish(axes, xlabel="particles N", ylabel="sd of log Z (nats)", title="stochastic volatility")
        axes.legend()
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "language_bounds": language_bounds,
    "story": story,
    "constraints": constraints,
    "diffusion": diffusion_modes,
    "masked_digits": masked_pixels,
    "initial_particles": initial_particles,
    "learned_proposals": learned_proposals,
    "syntactic_control_ess": syntactic_control_ess,
    "learned_twists": learned_twists,
    "open_mixture": open_mixture,
    "named_entities": named_entities,
}
"""File name and function of each."""
