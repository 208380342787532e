"""A tetra-tagger of English, trained from a treebank by its recipe: the potential and the twist of syntactic control."""

from pathlib import Path

from smcinfer import nn
from smcinfer.language.syntax.features import WordFeatures
from smcinfer.language.syntax.tagger import Tagger, build
from smcinfer.language.syntax.tagset import TagSet
from smcinfer.nn.half import restore_half

WEIGHTS = Path(__file__).parent / "weights.safetensors"


def load(path: Path = WEIGHTS) -> Tagger:
    """The trained tagger.

    Raises:
        CheckpointError: if its weights are damaged or of another version.
    """
    metadata = nn.read_metadata(path)
    tags = TagSet(**{name: tuple(values) for name, values in metadata["tags"].items()})
    features = WordFeatures(tuple(metadata["words"]))
    return restore_half(path, lambda key: build(key, tags, features))
