r"""Tetra-tags: a tree as two tags a word, one on the word and one on the gap after it.

A tree is made binary by right branching, chains of single children are joined (``"S+VP"``), and its nodes are visited in order:
leaf, node that splits after it, leaf, ... A leaf's tag says whether it is a left (``l``) or right (``r``) child, a node's
likewise (``L``, ``R``; the top counts as left); after the bar stands the label, empty for nodes that binarising made.
``N`` words have :math:`2N - 1` tags, and the tree comes back exactly.

Source: Kitaev & Klein (2020), "Tetra-tagging: word-synchronous parsing with linear-time inference".
"""

import dataclasses
from collections.abc import Sequence

from smcinfer.ground.errors import ArgumentError
from smcinfer.language.syntax.trees import Tree

JOIN = "+"
"""Between the labels of a chain, the upper one first."""


@dataclasses.dataclass(frozen=True)
class TetraTags:
    """The tags of one tree.

    Attributes:
        leaf: one a word, ``"l|"`` or ``"r|NP"``.
        internal: one a gap between two words, ``"L|S"`` or ``"R|"``.
    """

    leaf: tuple[str, ...]
    internal: tuple[str, ...]


def encode(tree: Tree) -> TetraTags:
    """The tags of a tree."""
    leaf: list[str] = []
    internal: list[str] = []

    def visit(siblings: Sequence[Tree], label: str, left: bool) -> None:
        """A node of the binary tree: ``siblings`` under ``label``."""
        if len(siblings) > 1:
            first, first_label = _chain(siblings[0])
            visit(first, first_label, True)
            internal.append(f"{'L' if left else 'R'}|{label}")
            rest = siblings[1:]
            visit(*(_chain(rest[0]) if len(rest) == 1 else (rest, "")), False)
        else:
            leaf.append(f"{'l' if left else 'r'}|{label}")

    visit(*_chain(tree), True)
    return TetraTags(tuple(leaf), tuple(internal))


def _chain(tree: Tree) -> tuple[Sequence[Tree], str]:
    """What a chain of single children ends in, several siblings or one leaf, and the labels passed, joined."""
    labels = []
    while not tree.is_leaf:
        labels.append(tree.label)
        if len(tree.children) > 1:
            return tree.children, JOIN.join(labels)
        tree = next(iter(tree.children))
    return (tree,), JOIN.join(labels)


class _Node:
    """A node while it is built; ``right`` is ``None`` as long as it waits for its right child."""

    def __init__(self, label: str, left: "_Node | Tree") -> None:
        self.label, self.left, self.right = label, left, None
        self.right: _Node | Tree | None


def decode(tags: TetraTags, leaves: Sequence[Tree]) -> Tree:
    """The tree of its tags and its leaves.

    Args:
        tags: as `encode` gives them, or a tagger's (`smcinfer.language.syntax.decoding` finds ones that fit together).
        leaves: part of speech and word of each leaf.

    Raises:
        ArgumentError: if the tags are those of no tree over so many leaves.
    """
    if len(tags.leaf) != len(leaves) or len(tags.internal) != len(leaves) - 1:
        raise ArgumentError(
            "tags and leaves do not match",
            expected=f"{len(leaves)} and {len(leaves) - 1} tags for {len(leaves)} leaves",
            got=f"{len(tags.leaf)} and {len(tags.internal)}",
        )
    # Each subtree of the stack waits for a right child at its `open` node, the last one only between gap and word.
    stack: list[_Node | Tree] = []
    waiting: list[_Node] = []
    for at, leaf in enumerate(leaves):
        side, label = _split(tags.leaf[at], "lr")
        word = _wrap(leaf, label)
        if side == "l":
            stack.append(word)
        else:
            if not waiting:
                raise _misfit(at, tags.leaf[at], "no node waits for a right child")
            waiting.pop().right = word
        if at == len(leaves) - 1:
            break
        side, label = _split(tags.internal[at], "LR")
        node = _Node(label, stack.pop())
        if side == "L":
            stack.append(node)
        else:
            if not waiting:
                raise _misfit(at, tags.internal[at], "no node waits for a right child")
            waiting.pop().right = node
        waiting.append(node)
    if len(stack) != 1 or waiting:
        raise ArgumentError("the tags leave parts unconnected", expected="one tree", got=f"{len(stack)} parts")
    return _tree(stack[0])


def _split(tag: str, sides: str) -> tuple[str, str]:
    side, bar, label = tag.partition("|")
    if side not in sides or not side or not bar:
        raise ArgumentError("not a tetra-tag", expected=f"{sides[0]}|LABEL or {sides[1]}|LABEL", got=tag)
    return side, label


def _misfit(at: int, tag: str, reason: str) -> ArgumentError:
    return ArgumentError(f"the tag {tag!r} of word {at} does not fit", expected="tags of a tree", got=reason)


def _wrap(tree: Tree, label: str) -> Tree:
    """The chain of a joined label above a tree; an empty label adds nothing."""
    for part in reversed(label.split(JOIN)) if label else ():
        tree = Tree(part, (tree,))
    return tree


def _tree(node: _Node | Tree) -> Tree:
    """The tree of a binary one: nodes without a label dissolve into their parents, joined labels come apart."""

    def pieces(node: _Node | Tree) -> tuple[Tree, ...]:
        if isinstance(node, Tree):
            return (node,)
        assert node.right is not None  # every node got its right child, or `decode` refused
        children = pieces(node.left) + pieces(node.right)
        if not node.label:
            return children
        upper, _, lowest = node.label.rpartition(JOIN)
        return (_wrap(Tree(lowest, children), upper),)

    top = pieces(node)
    return top[0] if len(top) == 1 else Tree("", top)
