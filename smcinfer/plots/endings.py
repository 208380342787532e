"""How well generated text leads to the continuation that it must have."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.ground.errors import ArgumentError
from smcinfer.language import Generation, LanguageProcess, generation
from smcinfer.language.proposals.forced import FREE
from smcinfer.plots import style
from smcinfer.results.estimates import Estimates
from smcinfer.run.runner import run

NUM_TOLD = 1024


def plot_endings(target: Generation, result: Estimates, seed: int = 0) -> Figure:
    """What the given continuation is worth after text of the model alone, and after text drawn given it.

    Args:
        target: a generation with a ``continuation``, of sequences that have no end of their own (``eos_id=None``).
        result: what `smcinfer.sample` made of it.
        seed: of the texts that the model writes with nothing asked.

    Returns:
        Two histograms of log p(continuation | text before it), the second one weighted.
    """
    process: Any = target.process
    potential: Any = target.potential
    if potential.given.tokens is None or process.eos_id is not None:
        raise ArgumentError("nothing is given that all texts end with", expected="continuation=..., eos_id=None")
    given = np.asarray(potential.given.tokens)
    ending, size = given[given != FREE], int((given == FREE).sum())
    plain = generation(process.lm, process.prompt, max_tokens=size, eos_id=None, temperature=process.temperature)
    told = run(jax.random.key(seed), plain, NUM_TOLD, history="none").particles
    drawn = result.particles["tokens"][..., :size].reshape(-1, size)
    texts = {
        "told with no ending in mind": (plain.exported(told)["tokens"][0], None),
        "drawn given the ending": (drawn, np.exp(result.pooled_log_weights).ravel()),
    }
    values = {
        label: np.asarray(ending_log_probability(process, jnp.asarray(tokens), jnp.asarray(ending)))
        for label, (tokens, _) in texts.items()
    }
    bins = np.linspace(min(map(np.min, values.values())), max(map(np.max, values.values())), 50).tolist()
    figure = style.new_figure(height=3.5)
    with style.styled():
        axes = figure.subplots()
        for (label, (_, weights)), colour in zip(texts.items(), style.PALETTE, strict=False):
            axes.hist(values[label], bins=bins, weights=weights, density=True, color=colour, alpha=0.6, label=label)
        axes.set(xlabel="log p(ending | text before it), nats", ylabel="density")
        axes.legend(loc="upper left")
    return figure


@eqx.filter_jit
def ending_log_probability(
    process: LanguageProcess, texts: Int[Array, "texts size"], ending: Int[Array, " ending"]
) -> Float[Array, " texts"]:
    """Log probability of an ending after the prompt and each of several texts, nats.

    Args:
        process: the language model with its prompt and temperature.
        texts: Int["texts size"], tokens after the prompt.
        ending: Int["ending"], the same tokens after every text.
    """

    def one(text: Array) -> Array:
        logits = process.lm.forward(jnp.concatenate([process.prompt, text, ending])).logits
        log_p = jax.nn.log_softmax(logits / process.temperature)
        before = log_p[process.prompt.shape[0] + text.shape[0] - 1 : -1]
        return jnp.sum(jnp.take_along_axis(before, ending[:, None], axis=1))

    return jax.lax.map(one, texts, batch_size=64)
