"""The documentation tells the truth: every example runs, prints what it says, and every command exists."""

import re
import shlex
from pathlib import Path

import pytest

from docs.examples import PAGES, examples, run
from smcinfer.cli.app import build
from tests.conftest import ROOT
from tests.figures import faults


def blocks(language: str) -> list[tuple[str, str]]:
    """Page name and one code block of a language, for every block."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(page.name, match[1]) for page in PAGES for match in pattern.finditer(page.read_text(encoding="utf8"))]


# Pages that list and do not explain.
LISTS = {"reference.md"}

# Pages that people read first; the others compile a dozen programs each.
QUICK = {"README", "cli", "concepts", "first_steps"}
RUNNABLE = [
    pytest.param(page, id=page.stem, marks=[] if page.stem in QUICK else [pytest.mark.slow])
    for page in PAGES
    if examples(page)
]


@pytest.mark.parametrize("page", RUNNABLE)
def test_examples_print_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words, names, counts and exact values are equal, estimates agree within both errors, bounds are on their side; times
    and numbers without an error are free. `tests.figures` has the rules.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for example, printed in zip(examples(page), run(page), strict=True):
        if example.output is not None:
            assert not faults(printed, example.output), f"{page.name}, line {example.line}\n{printed}"


SHOWN = """\
smcinfer result: hmc, 1000 particles x 4 runs
  log Z        -7.244 ± 0.077 nats, 99% interval [-7.465, -7.022] (within and between runs)
  lower bound  -7.256 ± 0.091 nats, E[log Z_hat] <= log Z
  upper bound  -7.239 ± 0.030 nats
  ESS          final 900 of 1000 particles; over steps min 473, median 506
  steps        7, mean acceptance 0.91, 111 density evaluations a particle (4.4e+05 in all)
  status       OK
  time         10.4 s, of which 10 s compiling

variable    mean      sd       5%     50%    95%     mcse   ess
theta     0.5514  0.8761  -0.8456  0.5728  2.046  0.01079  1999
log Z in [-3.82, -3.66], exact -3.69
shape (10, 5), 0 of 4096"""


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("-7.244 ± 0.077", "-7.4 ± 0.1"),
        ("-7.256 ± 0.091", "-8.1 ± 0.9"),
        ("[-7.465, -7.022]", "[-7.5, -7.0]"),
        ("final 900", "final 850"),
        ("473", "470"),
        ("111 density", "114 density"),
        ("0.91", "0.8"),
        ("10.4 s", "3 s"),
        ("10 s", "2 s"),
        ("1999", "1998"),
        ("0.5514", "0.5"),
        ("[-3.82, -3.66]", "[-3.80, -3.70]"),
        ("exact -3.69", "exact -3.70"),
    ],
)
def test_figures_may_vary_by_chance_and_machine(was: str, becomes: str) -> None:
    assert was in SHOWN and faults(SHOWN.replace(was, becomes), SHOWN) == []


@pytest.mark.parametrize(
    ("was", "becomes", "complaint"),
    [
        ("-7.244 ± 0.077", "-8.244 ± 0.077", "'log Z': -8.244 against -7.244"),
        ("-7.244 ± 0.077", "-inf ± 0.077", "'log Z': -inf against -7.244"),
        ("-7.256 ± 0.091", "-6.9 ± 0.01", "lower bound -6.9 ± 0.01 is beyond log Z -7.244"),
        ("-7.239 ± 0.030", "-7.9 ± 0.1", "upper bound -7.9 ± 0.1 is beyond log Z -7.244"),
        ("x 4 runs", "x 5 runs", "a count"),
        ("of 1000 particles", "of 999 particles", "a count"),
        ("0 of 4096", "3 of 4096", "a count"),
        ("(10, 5)", "(10, 6)", "a count"),
        ("exact -3.69", "exact -3.74", "exact"),
        ("[-3.82, -3.66]", "[-3.62, -3.60]", "exact -3.69 is outside [-3.62, -3.60]"),
        ("hmc", "nuts", "the words differ"),
        ("status       OK", "status       SCHEDULE_UNFINISHED", "the words differ"),
        ("-7.244 ± 0.077", "-7.244", "the words differ"),
    ],
)
def test_a_wrong_output_would_be_seen(was: str, becomes: str, complaint: str) -> None:
    if complaint.startswith(("lower", "upper")):
        # Wide errors on the page: the estimates agree, and only the side is wrong.
        shown = SHOWN.replace("-7.256 ± 0.091", "-7.256 ± 0.9").replace("-7.239 ± 0.030", "-7.239 ± 0.9")
        shown = shown.replace("-7.244 ± 0.077", "-7.244 ± 0.02")
        was = was.replace("0.091", "0.9").replace("0.030", "0.9")
    else:
        shown = SHOWN
    assert was in shown
    found = faults(shown.replace(was, becomes), shown)
    assert len(found) >= 1 and any(complaint in fault for fault in found), found


def test_every_example_is_seen_by_the_runner() -> None:
    count = sum(page.read_text(encoding="utf8").count("```python\n") for page in PAGES)
    assert count == sum(len(examples(page)) for page in PAGES) > 10


def test_every_page_is_in_the_navigation() -> None:
    lines = (ROOT / "mkdocs.yml").read_text(encoding="utf8").split("exclude_docs")[0]
    listed = set(re.findall(r"[\w/]+\.md", lines))
    assert listed == {page.name for page in PAGES if page.parent.name == "docs"}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in LISTS], ids=lambda page: page.name)
def test_pages_have_one_order(page: Path) -> None:
    headings = re.findall(r"^## (.*)", page.read_text(encoding="utf8"), re.MULTILINE)
    order = ["What it solves", "The smallest example", "How to choose", "What can go wrong"]
    assert [heading for heading in headings if heading != "Install"] in (
        [*order, "Mathematics", "Source"],
        [*order, "Mathematics and source"],
    )


def test_the_reference_shows_what_an_overriding_method_overrides() -> None:
    griffe = pytest.importorskip("griffe")
    from docs.inherited import InheritedDocstrings

    bases = "class A:\n    def f(self): 'Says.'\n\n    def g(self): 'As A does.'\n"
    module = "from p.a import A\n\n\nclass B(A):\n    def f(self): ...\n\n    def g(self): 'Otherwise.'\n"
    found = griffe.load_extensions(InheritedDocstrings())
    with griffe.temporary_visited_package("p", {"a.py": bases, "b.py": module}, extensions=found) as package:
        said = {name: package[f"b.B.{name}"].docstring for name in ("f", "g")}
    assert said["f"].value == "Says." and said["g"].value == "Otherwise."


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
    assert len(names) == 3
    for name in names:
        assert (ROOT / name).exists() or (ROOT / "docs" / name).exists(), name
