"""The built site and a report in a browser: formulas are rendered, images load, nothing is wider than a phone, search finds."""

import os
from pathlib import Path

import pytest

from smcinfer.plots import report
from tests.conftest import ROOT
from tests.site.browser import BROWSER, seen, served
from tests.synthetic import make_result

SITE = Path(os.environ.get("SMCINFER_SITE", ROOT / "site"))
PAGES = ("", "first_steps/", "diffusion/", "learned_twists/", "concepts/", "reference/")
HEAVIEST = PAGES[2:5]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")]
built = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="no site is built: make docs")


@built
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page or "home")
def test_pages_are_whole(page: str, tmp_path: Path) -> None:
    with served(SITE, "evidence" if page == "" else "") as server:
        wide = seen(server, page, 1366, tmp_path / "wide.png")
        narrow = seen(server, page, 390, tmp_path / "narrow.png")
    for found in (wide, narrow):
        assert found["faults"] == [] and found["broken"] == [] and found["wrong"] == []
        assert found["rendered"] == found["formulas"] and found["bytes"] < 1_500_000
        assert found["overflow"] <= 0, page
    assert wide["formulas"] > 0 or page not in HEAVIEST
    assert wide["found"] > 0 or page != ""


def test_a_report_stands_by_itself(tmp_path: Path) -> None:
    report(make_result(), tmp_path / "index.html")
    with served(tmp_path) as server:
        for width in (1366, 390):
            found = seen(server, "index.html", width)
            assert found["faults"] == [] and found["broken"] == [] and found["overflow"] <= 0
    assert (tmp_path / "index.html").stat().st_size < 3_000_000
