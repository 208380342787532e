"""Two components of a Gaussian mixture, proposed together with their number given the data they own, labels summed out."""

from pathlib import Path

import equinox as eqx
import jax

from smcinfer.nn.precision import restore_in_current_precision
from smcinfer.proposals.mixture_pair.move import LearnedPairs
from smcinfer.proposals.mixture_pair.network import PairNetwork, pair_network

WEIGHTS = Path(__file__).with_name("weights.safetensors")

__all__ = ["WEIGHTS", "LearnedPairs", "PairNetwork", "load", "pair_network"]


def load() -> LearnedPairs:
    """The trained move, for `smcinfer.models.open_mixture`: data in the plane, any number of slots, any scales.

    Raises:
        CheckpointError: weights of another version.
    """
    shapes = eqx.filter_eval_shape(pair_network, jax.random.key(0))
    return LearnedPairs(restore_in_current_precision(WEIGHTS, shapes))
