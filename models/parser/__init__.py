"""A chart parser for evaluation: it judges what syntactic control generated, and is never part of a potential."""

from pathlib import Path

from smcinfer import nn
from smcinfer.language.syntax.features import WordFeatures
from smcinfer.models.parser.model import ChartParser, build
from smcinfer.nn.half import restore_half

WEIGHTS = Path(__file__).parent / "weights.safetensors"


def load(path: Path = WEIGHTS) -> ChartParser:
    """The trained parser.

    Raises:
        CheckpointError: if its weights are damaged or of another version.
    """
    found = nn.read_metadata(path)
    labels, pos_names = tuple(found["labels"]), tuple(found["pos_names"])
    return restore_half(path, lambda key: build(key, labels, pos_names, WordFeatures(tuple(found["words"]))))
