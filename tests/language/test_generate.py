"""``smcinfer generate`` from its own entry: text that does as asked, bounds, a file, and every way to get it wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from smcinfer.cli import main
from smcinfer.cli.generate import upper_bound
from smcinfer.language import LlamaConfig, generation, random_llama
from smcinfer.models import stories
from smcinfer.models.stories.recipe import save
from tests.exact_language import small_lm
from tests.synthetic import make_result

CONFIG = LlamaConfig(
    vocab_size=1024,
    dim=8,
    mlp_dim=8,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    max_positions=64,
    windows=(None,),
    tied=True,
    rope=(("rope_theta", 10000.0),),
)
SMALL = ("--max-tokens", "3", "--num-particles", "8", "--num-runs", "2", "--no-progress")
FUNCTIONS = """
def fails(text):
    raise LookupError(text)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model of random weights, small enough to compile at once, and the stories' tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    save(folder, random_llama(0, CONFIG, 0.3), Tokenizer.from_file(str(stories.FOLDER / "tokenizer.json")))
    return folder


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of potentials."""
    path = tmp_path_factory.mktemp("functions") / "wishes.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command, which must fail with exit code 2 and one message on stderr; returns the message."""

    def run(*arguments: Any) -> str:
        assert main(["generate", *map(str, arguments), *SMALL]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and "smcinfer generate:" in captured.err
        return captured.err

    return run


@pytest.mark.slow
def test_text_as_asked_with_both_bounds_in_a_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "texts.json"
    command = ["generate", "--model", str(model), "--prompt", "Once upon", "--avoid", "e", "--classifier", "positive"]
    command += ["--filter", "top_k=500,temperature=1.2", "--out", str(out), "--show", "2", *SMALL]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "lower bound" in printed and "from an exact draw" in printed and "more\n" in printed
    found = json.loads(out.read_text())
    assert found["asked"]["filter"] == "top_k=500,temperature=1.2" and found["prompt"] == "Once upon"
    assert sum(text["weight"] for text in found["texts"]) == pytest.approx(1.0, abs=1e-5)
    assert all("e" not in text["text"] and 1 <= len(text["tokens"]) <= 3 for text in found["texts"])
    (low, low_se), (high, high_se) = found["lower_bound"], found["upper_bound"]
    assert low < 0.0 and low - high < 5 * (low_se**2 + high_se**2) ** 0.5
    assert found["no_upper_bound_because"] is None


@pytest.mark.slow
def test_a_pattern_is_kept_to(model: Path, tmp_path: Path) -> None:
    (tmp_path / "any.lark").write_text("start: /[ abc.]*/")
    out = tmp_path / "texts.json"
    command = ["generate", "--model", str(model), "--prompt", "Once upon", "--regex", "[ abd]+", "--stop", "."]
    assert main([*command, "--grammar", str(tmp_path / "any.lark"), "--out", str(out), *SMALL]) in (0, 1)
    texts = [text["text"] for text in json.loads(out.read_text())["texts"]]
    assert texts and all(set(text.removesuffix(".")) <= set(" ab") for text in texts)


@pytest.mark.slow
def test_infilling_says_why_there_is_no_upper_bound(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "--model", str(model), "--prompt", "Once upon", "--infill", " the end.", *SMALL]
    assert main(command) in (0, 1)
    printed = capsys.readouterr().out
    assert "no upper bound: 8 exact draws by rejection would take about" in printed
    assert "the end." in printed


def test_a_potential_without_a_known_bound_has_no_upper_bound() -> None:
    target = generation(small_lm(), [1], max_tokens=1, eos_id=None)
    upper, why = upper_bound(None, target, None, make_result(), 4096, False)
    assert upper is None and "no known largest value" in why


@pytest.mark.slow
def test_what_a_function_raises_is_named(model: Path, functions: Path, refuse: Callable[..., str]) -> None:
    assert "the potential fails raised LookupError" in refuse(
        "--model", model, "--prompt", "A", "--potential", f"{functions}:fails"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--prompt", ""), "the prompt is empty"),
        (("--prompt", "A", "--model", "no/such/folder"), "no such model"),
        (("--prompt", "A", "--filter", "top_q=1"), "unknown filter"),
        (("--prompt", "A", "--filter", "top_k=5", "--model-share", "2"), "model_share is out of range"),
        (("--prompt", "A", "--twist", "none_such"), "no such entry in the library"),
        (("--prompt", "A", "--twist", "mixture_pair"), "the entry is no twist"),
        (("--prompt", "A", "--contain", ""), "nothing to look for"),
        (("--prompt", "A", "--end", "never"), "unknown end"),
        (("--prompt", "A", "--temperature", "0"), "temperature is out of range"),
        (("--prompt", "A", "--infill", " b" * 70), "do not fit into the model's context"),
        (("--prompt", "A", "--potential", "none.py:f"), "no such file"),
        (("--prompt", "A", "--out", "no/folder/texts.json"), "cannot write"),
        (("--prompt", "A", "--regex", "a(b"), "unclosed group"),
        (("--prompt", "A", "--schema", "no.json"), "no such file"),
        (("--prompt", "A", "--regex", "a", "--infill", " b"), "a constraint is on the whole text"),
        (("--prompt", "A", "--stop", "there was"), "no single token"),
        (("--prompt", "A", "--model-share", ".5"), "--model-share does nothing here"),
        (("--prompt", "A", "--whole-words"), "--whole-words does nothing here"),
        (("--prompt", "A", "--strength", "2"), "--strength does nothing here"),
        ((), "--prompt"),
        (("--prompt", "A", "--classifier", "neutral"), "neutral"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    options: tuple[str, ...], words: str, model: Path, refuse: Callable[..., str]
) -> None:
    where = () if "--model" in options else ("--model", model)
    assert words in refuse(*where, *options)


def test_a_directory_that_is_no_model(tmp_path: Path, refuse: Callable[..., str]) -> None:
    assert "has no config.json" in refuse("--model", tmp_path, "--prompt", "A")
