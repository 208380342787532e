"""A proposal for blocks of three by three nodes of a binary grid, whatever its tables: trained once by `recipe`.

Attributes of what it was trained for are in `smcinfer.models.binary_grids`: groups ``cpt`` (up, left, self) and ``evidence``.
"""

from pathlib import Path

import equinox as eqx
import jax

from smcinfer.graphs import block_neural
from smcinfer.graphs.block_neural import NeuralBlocks
from smcinfer.ground.arrays import KeyArray
from smcinfer.models.binary_grids import grid_motif

WEIGHTS = Path(__file__).parent / "weights.safetensors"


def untrained(key: KeyArray) -> NeuralBlocks:
    """The proposal as the recipe starts from it."""
    return block_neural.neural_blocks(
        key,
        grid_motif(3, 3),
        {"cpt": 8, "evidence": 2},
        num_components=12,
        width=128,
        depth=2,
        encoder_width=192,
        encoder_depth=2,
    )


def load(weights: Path = WEIGHTS) -> NeuralBlocks:
    """The trained proposal: ``load().moves(graph)`` are its moves on a graph."""
    return block_neural.load(weights, eqx.filter_eval_shape(untrained, jax.random.key(0)))
