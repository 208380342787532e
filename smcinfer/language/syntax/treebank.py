"""A treebank on disk: documents of bracketed trees, made plain, and split by document."""

import dataclasses
import re
import zlib
from pathlib import Path

from smcinfer.ground.errors import ArgumentError
from smcinfer.language.syntax.trees import Tree, parse_all

SPLITS = ("tagger", "parser", "dev", "test")
"""Documents that taggers learn from, that the evaluation parser learns from, that training watches, and that nobody sees."""

_SHARES = (0.46, 0.36, 0.06)
_FUNCTION = re.compile(r"(?<=.)[-=|].*")
_ROOTS = ("ROOT", "TOP", "")


@dataclasses.dataclass(frozen=True)
class Document:
    """One text of the treebank.

    Attributes:
        name: the file's, without its ending.
        trees: its sentences, without function tags, traces and root.
    """

    name: str
    trees: tuple[Tree, ...]


def read(folder: str | Path) -> list[Document]:
    """Every ``.ptb`` file of a folder, by name.

    Raises:
        ArgumentError: if there is none, or one does not parse (says which, where and why).
    """
    paths = sorted(Path(folder).glob("*.ptb"))
    if not paths:
        raise ArgumentError("no treebank here", expected="a folder of .ptb files", got=str(folder))
    return [read_document(path) for path in paths]


def read_document(path: Path) -> Document:
    """One ``.ptb`` file.

    Raises:
        ArgumentError: if it does not parse (says where and why).
    """
    try:
        found = parse_all(path.read_text(encoding="utf8"))
    except ArgumentError as error:
        raise ArgumentError(f"{path.name} does not parse", got=str(error)) from error
    return Document(path.stem, tuple(plain for tree in found if (plain := simplify(tree)) is not None))


def simplify(tree: Tree) -> Tree | None:
    """A tree without function tags, traces and its root; ``None`` where nothing is left.

    ``(ROOT (S (NP-SBJ (PRP She)) (VP (VBD slept) (NP (-NONE- *)))))`` becomes ``(S (NP (PRP She)) (VP (VBD slept)))``.
    """
    plain = _plain(tree)
    while plain is not None and plain.label in _ROOTS and len(plain.children) == 1:
        plain = plain.children[0]
    return plain


def _plain(tree: Tree) -> Tree | None:
    if tree.is_leaf:
        return None if tree.label == "-NONE-" else tree
    children = tuple(plain for child in tree.children if (plain := _plain(child)) is not None)
    return Tree(_FUNCTION.sub("", tree.label), children) if children else None


def split(documents: list[Document]) -> dict[str, list[Document]]:
    """Documents by `SPLITS`, disjoint, decided by their names alone.

    Within each genre (the second word of a name) documents are ordered by a checksum of their names and dealt in fixed shares.
    """
    parts: dict[str, list[Document]] = {name: [] for name in SPLITS}
    genres: dict[str, list[Document]] = {}
    for document in sorted(documents, key=lambda document: document.name):
        genres.setdefault("_".join(document.name.split("_")[:2]), []).append(document)
    for members in genres.values():
        members.sort(key=lambda document: zlib.crc32(document.name.encode()))
        ends = [round(len(members) * sum(_SHARES[: place + 1])) for place in range(len(_SHARES))]
        for name, start, end in zip(SPLITS, [0, *ends], [*ends, len(members)], strict=True):
            parts[name].extend(members[start:end])
    return parts


def trees(documents: list[Document]) -> list[Tree]:
    """All trees of some documents, in order."""
    return [tree for document in documents for tree in document.trees]
