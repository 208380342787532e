"""Tags of neighbouring words, two to four of them, and of two linked words: proposals for fields of thirteen BIO tags."""

from pathlib import Path

import jax

from smcinfer.graphs import Motif
from smcinfer.ground.errors import ArgumentError, CheckpointError
from smcinfer.nn import storage
from smcinfer.nn.precision import restore_in_current_precision
from smcinfer.proposals.chain_tags.motifs import chain_motif, skip_motif
from smcinfer.proposals.chain_tags.network import TagBlocks, tag_blocks

NUM_TAGS = 13
"""Six types of entity, begun and continued, and none."""

MOTIFS: dict[str, Motif] = {f"chain_{size}": chain_motif(size, NUM_TAGS) for size in (2, 3, 4)} | {
    "skip": skip_motif(NUM_TAGS)
}

__all__ = ["MOTIFS", "NUM_TAGS", "TagBlocks", "chain_motif", "load", "skip_motif", "tag_blocks", "weights_of"]


def weights_of(motif: str) -> Path:
    """Where the weights for a motif are kept."""
    return Path(__file__).with_name(f"{motif}.safetensors")


def load(motif: str = "chain_2", path: Path | None = None) -> TagBlocks:
    """A trained proposal: ``load(...).moves(graph)`` are moves on any graph of thirteen BIO tags that has the motif.

    Args:
        motif: ``"chain_2"``, ``"chain_3"``, ``"chain_4"`` or ``"skip"``.
        path: the weights; those of the library where ``None``.

    Raises:
        ArgumentError: there is no such motif.
        CheckpointError: weights of another motif or version.
    """
    if motif not in MOTIFS:
        raise ArgumentError("no such motif", expected=" | ".join(MOTIFS), got=motif)
    path = weights_of(motif) if path is None else path
    found = storage.read_metadata(path)
    if found.get("motif") != MOTIFS[motif].digest:
        raise CheckpointError(
            f"{path} holds weights of another motif",
            expected=f"{motif}, digest {MOTIFS[motif].digest}",
            got=found.get("motif"),
            hint="python -m smcinfer.proposals.chain_tags.recipe makes them again",
        )
    return restore_in_current_precision(path, tag_blocks(jax.random.key(0), MOTIFS[motif]))
