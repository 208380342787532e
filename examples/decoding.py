"""How the error of log Z falls with the number of texts: independent texts, evenly spread codes, beams without replacement.

python examples/decoding.py [--out output/decoding]
"""

import argparse
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import smcinfer
from smcinfer import language


def rising(state: language.TokenState) -> jax.Array:
    """A nat for each step up, less one for each step down, nats."""
    steps = jax.numpy.sign(jax.numpy.diff(state.tokens))
    places = jax.numpy.arange(1, state.tokens.shape[0])
    return jax.numpy.sum(jax.numpy.where(places < state.length, steps, 0)).astype(float)


def main(out: Path, num_runs: int = 64) -> None:
    """Sample, print the spread of Z_hat / Z, draw it."""
    out.mkdir(parents=True, exist_ok=True)
    lm = language.table_lm(jax.random.key(7), vocab_size=5, order=2)
    target = language.generation(lm, [3, 1], language.terminal(rising), max_tokens=6, eos_id=0)
    log_z = language.exact.enumerated(target).log_z
    ways = {"independent texts": target, "codes": language.coded(target), "beams": language.beams(target)}
    counts = (8, 32, 128)
    figure, axis = plt.subplots()
    for name, model in ways.items():
        spreads = []
        for count in counts:
            options = {"num_particles": count, "num_runs": num_runs, "resample_below": 0.0, "progress": False}
            result = smcinfer.sample(jax.random.key(0), model, **options)
            spreads.append(float(np.exp(result.log_z_runs - log_z).std()))
        print(f"{name:18s}", "  ".join(f"{count}: {spread:.3f}" for count, spread in zip(counts, spreads, strict=True)))
        axis.loglog(counts, spreads, "o-", label=name)
    axis.set(xlabel="texts", ylabel="standard deviation of $\\hat Z / Z$")
    axis.legend()
    figure.savefig(out / "decoding.png")
    print(f"saved {out / 'decoding.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/decoding"), help="folder for the figure")
    parser.add_argument("--num-runs", type=int, default=64)
    arguments = parser.parse_args()
    main(arguments.out, arguments.num_runs)
