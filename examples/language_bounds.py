"""Bounds on log Z of text from a language model, from below and from above, by SMC and by importance sampling.

python examples/language_bounds.py [--out output/language_bounds] [--model DIRECTORY --prompt "Once upon a time"]

Without a model a table with eight tokens is used, small enough that log Z is known by adding up all strings. With one (a
Hugging Face directory) the model writes a text and its continuation, and the target is the text given the continuation.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp

from smcinfer import bounds, language
from smcinfer.language import TokenState
from smcinfer.plots.bounds_by_particles import plot_bounds


def rising(t: jax.Array, state: TokenState) -> jax.Array:
    """Each step down costs two nats, paid at once."""
    before = state.tokens[jnp.maximum(t - 2, 0)]
    return jnp.where((t > 1) & (state.last_token < before), -2.0, 0.0)


def main(out: Path, model: Path | None = None, prompt: str = "Once upon a time", num_runs: int = 32) -> None:
    """Bound, print the table, draw it."""
    out.mkdir(parents=True, exist_ok=True)
    if model is None:
        lm = language.table_lm(jax.random.key(0), vocab_size=8, order=2)
        target = language.generation(lm, [3], rising, max_tokens=6, eos_id=None)
        draw = language.exact.enumerated(target)
        log_z, counts = draw.log_z, (1, 4, 16, 64)
        print(f"log Z by enumeration: {log_z:.4f}")
    else:
        target, path = language.exact.simulated_infilling(
            jax.random.key(0), language.load(model), prompt, max_tokens=5, continuation_tokens=10
        )
        log_z, counts = None, (1, 8, 64)
        draw = lambda key: path  # noqa: E731
    table = bounds.by_particles(jax.random.key(1), target, draw, counts, num_runs=num_runs)
    print(table)
    figure = plot_bounds(table, log_z=log_z)
    figure.savefig(out / "bounds.png")
    print(f"saved {out / 'bounds.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/language_bounds"), help="folder for the figure")
    parser.add_argument("--model", type=Path, help="a Hugging Face directory")
    parser.add_argument("--prompt", default="Once upon a time")
    parser.add_argument("--num-runs", type=int, default=32)
    arguments = parser.parse_args()
    main(arguments.out, arguments.model, arguments.prompt, arguments.num_runs)
