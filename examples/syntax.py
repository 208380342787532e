"""Syntactic control: what a language model says in the structure of a given tree.

    python examples/syntax.py [--out output/syntax] [--tree "(S (NP (PRP)) (VP (VBD)) (. .))"] [--num-particles 64]

Prints the sentences with their shares for each way to propose words, and draws how much of the particles is left at every step.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import smcinfer
from smcinfer.models import syntactic_control
from smcinfer.plots import style

TREE = "(S (NP (DT) (JJ) (NN)) (VP (VBD) (PP (IN) (NP (DT) (NN)))) (. .))"


def main(out: Path, tree: str, num_particles: int) -> None:
    """Ask for the tree with each proposal."""
    out.mkdir(parents=True, exist_ok=True)
    control = syntactic_control.load()
    with style.styled():
        figure = style.new_figure()
        axes = figure.add_subplot()
        for number, proposal in enumerate(("lm", "mixture", "product", "tried")):
            target = control.target(tree, proposal=proposal)
            result = smcinfer.sample(jax.random.key(number), target, num_particles=num_particles, num_runs=4)
            print(f"\n{proposal}: log Z {result.log_z:.2f}, spread between runs {result.log_z_runs.std():.2f}")
            for entry in target.decode(result)[:5]:
                print(entry)
            left = np.asarray(result.history["ess"]).mean(axis=0) / num_particles
            axes.plot(left, color=style.PALETTE[number], label=proposal)
        axes.legend()
        style.finish(axes, xlabel="words", ylabel="effective share of particles", title="Syntactic control")
        figure.savefig(out / "ess.png")
    print(f"\nsaved {out / 'ess.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/syntax"), help="folder for the figure")
    parser.add_argument("--tree", default=TREE, help="the structure, in brackets; words may be left out")
    parser.add_argument("--num-particles", type=int, default=64)
    arguments = parser.parse_args()
    main(arguments.out, arguments.tree, arguments.num_particles)
