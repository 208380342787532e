"""The tags a tagger knows, and the best sequence of tags that makes a tree."""

import dataclasses
from collections import Counter
from collections.abc import Iterable

import numpy as np

from smcinfer.ground.arrays import Float, Int
from smcinfer.language.syntax.tetra import TetraTags, encode
from smcinfer.language.syntax.trees import Tree

RARE = "?"
"""Label that stands for all too rare to learn; it makes no bracket."""


@dataclasses.dataclass(frozen=True)
class TagSet:
    """Tetra-tags by number.

    Attributes:
        leaf: tags of words, ``"l|?"`` and ``"r|?"`` among them.
        internal: tags of gaps, ``"L|?"`` and ``"R|?"`` among them.
        pos: parts of speech, the first for unknown ones.
    """

    leaf: tuple[str, ...]
    internal: tuple[str, ...]
    pos: tuple[str, ...]

    def ids(self, tags: TetraTags) -> tuple[Int[np.ndarray, " words"], Int[np.ndarray, " gaps"]]:
        """Numbers of the tags of one tree; a tag not in the set counts as rare."""
        return _numbers(tags.leaf, self.leaf), _numbers(tags.internal, self.internal)

    def pos_ids(self, tree: Tree) -> Int[np.ndarray, " words"]:
        """Numbers of the parts of speech of a tree's leaves."""
        places = {name: number for number, name in enumerate(self.pos)}
        return np.array([places.get(leaf.label, 0) for leaf in tree.leaves()], np.int32)

    def unknown(self, tags: TetraTags) -> list[str]:
        """Tags that count as rare."""
        known = {*self.leaf, *self.internal}
        return sorted({tag for tag in (*tags.leaf, *tags.internal) if tag not in known})

    def best(
        self, leaf: Float[np.ndarray, "words leaf_tags"], internal: Float[np.ndarray, "gaps internal_tags"]
    ) -> TetraTags:
        """The tags of highest total score among those of trees, by dynamic programming over the depth of the stack.

        A left leaf opens a part (depth + 1), a right leaf closes the last one, a left node keeps the depth, a right node joins
        two parts (depth - 1); a tree ends at depth one.

        Args:
            leaf: Float["N leaf_tags"], log probabilities of each word's tags, nats.
            internal: Float["N-1 internal_tags"], those of each gap's.

        Source: Kitaev & Klein (2020), section 3.2.
        """
        opens, closes = (_best_of(leaf, self.leaf, side) for side in "lr")
        keeps, joins = (_best_of(internal, self.internal, side) for side in "LR")
        size = len(leaf)
        # score[d]: best so far with d parts on the stack, right after a word.
        score = np.full(size + 2, -np.inf)
        score[1] = opens[0][0]
        back = []
        for at in range(1, size):
            joined = np.full(size + 2, -np.inf)
            joined[1:-1] = score[2:] + joins[0][at - 1]
            kept = score + keeps[0][at - 1]
            after_gap = np.maximum(kept, joined)
            opened = np.full(size + 2, -np.inf)
            opened[1:] = after_gap[:-1] + opens[0][at]
            # Only where a part waits can a word close it.
            closed = np.where(np.arange(size + 2) >= 1, after_gap + closes[0][at], -np.inf)
            back.append((kept >= joined, opened >= closed))
            score = np.maximum(opened, closed)
        depth = 1
        leaf_tags, internal_tags = [], []
        for at in range(size - 1, 0, -1):
            keep, opening = back[at - 1]
            pick = opens if opening[depth] else closes
            leaf_tags.append(self.leaf[pick[1][at]])
            depth -= int(opening[depth])
            pick = keeps if keep[depth] else joins
            internal_tags.append(self.internal[pick[1][at - 1]])
            depth += int(not keep[depth])
        leaf_tags.append(self.leaf[opens[1][0]])
        plain = [[tag.replace(RARE, "") for tag in reversed(tags)] for tags in (leaf_tags, internal_tags)]
        return TetraTags(tuple(plain[0]), tuple(plain[1]))


def tagset(trees: Iterable[Tree], min_count: int = 3) -> TagSet:
    """The tags that occur at least so often in some trees."""
    leaf: Counter[str] = Counter()
    internal: Counter[str] = Counter()
    pos: Counter[str] = Counter()
    for tree in trees:
        tags = encode(tree)
        leaf.update(tags.leaf)
        internal.update(tags.internal)
        pos.update(node.label for node in tree.leaves())
    return TagSet(
        _frequent(leaf, min_count, (f"l|{RARE}", f"r|{RARE}")),
        _frequent(internal, min_count, (f"L|{RARE}", f"R|{RARE}")),
        _frequent(pos, min_count, (RARE,)),
    )


def _frequent(counts: Counter[str], min_count: int, rare: tuple[str, ...]) -> tuple[str, ...]:
    return rare + tuple(sorted(tag for tag, count in counts.items() if count >= min_count and tag not in rare))


def _numbers(tags: tuple[str, ...], names: tuple[str, ...]) -> Int[np.ndarray, " tags"]:
    places = {name: number for number, name in enumerate(names)}
    return np.array([places[tag] if tag in places else places[f"{tag[0]}|{RARE}"] for tag in tags], np.int32)


def _best_of(
    scores: Float[np.ndarray, "items tags"], names: tuple[str, ...], side: str
) -> tuple[Float[np.ndarray, " items"], Int[np.ndarray, " items"]]:
    """The best score of each item among the tags of one side, and which tag has it."""
    members = np.array([number for number, name in enumerate(names) if name[0] == side])
    chosen = members[scores[:, members].argmax(axis=1)] if len(scores) else np.zeros(0, np.int64)
    return np.take_along_axis(scores, chosen[:, None], axis=1)[:, 0] if len(scores) else np.zeros(0), chosen
