"""The trained parts of syntactic control: what their cards say, what they do on plain sentences, and the command line."""

import json
from pathlib import Path

import pytest

from smcinfer import nn
from smcinfer.cli import main
from smcinfer.language.syntax import bracket_score, parse, split_words
from smcinfer.models import parser as parsers
from smcinfer.models import syntactic_control, word_lm
from smcinfer.models import tagger as taggers
from tests.conftest import ROOT

PLAIN = [
    "(S (NP (DT The) (JJ little) (NN girl)) (VP (VBD saw) (NP (DT a) (JJ big) (NN dog))) (. .))",
    "(S (NP (PRP He)) (VP (VBD was) (VP (VBN born) (PP (IN in) (NP (NNP London))))) (. .))",
]


@pytest.mark.dealt
@pytest.mark.parametrize("module", [taggers, parsers], ids=["tagger", "parser"])
def test_plain_sentences_are_read_as_a_person_would(module: object) -> None:
    reader = module.load()  # pyright: ignore[reportAttributeAccessIssue]
    for text in PLAIN:
        tree = parse(text)
        assert bracket_score(tree, reader.parse(tree.words())).f1 == 1.0


@pytest.mark.parametrize(
    ("name", "metric", "digits"),
    [
        ("tagger", "leaf_accuracy", 3),
        ("tagger", "bracket_f1", 3),
        ("parser", "bracket_f1_4_to_20", 3),
        ("word_lm", "stories_perplexity", 1),
    ],
)
def test_cards_say_what_the_recipes_measured(name: str, metric: str, digits: int) -> None:
    folder = ROOT / "models" / name
    value = nn.read_metadata(folder / "weights.safetensors")["metrics"][metric]
    assert f"| {value:.{digits}f} |" in (folder / "README.md").read_text(encoding="utf8")


def test_words_become_tokens_and_text() -> None:
    model = word_lm.load()
    tokens = model.tokenizer.encode("The cat did n't run .")
    assert tokens[0] == model.bos_id
    assert [model.words[token] for token in tokens[1:]] == ["The", "cat", "did", "n't", "run", "."]
    assert model.tokenizer.decode(tokens) == "The cat didn't run."
    assert word_lm.load_gram().pos.shape[1] == len(model.words)


TREE = "(S (NP (DT) (NN)) (VP (VBD)) (. .))"


@pytest.mark.slow
def test_the_command_line_generates_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    size = ("--num-particles", "32", "--num-runs", "2", "--show", "3", "--no-progress")
    assert main(["tree", TREE, "--out", str(out), *size]) == 0
    found = json.loads(out.read_text(encoding="utf8"))
    assert "log Z" in capsys.readouterr().out
    assert found["unknown_tags"] == []
    assert sum(text["weight"] for text in found["texts"]) == pytest.approx(1.0, abs=1e-4)
    tagger = taggers.load()
    best = tagger.parse(split_words(found["texts"][0]["text"]))
    assert bracket_score(parse(found["tree"]), best).f1 > 0.6


def test_the_command_line_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tree", "(S (NP (DT)"]) == 2
    assert "line 1, column 4" in capsys.readouterr().err


def test_tags_too_rare_are_named() -> None:
    control = syntactic_control.load()
    tree = parse("(ROOT (S (NP (NN a)) (VP (QP (VB b)))))")
    assert control.unknown_tags(tree) == ["r|VP+QP"]
    assert control.unknown_tags(parse(PLAIN[0])) == []
