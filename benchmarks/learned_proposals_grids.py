"""Grids: error of marginals against time for single-site Gibbs, exact blocks and the learned proposal."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from smcinfer import proposals
from smcinfer.graphs import FactorGraph
from smcinfer.graphs.block_exact import exact_blocks, single_sites
from smcinfer.graphs.block_gibbs import BlockGibbs
from smcinfer.graphs.inference.curves import error_curve
from smcinfer.models.binary_grids import binary_grid, grid_motif
from smcinfer.nn import read_metadata
from smcinfer.proposals.grid import WEIGHTS

SIDE, DETERMINISM = 20, 0.75
FIRST_SEED = 100
"""Of the test grids; training draws its own."""

SWEEPS = {"single": 100, "exact": 1, "neural": 1}
"""Sweeps a compiled call: about as long as one another."""


def kernels_of(graph: FactorGraph) -> dict[str, Callable[[], BlockGibbs]]:
    """The three, made when asked for: single-site Gibbs, and blocks of three by three mixed with it."""
    sites = single_sites(graph)
    blocks = grid_motif(3, 3).find(graph)
    return {
        "single": lambda: BlockGibbs((sites,)),
        "exact": lambda: BlockGibbs((exact_blocks(graph, blocks), sites)),
        "neural": lambda: BlockGibbs((proposals.load("grid").moves(graph, blocks), sites)),
    }


def grid_rows(quick: bool) -> dict[str, Any]:
    """Errors at equal time on grids that no training saw, and what training cost.

    The reference is exact: messages over whole rows of nodes, whose cost doubles with each node of a row.
    """
    seconds = 2.0 if quick else 5.0
    names = ("single", "neural") if quick else ("single", "exact", "neural")
    errors: dict[str, list[float]] = {name: [] for name in names}
    accepted, reached = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + (1 if quick else 3)):
        grid = binary_grid(jax.random.key(seed), SIDE, DETERMINISM)
        exact, graph = np.asarray(grid.marginals()).reshape(-1), grid.graph()
        made = kernels_of(graph)
        curves = {
            name: error_curve(
                jax.random.key(1),
                graph,
                made[name](),
                exact,
                seconds=seconds,
                sweeps=SWEEPS[name],
                # Of the processor: what else the machine does hits the kinds of moves unevenly.
                clock=time.process_time,
            )
            for name in names
        }
        for name, found in curves.items():
            errors[name].append(found.errors[-1])
        neural = curves["neural"]
        accepted.append(neural.acceptance)
        passed = zip(neural.seconds, neural.errors, strict=True)
        reached.append(next((t for t, error in passed if error <= errors["single"][-1]), seconds))
    ratios = np.array(errors["neural"]) / np.array(errors["single"])
    card = read_metadata(WEIGHTS)
    saved = seconds - float(np.mean(reached))
    return {
        "grid_error_neural_over_single_site": float(ratios.mean()),
        "grid_error_ratio_each": ratios.tolist(),
        "grid_error_at_equal_time": {name: float(np.mean(values)) for name, values in errors.items()},
        "acceptance": float(np.mean(accepted)),
        "grid_seconds": seconds,
        "grid_seconds_to_single_site_error": float(np.mean(reached)),
        "grid_training_seconds": card["seconds"],
        # Runs of this length after which the training has paid for itself.
        "grid_break_even_runs": card["seconds"] / saved if saved > 0 else None,
    }
