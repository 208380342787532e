"""Trees in brackets, tetra-tags and back, decoding by dynamic programme against all trees, the treebank as a whole."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.language.syntax import pretraining, treebank
from smcinfer.language.syntax.features import shape, word_features
from smcinfer.language.syntax.packing import NONE, pack, pack_trees
from smcinfer.language.syntax.score import BracketScore, bracket_score
from smcinfer.language.syntax.tagset import TagSet, tagset
from smcinfer.language.syntax.tetra import TetraTags, decode, encode
from smcinfer.language.syntax.trees import Tree, parse, parse_all
from smcinfer.language.syntax.words import join_words, split_sentences, split_words

TREES = [
    "(NN word)",
    "(NP (NN word))",
    "(S (NP (PRP She)) (VP (VBD slept)) (. .))",
    "(S (NP (DT the) (JJ old) (JJ grey) (NN cat)) (VP (VBD saw) (S (VP (TO to) (VP (VB it))))) (. .))",
    "(S (VP (VB Go)))",
    "(NP (NP (NP (NN a)) (CC and)) (NP (NP (NN b)) (SBAR (WHNP (WDT that)) (S (VP (VBZ is))))))",
]


@pytest.mark.parametrize("text", TREES)
def test_a_tree_comes_back_from_text_and_from_tags(text: str) -> None:
    tree = parse(text)
    assert str(tree) == text
    tags = encode(tree)
    size = len(tree.leaves())
    assert (len(tags.leaf), len(tags.internal)) == (size, size - 1)
    assert decode(tags, tree.leaves()) == tree


def test_tags_are_the_published_ones() -> None:
    # Kitaev & Klein's scheme: leaf left or right child, node left or right child, in order of the sentence.
    tags = encode(parse("(S (NP (PRP She)) (VP (VBZ enjoys) (S (VP (VBG playing) (NP (NN tennis))))) (. .))"))
    assert tags.leaf == ("l|NP", "l|", "l|", "r|NP", "r|")
    assert tags.internal == ("L|S", "L|VP", "R|S+VP", "R|")


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ("(S (NP (PRP She))", "column 1", "never closed"),
        ("(S (NP (PRP She)))\n)", "line 2, column 1", "nothing opened"),
        ("(S (NP (PRP She))) slept", "column 20", "outside of all brackets"),
        ("(S ())", "column 5", "empty bracket"),
        ("(NP the cat)", "column 9", "second word"),
        ("(NP (DT the) cat)", "column 14", "beside constituents"),
        ("(NP the (NN cat))", "column 9", "beside the word"),
    ],
)
def test_malformed_brackets_say_where_and_why(text: str, where: str, why: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_all(text)
    assert where in str(caught.value) and why in str(caught.value)


def test_one_tree_means_one() -> None:
    for text in ("", "(NN a) (NN b)"):
        with pytest.raises(ArgumentError, match="no single tree"):
            parse(text)


@pytest.mark.parametrize(
    ("leaf", "internal"),
    [
        (("r|", "l|"), ("L|S",)),
        (("l|", "l|"), ("L|S",)),
        (("l|", "r|"), ("R|S",)),
        (("l|",), ()),
        (("l|", "x"), ("L|S",)),
    ],
)
def test_tags_of_no_tree_are_refused(leaf: tuple[str, ...], internal: tuple[str, ...]) -> None:
    with pytest.raises(ArgumentError):
        decode(TetraTags(leaf, internal), [Tree("NN", (), "a"), Tree("NN", (), "b")])


def all_tags(tags: TagSet, size: int) -> Iterator[TetraTags]:
    """Every sequence of tags over so many words, trees or not."""
    for leaf in itertools.product(tags.leaf, repeat=size):
        for internal in itertools.product(tags.internal, repeat=size - 1):
            yield TetraTags(leaf, internal)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_decoding_finds_the_best_tags_of_a_tree(size: int) -> None:
    tags = TagSet(("l|", "r|", "r|NP"), ("L|S", "R|S", "R|"), ("", "NN"))
    leaves = [Tree("NN", (), "a")] * size
    possible = []
    for sequence in all_tags(tags, size):
        try:
            decode(sequence, leaves)
        except ArgumentError:
            continue
        possible.append(sequence)
    draws = np.random.default_rng(size)
    for _ in range(30):
        leaf, internal = draws.normal(size=(size, 3)), draws.normal(size=(size - 1, 3))

        def total(sequence: TetraTags, leaf: np.ndarray = leaf, internal: np.ndarray = internal) -> float:
            ids = tags.ids(sequence)
            return leaf[np.arange(size), ids[0]].sum() + internal[np.arange(size - 1), ids[1]].sum()

        assert total(tags.best(leaf, internal)) == pytest.approx(max(map(total, possible)))


def test_rare_tags_share_a_number_and_make_no_bracket() -> None:
    common, rare = parse("(S (NP (NN a)) (VP (VB b)))"), parse("(S (NP (NN a)) (VP (QP (VB b))))")
    tags = tagset([common] * 3 + [rare], min_count=2)
    assert tags.unknown(encode(rare)) == ["r|VP+QP"]
    leaf, _ = tags.ids(encode(rare))
    assert tags.leaf[leaf[1]] == "r|?"
    scores = np.full((2, len(tags.leaf)), -9.0)
    scores[[0, 1], leaf] = 0.0
    best = tags.best(scores, np.zeros((1, len(tags.internal))))
    assert best.leaf == ("l|NP", "r|")


def test_brackets_are_counted_with_their_labels() -> None:
    wanted = parse("(S (NP (DT the) (NN cat)) (VP (VBD slept)))")
    assert bracket_score(wanted, wanted).f1 == 1.0
    other = parse("(S (NP (DT the)) (VP (NN cat) (VBD slept)))")
    assert bracket_score(wanted, other) == BracketScore(1, 3, 3)
    assert bracket_score(wanted, None) == BracketScore(0, 3, 0)
    twice = parse("(NP (NP (NN a)))")
    assert bracket_score(twice, parse("(NP (NN a))")) == BracketScore(1, 2, 1)


def test_a_treebank_is_made_plain() -> None:
    tree = parse("(ROOT (S (NP-SBJ-1 (PRP She)) (VP (VBD slept) (NP (-NONE- *-1)) (ADVP=2 (RB there))) (-LRB- -LRB-)))")
    plain = "(S (NP (PRP She)) (VP (VBD slept) (ADVP (RB there))) (-LRB- -LRB-))"
    assert str(treebank.simplify(tree)) == plain
    assert treebank.simplify(parse("(ROOT (NP (-NONE- *)))")) is None


def test_a_damaged_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no treebank"):
        treebank.read(tmp_path)
    (tmp_path / "a_b_c.ptb").write_text("(ROOT (NP (NN a)))\n(ROOT (NP\n", encoding="utf8")
    with pytest.raises(ArgumentError, match=r"a_b_c\.ptb does not parse[\s\S]*line 2"):
        treebank.read(tmp_path)


def test_words_and_sentences() -> None:
    text = 'Mr. Fox didn\'t stop. "Why?" she asked. He paid $3.50!'
    sentences = list(split_sentences(text))
    assert sentences[0] == ["Mr.", "Fox", "did", "n't", "stop", "."]
    assert sentences[1] == ['"', "Why", "?", '"']
    assert sentences[-1] == ["He", "paid", "$", "3.50", "!"]
    assert join_words(split_words(text)) == text
    assert shape("McNally-2010") == "XxXx-d"
    features = word_features(["The", "the", "cat"])
    assert features.words == ("the",)
    assert (features(["THE"])[0, 0], features(["dog"])[0, 0]) == (1, 0)


def test_packing_puts_every_sentence_into_one_row() -> None:
    sizes = [3, 9, 4, 4, 1, 8, 2]
    layout = pack(sizes, 8)
    assert sorted(itertools.chain(*layout)) == [0, 2, 3, 4, 5, 6]
    assert all(sum(sizes[number] for number in row) <= 8 for row in layout)
    assert len(layout) == 3
    tree = parse(TREES[2])
    packed = pack_trees([tree, tree], tagset([tree], 1), word_features(tree.words(), 1), 8)
    assert packed.leaf.shape == (1, 8)
    assert (np.asarray(packed.internal[0]) == NONE).tolist() == [True, False, False, True, False, False, True, True]
    assert np.flatnonzero(packed.first[0]).tolist() == [0, 3, 6]
    assert np.flatnonzero(packed.last[0]).tolist() == [2, 5, 7]


def test_plain_sentences_know_their_neighbours() -> None:
    features = word_features(["the", "cat", "the", "cat"])
    row = pretraining.pack_sentences([["The", "cat"], ["a", "cat", "slept"]], features, 8)
    unknown, cat, the, none = 0, 1, 2, 3
    assert features.words == ("cat", "the")
    assert row.after[0].tolist()[:5] == [cat, unknown, none, cat, none]
    assert row.before[0].tolist()[:5] == [none, unknown, cat, none, the]
    assert (np.asarray(row.after[0, 5:]) == NONE).all()
    assert np.flatnonzero(row.first[0]).tolist() == [0, 3, 5]


def test_documents_are_split_into_disjoint_parts(shared_data: Path) -> None:
    names = [path.stem for path in (shared_data / "treebank" / "gum_free").glob("*.ptb")]
    parts = treebank.split([treebank.Document(name, ()) for name in names])
    assert sorted(document.name for part in parts.values() for document in part) == sorted(names)
    assert all(len(parts[name]) >= 5 for name in treebank.SPLITS)
    # The part of a document depends on its name alone, not on the order on disk.
    again = treebank.split([treebank.Document(name, ()) for name in reversed(names)])
    assert again == parts


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_every_tree_of_the_treebank_comes_back(shared_data: Path, every: int) -> None:
    paths = sorted((shared_data / "treebank" / "gum_free").glob("*.ptb"))[::every]
    trees = treebank.trees([treebank.read_document(path) for path in paths])
    assert len(trees) > 4500 / (2 * every)
    for tree in trees:
        assert decode(encode(tree), tree.leaves()) == tree
