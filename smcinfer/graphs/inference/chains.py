"""Block Gibbs chains on a factor graph, side by side: `block_gibbs`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.graphs import Blocks, FactorGraph, blocks_of, uniform_states
from smcinfer.graphs.block_exact import exact_blocks, single_sites
from smcinfer.graphs.block_gibbs import BlockGibbs, BlockMoves, MoveInfo, Turns, adapted_weights
from smcinfer.graphs.block_neural import NeuralBlocks
from smcinfer.ground.arrays import Array, Count, Flag, Float, KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.results.chains import Chains
from smcinfer.run.chains.finish import chains_of
from smcinfer.run.chains.loop import drive
from smcinfer.run.chains.plan import checked, doubling
from smcinfer.run.chains.sampler import Info, Sampler
from smcinfer.run.runner import as_typed_key

EXACT = "exact"


def block_gibbs(
    key: Any,
    graph: FactorGraph,
    proposal: NeuralBlocks | str | None = None,
    *,
    blocks: Sequence[Sequence[int]] | None = None,
    single_site: bool = True,
    adapt: bool = True,
    scan: str = "random",
    num_chains: int = 64,
    num_draws: int = 1000,
    num_warmup: int = 200,
    thin: int = 1,
    initial: Array | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> Chains:
    """Run Markov chains of block Gibbs moves, mixed with single-site Gibbs.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same chains bit for bit.
        graph: a factor graph.
        proposal: a learned proposal (`smcinfer.proposals.load`), ``"exact"`` to enumerate the blocks given, or ``None`` for
            single-site Gibbs alone.
        blocks: the variables of each block, in the motif's order for a learned proposal; every instance of its motif where
            ``None``.
        single_site: mix with single-site Gibbs, without which variables that no block holds would stay.
        adapt: choose in the warm-up how often each kind of move is made, by the variables it changes for what it costs;
            frozen for the draws. Else every kind in turn.
        scan: of blocks, ``"random"`` or ``"systematic"``; never by the state.
        num_chains: side by side in one program.
        num_draws: draws kept of each chain.
        num_warmup: sweeps before them, or a few less.
        thin: sweeps a draw.
        initial: (num_chains, variables), where to start; uniform where ``None``.
        progress: draw a bar on stderr.
        checkpoint: a file to resume from and to save to.
        checkpoint_seconds: least time between two writes, seconds.

    Returns:
        `Chains` whose draws ``x`` hold the variables that are not observed, in the graph's order; ``num_evals`` counts blocks
        proposed; ``settings`` has acceptance, share and cost of each kind.

    Raises:
        ArgumentError: a setting out of range, an observed variable in a block.
        TargetError: a motif that does not match.
        CheckpointError: a checkpoint that is damaged or belongs to another run.
        Interrupted: after Ctrl-C where there is a bar or a checkpoint, at the end of the sweep under way.
    """
    num_chains, num_draws, num_warmup, thin = checked(num_chains, num_draws, num_warmup, thin)
    kinds = kinds_of_moves(graph, proposal, blocks, single_site)
    kernel = BlockGibbs(tuple(kinds.values()), scan=scan)
    start_key, chain_key, share_key = jax.random.split(as_typed_key(key), 3)
    x = uniform_states(start_key, graph, num_chains) if initial is None else _initial(graph, initial, num_chains)
    costs = [cost(moves, graph, x) for moves in kinds.values()] if adapt and len(kinds) > 1 and num_warmup > 0 else None
    known = None if costs is None else jnp.asarray(costs, jnp.result_type(float))
    sampler = BlockChain(graph, kernel, x, known, graph.free)
    plan = doubling(num_draws, num_warmup, thin)
    driven = drive(
        chain_key,
        sampler,
        plan,
        num_chains=num_chains,
        share_key=share_key,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        description="block Gibbs",
    )
    records, mixing = driven.records, driven.progress.params
    accepted, proposed = (records[name].sum(axis=(0, 1)) for name in ("accepted", "proposed"))
    weights = None if mixing is None else np.asarray(mixing.weights).tolist()
    records["acceptance"] = records["accepted"].sum(axis=2) / np.maximum(records["proposed"].sum(axis=2), 1.0)
    settings = {
        "kernel": " + ".join(kinds),
        "dim": records["x"].shape[2],
        "thin": thin,
        "num_warmup": sum(segment.transitions for segment in plan if segment.tuning),
        "scan": scan,
        "pace": "in step",
        "acceptance_by_kind": dict(zip(kinds, (accepted / np.maximum(proposed, 1.0)).tolist(), strict=True)),
        "weights_by_kind": None if weights is None else dict(zip(kinds, weights, strict=True)),
    }
    return chains_of(Chains, key, driven, {"x": records["x"]}, settings)


class Mixing(eqx.Module):
    """How often each kind of move is made, and what that was learned from.

    Attributes:
        weights: Float["kinds"], probabilities.
        every: Bool[""], whether nothing was learned yet: every kind is then made in every sweep.
        changed: Float["kinds"], variables that each kind has changed so far.
        made: Float["kinds"], sweeps of it so far.
    """

    weights: Float[Array, " kinds"]
    every: Flag
    changed: Float[Array, " kinds"]
    made: Float[Array, " kinds"]


class BlockChain(Sampler):
    """Block Gibbs on one graph.

    Attributes:
        graph, kernel: the law, and the moves that leave it invariant.
        starts: (chains, variables), where chains start.
        costs: Float["kinds"], what a sweep of each kind costs; ``None`` to make every kind in every sweep.
        free: variables that are kept.
    """

    graph: FactorGraph
    kernel: BlockGibbs
    starts: Array
    costs: Float[Array, " kinds"] | None
    free: tuple[int, ...] = eqx.field(static=True)

    def begin(self, key: KeyArray, chain: Count) -> Array:
        """The chain's own starting state, Float or Int["variables"]."""
        return self.starts[chain]

    def prepare(self, states: Array) -> Mixing | None:
        """Every kind in every sweep, until it is known what each does."""
        if self.costs is None:
            return None
        nothing = jnp.zeros_like(self.costs)
        return Mixing(jnp.full_like(self.costs, 1.0 / self.costs.shape[0]), jnp.asarray(True), nothing, nothing)

    def share(self, key: KeyArray, params: Mixing | None) -> Turns:
        """The sweep's kinds and classes, which chains have in common so that they move together."""
        turns = self.kernel.turns(key, None if params is None else params.weights)
        return turns if params is None else eqx.tree_at(lambda t: t.kinds, turns, turns.kinds | params.every)

    def step(self, key: KeyArray, state: Array, params: Turns) -> tuple[Array, Info]:
        """One sweep of the kinds of moves whose turn it is."""
        x, info = self.kernel.follow(key, state[None], self.graph, params)
        accepted, proposed, changed = (leaf[:, 0] for leaf in (info.acceptance, info.proposed, info.changed))
        return x[0], {
            "acceptance": jnp.sum(accepted) / jnp.maximum(jnp.sum(proposed), 1.0),
            "num_evals": jnp.sum(proposed).astype(jnp.int32),
            "accepted": accepted,
            "proposed": proposed,
            "changed": changed,
            "made": params.kinds.astype(accepted.dtype),
        }

    def record(self, state: Array, info: Info) -> dict[str, Array]:
        """The variables that are not observed."""
        return {"x": state[jnp.asarray(self.free, jnp.int32)]}

    def tune(self, params: Mixing | None, rows: dict[str, Any]) -> Mixing | None:
        """Weights from what every kind has changed for what it costs, in all rounds so far."""
        if params is None or self.costs is None:
            return params
        changed = params.changed + jnp.sum(rows["changed"], axis=(0, 1))
        made = params.made + jnp.sum(rows["made"], axis=(0, 1))
        weights = adapted_weights(changed / made, self.costs)
        return Mixing(weights, jnp.asarray(False), changed, made)


def kinds_of_moves(
    graph: FactorGraph,
    proposal: NeuralBlocks | str | None,
    blocks: Sequence[Sequence[int]] | None,
    single_site: bool,
) -> dict[str, BlockMoves]:
    """Moves by what they are called: what `block_gibbs` cycles through.

    Args:
        graph: the factor graph.
        proposal: a learned proposal, ``"exact"`` for enumeration, or ``None`` for single sites alone.
        blocks: the variables of each block; ``None`` for all that fit the motif of a learned proposal.
        single_site: whether single sites are moved too.

    Raises:
        ArgumentError: for blocks without a way to propose them, or enumeration without blocks.
    """
    kinds: dict[str, BlockMoves] = {}
    if isinstance(proposal, NeuralBlocks):
        found: Blocks | None = None if blocks is None else proposal.motif.match(graph, blocks)
        kinds[proposal.motif.name] = proposal.moves(graph, found)
    elif proposal == EXACT:
        if blocks is None:
            raise ArgumentError("which blocks to enumerate?", expected="blocks=[(variable, ...), ...]", got=None)
        kinds["exact blocks"] = exact_blocks(graph, blocks_of(graph, blocks))
    elif proposal is not None or blocks is not None:
        raise ArgumentError(
            "blocks need a way to propose them",
            expected='a learned proposal, or "exact"',
            got=proposal,
            hint='smcinfer.proposals.load("grid") is one',
        )
    if single_site or not kinds:
        kinds["single site"] = single_sites(graph)
    return kinds


def cost(moves: BlockMoves, graph: FactorGraph, x: Array) -> float:
    """What a sweep costs, as XLA counts it: arithmetic and bytes touched. The same on every run, unlike a clock.

    Args:
        moves: moves of one kind, whose classes are all gone through in a sweep.
        graph: the factor graph.
        x: (chains, variables), states of the shape that is wanted; their values do not matter.

    Returns:
        Floating-point operations plus bytes.
    """

    def one(key: Array, x: Array, moves: BlockMoves, graph: FactorGraph) -> tuple[Array, MoveInfo]:
        return moves.step(key, x, graph, jnp.zeros((), jnp.int32))

    analysis: Any = jax.jit(one).lower(jax.random.key(0), x, moves, graph).cost_analysis()
    return moves.num_classes * (float(analysis["flops"]) + float(analysis["bytes accessed"]))


def _initial(graph: FactorGraph, initial: Array, num_chains: int) -> Array:
    x = jnp.asarray(initial, graph.values.dtype)
    if x.shape != (num_chains, graph.num_variables):
        raise ArgumentError("initial does not fit the chains", expected=(num_chains, graph.num_variables), got=x.shape)
    return jax.vmap(graph.clamp)(x)
