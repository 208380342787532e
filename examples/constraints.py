"""A story that keeps to a pattern: what masking alone says it is, what it is, and what SMC finds.

    python examples/constraints.py [--out output/constraints] [--num-particles 64]

Twelve endings are allowed. Masking the tokens that leave the list draws each ending with a probability that is not the model's:
the weight puts it right. The figure compares both with the exact law, summed over every way to cut an ending into tokens.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import smcinfer
from smcinfer.language import constraints
from smcinfer.language.constraints.vocabulary import read_vocabulary
from smcinfer.language.decoding.next_byte import END, next_byte
from smcinfer.models import stories
from smcinfer.plots import style

PROMPT = "Once upon a time, there was a little"
ENDINGS = [
    " girl", " boy", " dog", " cat", " bird", " bear", " girl named Lily", " boy named Tim", " cat named Tom",
    " mouse", " fish in the sea", " house",
]  # fmt: skip


def exact_law(lm: Any, period: int) -> np.ndarray:
    """P(ending and then the period), over every cut into tokens."""
    prompt = lm.tokenizer.encode(PROMPT)
    said = [next_byte(lm, ending, prompt=prompt, eos_id=period, num_beams=256) for ending in ENDINGS]
    joint = np.array([found.log_text + found.log_probabilities[END] for found in said])
    return np.exp(joint - np.logaddexp.reduce(joint))


def found_law(lm: Any, target: Any, num_particles: int, num_runs: int) -> np.ndarray:
    """The law of one draw of a run, averaged over runs."""
    words, _ = read_vocabulary(lm)
    place = {ending.encode(): index for index, ending in enumerate(ENDINGS)}
    done = smcinfer.run(jax.random.key(0), target, num_particles, num_runs=num_runs)
    state, weights = done.particles.state, np.exp(np.asarray(done.log_weights)).ravel() / num_runs
    rows = zip(np.asarray(state.tokens).reshape(weights.size, -1), np.asarray(state.length).ravel(), strict=True)
    law = np.zeros(len(ENDINGS))
    for (row, length), weight in zip(rows, weights, strict=True):
        if weight > 0:
            law[place[b"".join(words[token] for token in row[: length - 1])]] += weight
    return law


def compare(lm: Any, num_particles: int) -> Figure:
    """The three laws side by side."""
    period = lm.tokenizer.encode_plain(".")[-1]
    allowed = constraints.allowed_texts(ENDINGS, lm, period)
    target = constraints.constrained(lm, PROMPT, allowed, max_tokens=18, eos_id=period)
    laws = {
        "exact": exact_law(lm, period),
        "masking alone": found_law(lm, target, 1, 4000),
        f"SMC, {num_particles} particles": found_law(lm, target, num_particles, 400),
    }
    for name, law in laws.items():
        print(f"{name:20s} total variation {0.5 * np.abs(law - laws['exact']).sum():.4f}")
    figure = style.new_figure(height=3.8)
    with style.styled():
        axes = figure.subplots()
        order = np.argsort(-laws["exact"])
        for index, ((name, law), colour) in enumerate(zip(laws.items(), style.PALETTE, strict=False)):
            axes.bar(np.arange(len(order)) + 0.28 * (index - 1), law[order], 0.28, color=colour, label=name)
        axes.set_xticks(range(len(order)), [ENDINGS[index].strip() for index in order], rotation=40, ha="right")
        axes.set(ylabel="probability", yscale="log")
        axes.legend()
    return figure


def main(out: Path, num_particles: int = 64) -> None:
    """Print a few constrained stories and draw the comparison."""
    out.mkdir(parents=True, exist_ok=True)
    lm = stories.load()
    period = lm.tokenizer.encode_plain(".")[-1]
    pattern = constraints.regex(" (happy|sad|little) (dog|cat|bird)", lm, period)
    target = constraints.constrained(lm, "Once upon a time, there was a", pattern, max_tokens=14, eos_id=period)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=num_particles, progress=False)
    print(result)
    for text in target.decode(result)[:5]:
        print(text)
    compare(lm, num_particles).savefig(out / "constraints.png")
    print(f"saved {out / 'constraints.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/constraints"), help="folder for the figure")
    parser.add_argument("--num-particles", type=int, default=64)
    arguments = parser.parse_args()
    main(arguments.out, arguments.num_particles)
