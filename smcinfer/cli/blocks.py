"""The command ``smcinfer blocks``: block Gibbs chains on a factor graph that a file defines."""

import argparse
import contextlib

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from smcinfer import proposals
from smcinfer.cli.loading import load_object
from smcinfer.graphs import FactorGraph
from smcinfer.graphs.block_neural import NeuralBlocks
from smcinfer.graphs.inference.chains import block_gibbs
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.files import check_writable
from smcinfer.results.chains import Chains

_MOST_ROWS = 40


def blocks(args: argparse.Namespace) -> int:
    """Run the chains and print what they did; returns the exit code."""
    if args.out is not None:
        check_writable(args.out)
    with jax.enable_x64(True) if args.x64 else contextlib.nullcontext():
        proposal = None if args.proposal is None else proposals.load(args.proposal)
        if proposal is not None and not isinstance(proposal, NeuralBlocks):
            raise ArgumentError(
                f"{args.proposal!r} proposes no blocks", expected="a block proposal", got=type(proposal).__name__
            )
        graph = load_object(args.graph, (FactorGraph,))
        chains = block_gibbs(
            jax.random.key(args.seed),
            graph,
            proposal,
            num_chains=args.num_chains,
            num_draws=args.num_steps,
            num_warmup=args.num_warmup,
            progress=not args.no_progress,
        )
    _show(chains, graph)
    if args.out is not None:
        print(f"saved to {chains.save(args.out)}")
    return 0


def _show(chains: Chains, graph: FactorGraph) -> None:
    """Acceptance of each kind of move, and the variables' means with their Monte Carlo errors."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    draws = chains.draws["x"]
    console.print(f"{chains.num_chains} chains of {chains.num_draws} draws, {chains.seconds:.1f} s")
    for kind, rate in chains.settings["acceptance_by_kind"].items():
        weights = chains.settings["weights_by_kind"]
        share = "" if weights is None else f", {weights[kind]:.0%} of the sweeps"
        console.print(f"{kind}: acceptance {rate:.2f}{share}")
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("variable", no_wrap=True)
    for column in ("mean", "error"):
        shown.add_column(column, justify="right", no_wrap=True)
    means = draws.mean(axis=1)
    errors = means.std(axis=0, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.full(means.shape[1], np.nan)
    for at, variable in enumerate(graph.free[:_MOST_ROWS]):
        shown.add_row(graph.name(variable), f"{means[:, at].mean():.4f}", f"{errors[at]:.4f}")
    console.print(shown)
    if len(graph.free) > _MOST_ROWS:
        console.print(f"and {len(graph.free) - _MOST_ROWS} more")
