"""Named entities by a conditional random field with skip edges, trained on WNUT17 by its recipe."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.models.tagging_crf.model import Batch, TaggingCRF, tagging_crf
from smcinfer.models.tagging_crf.reader import Sentence, read_conll
from smcinfer.models.tagging_crf.spans import entity_f1, spans
from smcinfer.nn import storage
from smcinfer.nn.precision import restore_in_current_precision

WEIGHTS = Path(__file__).with_name("weights.safetensors")

__all__ = [
    "WEIGHTS",
    "Batch",
    "Sentence",
    "TaggingCRF",
    "entity_f1",
    "load",
    "read_conll",
    "spans",
    "tagging_crf",
]


def load(path: Path = WEIGHTS) -> TaggingCRF:
    """The trained field.

    Raises:
        CheckpointError: if its weights are damaged or of another version.
    """
    card = storage.read_metadata(path)
    like = tagging_crf(card["tags"], np.zeros(card["num_rows"], np.uint32))
    kept = jax.tree.map(lambda _: jnp.float32, like)
    kept = eqx.tree_at(lambda field: field.weights, kept, jnp.float16)
    return restore_in_current_precision(path, like, kept)
