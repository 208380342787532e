"""The motifs of tagging: a run of neighbouring words, and two words that one skip edge links."""

from smcinfer.graphs import Motif, Slot
from smcinfer.ground import validate


def chain_motif(size: int, num_tags: int) -> Motif:
    """``size`` neighbouring words between two others: groups ``unary`` and ``pair``.

    Raises:
        ArgumentError: for a size below one.
    """
    validate.count("size", size)
    left, right = size, size + 1
    order = [left, *range(size), right]
    slots = [Slot("unary", (place,)) for place in range(size)]
    slots += [Slot("pair", pair) for pair in zip(order, order[1:], strict=False)]
    return Motif(f"chain_{size}", (num_tags,) * size, (num_tags,) * 2, tuple(slots))


def skip_motif(num_tags: int) -> Motif:
    """Two words that a factor of group ``skip`` links, each between two others."""
    places = [(2, 0), (0, 3), (4, 1), (1, 5)]
    slots = [Slot("unary", (0,)), Slot("unary", (1,)), *(Slot("pair", pair) for pair in places), Slot("skip", (0, 1))]
    return Motif("skip", (num_tags,) * 2, (num_tags,) * 4, tuple(slots))
