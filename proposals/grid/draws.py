"""Random instances of the motif: small random grids of every degree of determinism, at states that chains pass through."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.graphs import FactorGraph, uniform_states
from smcinfer.graphs.block_exact import exact_blocks, single_sites
from smcinfer.graphs.block_gibbs import BlockMoves
from smcinfer.graphs.block_neural import MotifDraws, conditional_draws
from smcinfer.ground.arrays import Array, KeyArray
from smcinfer.models.binary_grids import (
    at_the_border,
    binary_grid,
    forward,
    grid_motif,
    random_evidence,
    random_tables,
)

SIDE = 9
SWEEPS = 4


def random_instances(
    determinism: float | None = None, keep_scores: bool = False
) -> Callable[[KeyArray, int], MotifDraws]:
    """A generator of instances: ``(key, num_grids) -> MotifDraws``, all blocks of each grid, grids first.

    Half of the grids are at a state of the grid itself, half at what a few single-site sweeps make of an arbitrary state,
    as chains are on their way. Blocks are drawn from their exact conditionals.

    Args:
        keep_scores: keep what acceptance is judged by.
    """
    # The scopes are those of any grid of this size; only the tables are drawn.
    model = binary_grid(jax.random.key(0), SIDE)
    graph = model.graph()
    blocks = grid_motif(3, 3).find(graph)
    rows = blocks.rows(jnp.arange(blocks.num_blocks))
    exact = exact_blocks(graph, blocks).proposal
    sites = single_sites(graph)

    def one(key: Array, lowest: Array, highest: Array) -> MotifDraws:
        keys = jax.random.split(key, 10)
        share = jax.random.uniform(keys[0], minval=lowest, maxval=highest)
        leak = jnp.exp(jax.random.uniform(keys[1], minval=jnp.log(1e-4), maxval=jnp.log(1e-2)))
        log_cpt = at_the_border(random_tables(keys[2], (SIDE, SIDE), share, leak))
        truth = forward(keys[3], log_cpt)
        seen = jax.random.uniform(keys[4], maxval=0.5)
        flip = jax.random.uniform(keys[5], minval=0.05, maxval=0.3)
        own = _with_tables(graph, log_cpt, random_evidence(keys[6], truth, seen, flip))
        passed = _sweeps(keys[7], sites, uniform_states(keys[8], graph, 1), own)
        states = jnp.concatenate([jnp.broadcast_to(truth.reshape(-1), passed.shape), passed])
        pick_key, draw_key = jax.random.split(keys[9])
        state = states[jax.random.randint(pick_key, (), 0, len(states))]
        return conditional_draws(draw_key, own, rows, state, exact, keep_scores)

    @eqx.filter_jit
    def many(key: KeyArray, num_grids: int, lowest: Array, highest: Array) -> MotifDraws:
        draws = jax.lax.map(lambda key: one(key, lowest, highest), jax.random.split(key, num_grids), batch_size=16)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws)

    def generate(key: KeyArray, num_grids: int, lowest: float = 0.0, highest: float = 1.0) -> MotifDraws:
        return many(key, num_grids, jnp.asarray(lowest), jnp.asarray(highest))

    return generate


def _sweeps(key: KeyArray, sites: BlockMoves, x: Array, graph: FactorGraph) -> Array:
    """The states of one chain after each of a few sweeps."""

    def one(x: Array, key: Array) -> tuple[Array, Array]:
        x, _ = sites.sweep(key, x, graph)
        return x, x[0]

    return jax.lax.scan(one, x, jax.random.split(key, SWEEPS))[1]


def _with_tables(graph: FactorGraph, log_cpt: Array, log_evidence: Array) -> FactorGraph:
    """The graph with other tables on the same scopes."""
    return eqx.tree_at(
        lambda graph: (graph.factors["cpt"].log_tables, graph.factors["evidence"].log_tables),
        graph,
        (log_cpt.reshape(-1, 8), log_evidence.reshape(-1, 2)),
    )
