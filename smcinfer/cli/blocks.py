"""``smcinfer blocks``: block Gibbs chains on a factor graph that a file defines."""

from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np

from smcinfer import proposals
from smcinfer.cli.loading import load_object
from smcinfer.cli.options import Door, command
from smcinfer.cli.output import MOST_ROWS, check_new, console, precision, table
from smcinfer.graphs import FactorGraph
from smcinfer.graphs.block_neural import NeuralBlocks
from smcinfer.graphs.inference.chains import block_gibbs
from smcinfer.ground.errors import ArgumentError
from smcinfer.results.chains import Chains

CHAINS = Door(block_gibbs, "Chains", without=("key", "graph", "proposal", "blocks", "initial"))


@command
def blocks(
    graph: str,
    /,
    *,
    chains: Annotated[dict[str, Any], CHAINS],
    proposal: str | None = None,
    seed: int = 0,
    x64: bool = False,
    out: Path | None = None,
    force: bool = False,
) -> None:
    """Run the chains and print what they did.

    Args:
        graph: FILE.py:GRAPH, a FactorGraph or a function without arguments that returns it.
        chains: what `block_gibbs` is called with.
        proposal: entry of the library smcinfer.proposals; single-site Gibbs alone without one.
        seed: the same seed gives the same chains.
        x64: compute in float64.
        out: save the chains (netCDF).
        force: overwrite what stands at --out.
    """
    check_new(out, force)
    with precision(x64):
        learned = None if proposal is None else proposals.load(proposal)
        if learned is not None and not isinstance(learned, NeuralBlocks):
            raise ArgumentError(
                f"{proposal!r} proposes no blocks", expected="a block proposal", got=type(learned).__name__
            )
        found = load_object(graph, (FactorGraph,))
        done = block_gibbs(jax.random.key(seed), found, learned, **chains)
    _show(done, found)
    if out is not None:
        console().print(f"saved to {done.save(out)}")


def _show(chains: Chains, graph: FactorGraph) -> None:
    """Acceptance of each kind of move, and the variables' means with their Monte Carlo errors."""
    plain = console()
    draws = chains.draws["x"]
    plain.print(f"{chains.num_chains} chains of {chains.num_draws} draws, {chains.seconds:.1f} s")
    for kind, rate in chains.settings["acceptance_by_kind"].items():
        weights = chains.settings["weights_by_kind"]
        share = "" if weights is None else f", {weights[kind]:.0%} of the sweeps"
        plain.print(f"{kind}: acceptance {rate:.2f}{share}")
    shown = table("variable", "mean", "error")
    means = draws.mean(axis=1)
    errors = means.std(axis=0, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.full(means.shape[1], np.nan)
    for at, variable in enumerate(graph.free[:MOST_ROWS]):
        shown.add_row(graph.name(variable), f"{means[:, at].mean():.4f}", f"{errors[at]:.4f}")
    plain.print(shown)
    if len(graph.free) > MOST_ROWS:
        plain.print(f"and {len(graph.free) - MOST_ROWS} more")
