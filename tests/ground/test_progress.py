"""The bar in a notebook's cell: one output that is replaced, without ipywidgets."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from smcinfer.ground.progress import bar, notebook_display


class Handle:
    """A display handle of IPython's that keeps what it was given."""

    def __init__(self, shown: list[str]) -> None:
        self.shown = shown

    def update(self, value: str) -> None:
        self.shown.append(value)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook shows, in which this program seems to run."""
    shown: list[str] = []

    def display(value: str, *, display_id: bool) -> Handle:
        assert display_id
        shown.append(value)
        return Handle(shown)

    module: Any = ModuleType("IPython")
    module.display = SimpleNamespace(display=display, HTML=str)
    module.get_ipython = lambda: SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", module)
    return shown


def test_a_cell_is_drawn_once_and_replaced(shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with bar(True, "sampling <x>") as report:
        report(0.25, "ESS 100")
        report(2.0, "done")
    assert len(shown) == 3 and "sampling &lt;x&gt;" in shown[0] and "compiling" in shown[0]
    assert "value='0.250'" in shown[1] and "ESS 100" in shown[1] and "value='1.000'" in shown[2]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_is_no_notebook(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = sys.modules["IPython"]
    module.get_ipython = lambda: SimpleNamespace()
    assert notebook_display() is None
    monkeypatch.delitem(sys.modules, "IPython")
    assert notebook_display() is None and shown == []
