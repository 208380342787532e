"""Tags by block Gibbs: the kernels for a field's graph, and marginals as averages over chains."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.graphs import Blocks, FactorGraph, blocks_of, uniform_states
from smcinfer.graphs.block_exact import exact_blocks
from smcinfer.graphs.block_gibbs import BlockGibbs, BlockMoves, MoveInfo
from smcinfer.ground.arrays import Array, Count, Float, Int, KeyArray
from smcinfer.ground.errors import ArgumentError


class Tagged(NamedTuple):
    """What a run of chains found.

    Attributes:
        marginals: Float["words tags"], shares of the sweeps that count.
        acceptance: Float["kinds"], mean acceptance of each kind of move.
    """

    marginals: Float[np.ndarray, "words tags"]
    acceptance: Float[np.ndarray, " kinds"]


def linked_words(graph: FactorGraph) -> Int[np.ndarray, " linked"]:
    """Variables that a skip edge touches."""
    if "skip" not in graph.factors:
        return np.zeros(0, np.int64)
    return np.unique(np.asarray(graph.factors["skip"].scope))


def runs_of(sentences: Sequence[Sequence[str]], size: int, graph: FactorGraph) -> list[tuple[int, ...]]:
    """Every run of ``size`` words within a sentence that no skip edge touches: the blocks of a chain motif.

    Args:
        sentences: the words of the graph, sentence by sentence, in the order of its variables.
        size: words in a run.
        graph: a field's graph, for its skip edges.

    Returns:
        The variables of each run; runs overlap.
    """
    linked = set(linked_words(graph).tolist())
    starts = np.cumsum([0, *map(len, sentences)]).tolist()
    windows = [
        tuple(range(first, first + size))
        for start, end in zip(starts, starts[1:], strict=False)
        for first in range(start, end - size + 1)
    ]
    return [window for window in windows if linked.isdisjoint(window)]


def site_moves(graph: FactorGraph, words: Int[np.ndarray, " some"] | None = None) -> tuple[BlockMoves, ...]:
    """Single-site Gibbs of some words, of all where ``None``: those without skip edges in a few wide classes, the linked
    ones in narrow classes of their own."""
    linked = linked_words(graph)
    words = np.asarray(graph.free) if words is None else words
    kinds = [group for group in (np.setdiff1d(words, linked), np.intersect1d(words, linked)) if group.size]
    return tuple(exact_blocks(graph, blocks_of(graph, [(int(word),) for word in words])) for words in kinds)


def tag_kernel(graph: FactorGraph, *moves: BlockMoves) -> BlockGibbs:
    """A kernel that makes a sweep of each of ``moves``, then one of the single words that none of them changes."""
    changed = [np.asarray(kind.blocks.variables).ravel() for kind in moves]
    left = np.setdiff1d(np.asarray(graph.free), np.concatenate(changed) if changed else [])
    return BlockGibbs((*moves, *site_moves(graph, left)), scan="systematic")


def exact_runs(graph: FactorGraph, sentences: Sequence[Sequence[str]], size: int) -> BlockMoves:
    """Exact Gibbs of runs of words, by enumeration of their tags.

    Args:
        graph: a field's graph.
        sentences: the words of the graph, sentence by sentence, in the order of its variables.
        size: words in a run; a run has ``num_tags ** size`` values.
    """
    return exact_blocks(graph, _blocks(graph, sentences, size))


def _blocks(graph: FactorGraph, sentences: Sequence[Sequence[str]], size: int) -> Blocks:
    windows = runs_of(sentences, size, graph)
    if not windows:
        raise ArgumentError("no run of words is that long", expected="a sentence of that many words", got=size)
    return blocks_of(graph, windows)


@eqx.filter_jit
def sweeps(
    key: Any, graph: FactorGraph, kernel: BlockGibbs, x: Array, num_sweeps: Count
) -> tuple[Array, Array, MoveInfo]:
    """Sweeps of all chains, in one program whatever their number.

    Args:
        key: one key.
        graph: the field's graph.
        kernel: what moves.
        x: Int["chains words"].
        num_sweeps: how many.

    Returns:
        The states after them, how often each word had each tag over sweeps and chains, Float["words tags"], and what the
        moves did, leading axis kinds.
    """
    num_tags = graph.cardinalities[0]

    def one(number: Array, carry: tuple[Array, Array, MoveInfo]) -> tuple[Array, Array, MoveInfo]:
        x, counts, total = carry
        x, info = kernel.sweep(jax.random.fold_in(key, number), x, graph)
        counts = counts + jnp.sum(x[:, :, None] == jnp.arange(num_tags), axis=0)
        return x, counts, jax.tree.map(lambda so_far, leaf: so_far + jnp.sum(leaf, axis=1), total, info)

    dtype = jnp.result_type(float)
    nothing = jnp.zeros((len(kernel.moves),), dtype)
    counts = jnp.zeros((x.shape[1], num_tags), dtype)
    return jax.lax.fori_loop(0, num_sweeps, one, (x, counts, MoveInfo(nothing, nothing, nothing)))


def tag(key: KeyArray, graph: FactorGraph, kernel: BlockGibbs, *, num_sweeps: int = 200, num_chains: int = 4) -> Tagged:
    """Marginals of every word's tag from chains that start anywhere; the first half of the sweeps does not count.

    Args:
        key: one key.
        graph: the field's graph, all words free.
        kernel: `tag_kernel` makes one.
        num_sweeps: sweeps of each chain.
        num_chains: chains side by side.

    Raises:
        ArgumentError: for counts out of range.
    """
    if num_sweeps < 2 or num_chains < 1:
        raise ArgumentError("too few sweeps or chains", expected="2 and 1 at least", got=(num_sweeps, num_chains))
    start_key, warm_key, main_key = jax.random.split(key, 3)
    x = uniform_states(start_key, graph, num_chains)
    half = num_sweeps // 2
    x, _, _ = sweeps(warm_key, graph, kernel, x, jnp.asarray(half))
    _, counts, info = sweeps(main_key, graph, kernel, x, jnp.asarray(num_sweeps - half))
    acceptance = np.asarray(info.acceptance / jnp.maximum(info.proposed, 1.0))
    return Tagged(np.asarray(counts) / ((num_sweeps - half) * num_chains), acceptance)
