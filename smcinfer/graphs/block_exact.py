"""Exact block Gibbs: every value of a block is enumerated; with blocks of one variable, plain single-site Gibbs."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from smcinfer.graphs.block_gibbs import BlockMoves, BlockProposal, block_moves
from smcinfer.graphs.blocks import Blocks, blocks_of
from smcinfer.graphs.graph import REAL, FactorGraph
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, PyTree
from smcinfer.ground.errors import ArgumentError

MOST_CANDIDATES = 65536
"""Larger blocks are not enumerated."""


class Enumerated(eqx.Module):
    """A law on a list of candidate values.

    Attributes:
        log_scores: Float["*batch num"], nats, not normalised.
        candidates: Int["num size"], in the order of a table with the last variable fastest.
        base: categories of each variable in that table.
    """

    log_scores: Float[Array, "*batch num"]
    candidates: Int[Array, "num size"]
    base: tuple[int, ...] = eqx.field(static=True)

    def sample(self, key: KeyArray) -> Array:
        """One draw each, by inverting the distribution function with one uniform."""
        weights = jnp.exp(self.log_scores - jnp.max(self.log_scores, axis=-1, keepdims=True))
        cumulative = jnp.cumsum(weights, axis=-1)
        uniform = jax.random.uniform(key, (*weights.shape[:-1], 1), weights.dtype)
        # Of what is left below one, times the sum: never a candidate of weight zero, never past the last.
        index = jnp.sum(cumulative <= uniform * cumulative[..., -1:], axis=-1, dtype=jnp.int32)
        return self.candidates[jnp.minimum(index, len(self.candidates) - 1)]

    def log_prob(self, values: Array) -> Array:
        """log probability of values (*batch, size), nats."""
        strides = jnp.array([math.prod(self.base[place + 1 :]) for place in range(len(self.base))])
        cell = jnp.sum(values.astype(jnp.int32) * strides, axis=-1)
        score = jnp.take_along_axis(self.log_scores, cell[..., None], axis=-1)[..., 0]
        return score - logsumexp(self.log_scores, axis=-1)


def enumerated(log_scores: Float[Array, "*batch num"], base: tuple[int, ...]) -> Enumerated:
    """The law on all values of a block, given their log scores in the order of a table (nats)."""
    return Enumerated(log_scores, _all_values(base), base)


class ExactBlocks(BlockProposal):
    """The conditional law of a block of finite variables, by enumeration.

    Attributes:
        candidates: Int["num size"], every value.
        base: categories of each variable, the most of any block.
    """

    candidates: Int[Array, "num size"]
    base: tuple[int, ...] = eqx.field(static=True)

    @property
    def is_gibbs(self) -> bool:
        """True: enumeration gives the conditional itself, so every draw is accepted."""
        return True

    def prepare(self, graph: FactorGraph, blocks: Blocks) -> PyTree:
        """Which cells each candidate reads, and which candidates exist for the block's own categories."""
        cards = jnp.asarray([*graph.cardinalities, 1])[blocks.variables]
        exists = jnp.all(self.candidates < cards[..., None, :], axis=-1)
        return blocks.candidate_cells(graph, self.candidates), exists

    def law(self, prepared: PyTree, graph: FactorGraph, blocks: Blocks, around: Array) -> Enumerated:
        """The conditional laws of blocks, (chains, rows), given the values of their blankets (chains, rows, blanket)."""
        cells, exists = prepared
        scores = jax.vmap(lambda around: blocks.candidate_scores(graph, self.candidates, cells, around))(around)
        return Enumerated(jnp.where(exists, scores, -jnp.inf), self.candidates, self.base)


def exact_blocks(graph: FactorGraph, blocks: Blocks) -> BlockMoves:
    """Exact Gibbs moves of blocks, by enumeration.

    Raises:
        ArgumentError: a real variable, or more values than can be listed.
    """
    cards = np.array([*graph.cardinalities, 2])[np.asarray(blocks.variables)]
    if (cards == REAL).any():
        raise ArgumentError(
            "a block with a real variable cannot be enumerated", expected="finite variables", got="a real one"
        )
    base = tuple(int(card) for card in cards.max(axis=0))
    if math.prod(base) > MOST_CANDIDATES:
        raise ArgumentError(
            "the block has too many values to list", expected=f"at most {MOST_CANDIDATES}", got=math.prod(base)
        )
    return block_moves(graph, blocks, ExactBlocks(_all_values(base), base))


def single_sites(graph: FactorGraph) -> BlockMoves:
    """Single-site Gibbs on every finite variable that is not observed.

    Raises:
        ArgumentError: there is none.
    """
    sites = [(variable,) for variable in graph.free if graph.cardinalities[variable] != REAL]
    if not sites:
        raise ArgumentError("no variable is left for single-site Gibbs", expected="a finite variable not observed")
    return exact_blocks(graph, blocks_of(graph, sites))


def _all_values(base: tuple[int, ...]) -> Int[Array, "num size"]:
    return jnp.asarray(np.array(list(itertools.product(*map(range, base))), np.int32))
