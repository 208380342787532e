"""A proposal trained once on random pieces of grids, at work on grids it never saw: error of marginals against time.

    python examples/learned_proposals.py [--seconds 10]

Twenty by twenty binary nodes, three quarters of them all but deterministic. Single-site Gibbs stays in the mode it falls
into; blocks of nine nodes get out of it, if something proposes them well. The reference is exact.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from smcinfer import proposals
from smcinfer.graphs.block_exact import exact_blocks, single_sites
from smcinfer.graphs.block_gibbs import BlockGibbs
from smcinfer.graphs.inference.curves import error_curve
from smcinfer.models.binary_grids import binary_grid, grid_motif
from smcinfer.plots.curves import plot_error_curves


def main(out: Path, seconds: float) -> None:
    """Run the three on one grid, print what they reached, draw the curves."""
    out.mkdir(parents=True, exist_ok=True)
    grid = binary_grid(jax.random.key(100), side=20, determinism=0.75)
    exact, graph = np.asarray(grid.marginals()).reshape(-1), grid.graph()
    sites = single_sites(graph)
    blocks = grid_motif(3, 3).find(graph)
    kernels = {
        "single site": BlockGibbs((sites,)),
        "exact blocks": BlockGibbs((exact_blocks(graph, blocks), sites)),
        "learned blocks": BlockGibbs((proposals.load("grid").moves(graph, blocks), sites)),
    }
    curves = {}
    for name, kernel in kernels.items():
        sweeps = 50 if name == "single site" else 1
        curves[name] = error_curve(jax.random.key(1), graph, kernel, exact, seconds=seconds, sweeps=sweeps)
        print(f"{name:15s} error {curves[name].errors[-1]:.3f} after {curves[name].num_sweeps} sweeps")
    figure = plot_error_curves(curves)
    figure.savefig(out / "learned_proposals.png", dpi=120)
    print(f"saved {out / 'learned_proposals.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/learned_proposals"), help="folder for the figure")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind of moves")
    arguments = parser.parse_args()
    main(arguments.out, arguments.seconds)
