"""A record as one page: whole, self-contained, and saying what the record says."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smcinfer.cli import main
from smcinfer.cli.report import shares
from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError
from smcinfer.plots import page, report
from smcinfer.plots.posterior import figures
from smcinfer.results.evidence import Bound
from smcinfer.results.words import with_error
from tests.signatures import unchecked
from tests.synthetic import make_chains, make_result

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Tags that are open, addresses that are asked for, and what of images is said in words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [str(given[name]) for name in ("src", "href") if name in given]
        self.alts += [str(given["alt"])] if "alt" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first figure alone: the others take seconds."""
    monkeypatch.setattr("smcinfer.plots.page.figures", lambda result: [next(figures(result))])


@pytest.mark.usefixtures("few_figures")
def test_a_page_stands_by_itself_and_says_what_the_result_says(tmp_path: Path) -> None:
    result = make_result(settings={"kernel": "<hmc>", "weighted_for": "the posterior"})
    path = report(result, tmp_path / "run.html")
    text = path.read_text(encoding="utf8")
    read = Reader(text)
    assert read.open == [] and read.alts == ["ess temperature"] and path.stat().st_size < 1_000_000
    assert all(address.startswith("data:image/png;base64,") for address in read.addresses)
    assert "http" not in text.replace("http-equiv", "") and "&lt;hmc&gt;" in text and "<hmc>" not in text
    assert (
        f"log Z = {with_error(Bound(result.log_z, result.log_z_se))} nats" in text
        and "theta[0]" in text
        and "prefers-color-scheme: dark" in text
    )
    assert f"{result.summary().loc['tau', 'mean']:.4g}" in text


@pytest.mark.usefixtures("few_figures")
def test_trouble_is_told_with_what_to_do() -> None:
    text = page.page(make_result(status_runs=np.full(4, int(Status.SCHEDULE_UNFINISHED), np.int32)))
    assert "The result is wrong or partial" in text and "did not reach its end" in text
    assert "Nothing went wrong" not in text


@pytest.mark.usefixtures("few_figures")
def test_long_tables_are_cut_with_a_note() -> None:
    particles = {"x": np.random.default_rng(0).normal(size=(4, 50, 70))}
    text = page.page(make_result(particles=particles))
    assert "The first 60 of 70" in text and "x[59]" in text and "x[60]" not in text


def test_other_records_have_a_page_without_figures() -> None:
    chains = make_chains()
    text = page.page(chains)
    assert "R-hat" in text and "<img" not in text and Reader(text).open == []


@pytest.mark.slow
def test_every_figure_has_words(tmp_path: Path) -> None:
    result = make_result()
    read = Reader(page.page(result))
    assert [alt.replace(" ", "_") for alt in read.alts] == [name for name, _ in figures(result)]


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    wrong: Any = 3
    with unchecked(), pytest.raises(ArgumentError, match="record is of the wrong kind"):
        report(wrong, tmp_path / "run.html")


@pytest.mark.usefixtures("few_figures")
def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "small.nc", tmp_path / "large.nc"]
    results = [make_result(seed=0), make_result(seed=0, log_z_runs=make_result(seed=0).log_z_runs + 2.0)]
    for file, result in zip(files, results, strict=True):
        result.save(file)
    assert main(["report", str(files[0])]) == 0 and (tmp_path / "small.html").exists()
    assert main(["report", str(files[0])]) == 2
    capsys.readouterr()
    assert main(["compare", *map(str, files)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "large" in printed[1] and "best" in printed[1] and "-2.0" in printed[2]
    assert main(["compare", str(files[0])]) == 2
    make_chains().save(tmp_path / "chains.nc")
    assert main(["compare", str(files[0]), str(tmp_path / "chains.nc")]) == 2
    np.testing.assert_allclose(shares([-3.0, -3.0 - np.log(3.0)]), [0.75, 0.25])
