"""Block Gibbs chains on a factor graph, side by side: `block_gibbs`."""

import time
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.status import Status
from smcinfer.graphs import Blocks, FactorGraph, blocks_of, uniform_states
from smcinfer.graphs.block_exact import exact_blocks, single_sites
from smcinfer.graphs.block_gibbs import BlockGibbs, BlockMoves, MoveInfo, adapted_weights
from smcinfer.graphs.block_neural import NeuralBlocks
from smcinfer.ground.arrays import Array, KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.progress import bar
from smcinfer.results.chains import Chains
from smcinfer.run.runner import as_typed_key, compile_clock

MAX_CHUNKS = 20
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
        num_warmup: sweeps before them, or a few more.
        thin: sweeps a draw.
        initial: (num_chains, variables), where to start; uniform where ``None``.
        progress: draw a bar on stderr.

    Returns:
        `Chains` whose draws ``x`` hold the variables that are not observed, in the graph's order; ``num_evals`` counts blocks
        proposed; ``settings`` has acceptance, share and cost of each kind.

    Raises:
        ArgumentError: a setting out of range, an observed variable in a block.
        TargetError: a motif that does not match.
    """
    started = time.perf_counter()
    for name, value, least in (("num_chains", num_chains, 1), ("num_draws", num_draws, 1), ("thin", thin, 1)):
        if value < least:
            raise ArgumentError(f"{name} is out of range", expected=f"at least {least}", got=value)
    if num_warmup < 0:
        raise ArgumentError("num_warmup is out of range", expected="at least 0", got=num_warmup)
    kinds = kinds_of_moves(graph, proposal, blocks, single_site)
    kernel = BlockGibbs(tuple(kinds.values()), scan=scan)
    start_key, warm_key, after_key, draw_key = jax.random.split(as_typed_key(key), 4)
    x = uniform_states(start_key, graph, num_chains) if initial is None else _initial(graph, initial, num_chains)
    adapt = adapt and len(kinds) > 1 and num_warmup > 0
    chunks = max(n for n in range(1, min(MAX_CHUNKS, num_draws) + 1) if num_draws % n == 0)
    with compile_clock() as compiling, bar(progress, "block Gibbs") as report:
        length = num_draws // chunks
        if num_warmup:
            # As long as a chunk of draws, so that one program serves both.
            x, _, info = _run(warm_key, x, graph, kernel, length, _ceil(num_warmup, length * (2 if adapt else 1)))
            if adapt:
                costs = [cost(moves, graph, x) for moves in kinds.values()]
                weights = adapted_weights(np.asarray(info.changed).sum(axis=(0, 2)), costs)
                kernel = BlockGibbs(kernel.moves, jnp.asarray(weights, jnp.result_type(float)), scan)
                x, _, _ = _run(after_key, x, graph, kernel, length, _ceil(num_warmup, 2 * length))
        records, infos = [], []
        for chunk in range(chunks):
            chunk_key = jax.random.fold_in(draw_key, chunk)
            x, draws, info = _run(chunk_key, x, graph, kernel, length, jnp.asarray(thin))
            records.append(np.asarray(draws))
            infos.append(jax.tree.map(np.asarray, info))
            report((chunk + 1) / chunks, f"acceptance {_rate(infos[-1]):.2f}")
    # Of what the jitted chunks recorded: (draws, kinds, chains) and (draws, chains, variables).
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *infos)
    free = list(graph.free)
    proposed = whole.proposed.sum(axis=1).T
    per_kind = whole.acceptance.sum(axis=(0, 2)) / np.maximum(whole.proposed.sum(axis=(0, 2)), 1.0)
    weights = None if kernel.weights is None else np.asarray(kernel.weights).tolist()
    return Chains(
        draws={"x": np.swapaxes(np.concatenate(records), 0, 1)[..., free]},
        acceptance=np.asarray(whole.acceptance.sum(axis=1).T / np.maximum(proposed, 1.0), jnp.result_type(float)),
        num_evals=proposed.astype(np.int32),
        cap_reached=np.zeros(proposed.shape, np.int32),
        status=int(Status.OK),
        settings={
            "kernel": " + ".join(kinds),
            "dim": len(free),
            "thin": thin,
            "num_warmup": num_warmup,
            "scan": scan,
            "pace": "in step",
            "ticks": float(proposed.sum()) / num_chains,
            "acceptance_by_kind": dict(zip(kinds, per_kind.tolist(), strict=True)),
            "weights_by_kind": None if weights is None else dict(zip(kinds, weights, strict=True)),
            "key": np.asarray(jax.random.key_data(as_typed_key(key))).tolist(),
            "precision": str(jnp.result_type(float)),
            "jax": jax.__version__,
        },
        seconds=time.perf_counter() - started,
        compile_seconds=compiling[0],
    )


def kinds_of_moves(
    graph: FactorGraph,
    proposal: NeuralBlocks | str | None,
    blocks: Sequence[Sequence[int]] | None,
    single_site: bool,
) -> dict[str, BlockMoves]:
    """Moves by what they are called: what `block_gibbs` cycles through."""
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
    """What a sweep costs, as XLA counts it: arithmetic and bytes touched. The same on every run, unlike a clock."""

    def one(key: Array, x: Array, moves: BlockMoves, graph: FactorGraph) -> tuple[Array, MoveInfo]:
        return moves.step(key, x, graph, jnp.zeros((), jnp.int32))

    analysis: Any = jax.jit(one).lower(jax.random.key(0), x, moves, graph).cost_analysis()
    return moves.num_classes * (float(analysis["flops"]) + float(analysis["bytes accessed"]))


@eqx.filter_jit
def _run(
    key: KeyArray, x: Array, graph: FactorGraph, kernel: BlockGibbs, num_records: int, thin: Array
) -> tuple[Array, Array, MoveInfo]:
    """Records of every chain, ``thin`` sweeps apart; the info of each is summed over its sweeps."""
    nothing = jnp.zeros((len(kernel.moves), x.shape[0]), jnp.result_type(float))

    def record(x: Array, record_key: Array) -> tuple[Array, tuple[Array, MoveInfo]]:
        def sweep(number: Array, carry: tuple[Array, MoveInfo]) -> tuple[Array, MoveInfo]:
            x, total = carry
            x, info = kernel.sweep(jax.random.fold_in(record_key, number), x, graph)
            return x, jax.tree.map(jnp.add, total, info)

        x, info = jax.lax.fori_loop(0, thin, sweep, (x, MoveInfo(nothing, nothing, nothing)))
        return x, (x, info)

    x, (draws, info) = jax.lax.scan(record, x, jax.random.split(key, num_records))
    return x, draws, info


def _ceil(total: int, length: int) -> Array:
    """Sweeps a record, so that ``length`` records make ``total`` sweeps or a few more."""
    return jnp.asarray(-(-total // length))


def _rate(info: MoveInfo) -> float:
    return float(info.acceptance.sum() / max(float(info.proposed.sum()), 1.0))


def _initial(graph: FactorGraph, initial: Array, num_chains: int) -> Array:
    x = jnp.asarray(initial, graph.values.dtype)
    if x.shape != (num_chains, graph.num_variables):
        raise ArgumentError("initial does not fit the chains", expected=(num_chains, graph.num_variables), got=x.shape)
    return jax.vmap(graph.clamp)(x)
