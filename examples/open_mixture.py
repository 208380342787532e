"""Open-universe mixture: how many components, by single sites, split-merge and learned pairs, and by SMC with evidence.

python examples/open_mixture.py [--out output/open_mixture] [--num-data 90] [--num-slots 12]
"""

import argparse
from pathlib import Path

import jax

import smcinfer
from smcinfer import proposals
from smcinfer.models import open_mixture as om
from smcinfer.plots import style


def main(out: Path, num_data: int = 90, num_slots: int = 12, num_steps: int = 100) -> None:
    """Draw data, run the chains, print where they stand, draw their way, and estimate the evidence."""
    out.mkdir(parents=True, exist_ok=True)
    data, _ = om.simulate(jax.random.key(1), num_data, max(1, 3 * num_slots // 4))
    model = om.open_mixture(data, num_slots=num_slots)
    learned = om.InTurn((om.Gibbs(), proposals.load("mixture_pair")))
    moves = {"single sites": om.Gibbs(), "split-merge": om.InTurn((om.Gibbs(), om.SplitMerge(1))), "learned": learned}
    figure = style.new_figure(height=3.2)
    with style.styled():
        axes = figure.subplots()
        for (name, move), colour in zip(moves.items(), style.PALETTE, strict=False):
            chains = om.run_chains(jax.random.key(3), model, move, num_draws=num_steps, progress=False)
            fit, size = (chains.draws[name] for name in ("log_likelihood", "num_occupied"))
            print(
                f"{name:12s}  log likelihood {fit[:, -1].mean():8.1f}  "
                f"components {size[:, -1].mean():4.1f}  acceptance {chains.acceptance.mean():.2f}"
            )
            axes.plot(fit.mean(axis=0), color=colour, label=name)
        axes.set(xlabel="step", ylabel="log likelihood")
        axes.legend(loc="lower right")
    figure.savefig(out / "log_likelihood.png")
    result = smcinfer.sample(
        jax.random.key(4),
        om.annealed(model, learned, moves_per_step=1),
        num_particles=200,
        num_runs=4,
        progress=False,
    )
    print(result)
    print(f"saved {out / 'log_likelihood.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/open_mixture"), help="folder for the figure")
    parser.add_argument("--num-data", type=int, default=90)
    parser.add_argument("--num-slots", type=int, default=12, help="the most components there may be")
    parser.add_argument("--num-steps", type=int, default=100)
    arguments = parser.parse_args()
    main(arguments.out, arguments.num_data, arguments.num_slots, arguments.num_steps)
