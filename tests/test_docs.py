"""The documentation tells the truth: every example runs, prints what it says, and every command exists."""

import re
import shlex
from pathlib import Path

import pytest

from docs.examples import PAGES, examples, run
from smcinfer.cli.app import build
from tests.conftest import ROOT

NUMBER = re.compile(r"[-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|\bnan\b|\binf\b)")


def words(text: str) -> str:
    """Text without its numbers and spacing: what must not depend on the machine."""
    return " ".join(NUMBER.sub("#", text).split())


def blocks(language: str) -> list[tuple[str, str]]:
    """Page name and one code block of a language, for every block."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(page.name, match[1]) for page in PAGES for match in pattern.finditer(page.read_text(encoding="utf8"))]


# Pages whose examples compile a dozen programs each.
LONG = {
    "beat_tracking",
    "bring_your_own_blackjax_kernel",
    "constraints",
    "controlled_generation",
    "diffusion",
    "discrete_diffusion",
    "filtering",
    "learned_proposals",
    "learned_twists",
    "log_z",
    "move_kernels",
    "open_universe_mixtures",
    "particle_mcmc",
}
RUNNABLE = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in LONG else [])
    for page in PAGES
    if examples(page)
]


@pytest.mark.parametrize("page", RUNNABLE)
def test_examples_print_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for example, printed in zip(examples(page), run(page), strict=True):
        if example.output is not None:
            assert words(printed) == words(example.output), f"{page.name}, line {example.line}\n{printed}"


def test_a_wrong_output_would_be_seen() -> None:
    assert words("log Z  -7.41 ± 0.08") == words("log Z -7.43 ± 0.1")
    assert words("log Z  -7.41 ± 0.08") != words("log Y -7.41 ± 0.08")
    assert words("status OK") != words("status SCHEDULE_UNFINISHED")


def test_every_example_is_seen_by_the_runner() -> None:
    count = sum(page.read_text(encoding="utf8").count("```python\n") for page in PAGES)
    assert count == sum(len(examples(page)) for page in PAGES) > 10


def test_every_page_is_in_the_navigation() -> None:
    lines = (ROOT / "mkdocs.yml").read_text(encoding="utf8").split("exclude_docs")[0]
    listed = set(re.findall(r"[\w/]+\.md", lines))
    assert listed == {page.name for page in PAGES if page.parent.name == "docs"}


@pytest.mark.parametrize(("page", "block"), blocks("bash"))
def test_commands_are_understood(page: str, block: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf8"), re.MULTILINE))
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["smcinfer"]:
            assert build().parse_args(words[1:])[0].__name__ == words[1], f"{page}: {line}"
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets, f"{page}: {line}"


def test_configuration_names_files_that_exist() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf8")
    names = re.findall(r"(?:docs|javascripts)/[\w/]+\.(?:py|js)$", text, re.MULTILINE)
    assert len(names) == 2
    for name in names:
        assert (ROOT / name).exists() or (ROOT / "docs" / name).exists(), name
