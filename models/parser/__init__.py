"""A chart parser for evaluation: it judges what syntactic control generated, and is never part of a potential."""

from pathlib import Path

from smcinfer import nn
from smcinfer.ground.arrays import KeyArray
from smcinfer.language.syntax.features import WordFeatures
from smcinfer.models.parser.model import ChartParsers, build
from smcinfer.nn.half import restore_half

WEIGHTS = Path(__file__).parent / "weights.safetensors"


def load(path: Path = WEIGHTS) -> ChartParsers:
    """The trained parsers.

    Raises:
        CheckpointError: if its weights are damaged or of another version.
    """
    found = nn.read_metadata(path)
    labels, pos_names = tuple(found["labels"]), tuple(found["pos_names"])
    features = WordFeatures(tuple(found["words"]))

    def made(key: KeyArray) -> ChartParsers:
        return ChartParsers(tuple(build(key, labels, pos_names, features) for _ in range(found["members"])))

    return restore_half(path, made)
