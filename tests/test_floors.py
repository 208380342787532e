"""The package is built in floors: a module imports from its own floor and below, and never in a circle."""

import ast
import graphlib
import os
from pathlib import Path

import pytest

from tests.conftest import ROOT

FLOORS: tuple[str, ...] = (
    "ground",
    "core",
    "kernels",
    "nn",
    "paths",
    "static",
    "results",
    "run",
    "state_space",
    "graphs",
    "twists",
    "diffusion",
    "language",
    "bounds",
    "checks",
    "plots",
    "api",
    "models",
    "proposals",
    "",
    "cli",
    "__main__",
)
"""Rooms of the package from the ground up; the empty name is the package's own ``__init__``."""


def modules(package: Path) -> dict[str, Path]:
    """Dotted name below the package -> file, of every module, models and proposals included."""
    found = {}
    # models and proposals are links to folders beside the package: `rglob` would not enter them.
    walk = os.walk(package, followlinks=True)
    for path in sorted(Path(folder, file) for folder, _, files in walk for file in files if file.endswith(".py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: set[str], package: str) -> set[str]:
    """Dotted names (below the package) of the modules that a file imports, wherever in the file."""
    found = set()
    here = [package, *name.split(".")] if name else [package]
    folder = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            if parts[0] != package:
                continue
            # `from package.module import thing` names a module or something inside one: the longest known prefix.
            prefixes = [".".join(parts[1:end]) for end in range(len(parts), 0, -1)]
            found.add(next((prefix for prefix in prefixes if prefix in known), ""))
    return found - {name}


def faults(package: Path) -> list[str]:
    """One sentence for each import that goes up, each circle and each module without a floor."""
    floor_of = {name: number for number, name in enumerate(FLOORS)}
    files = modules(package)
    graph = {name: imports(name, path, set(files), package.name) for name, path in files.items()}
    tops = {name: name.split(".")[0] for name in files}
    found = [f"{name}: give it a floor in FLOORS" for name in files if tops[name] not in floor_of]
    for name, targets in graph.items():
        own = floor_of.get(tops[name], len(FLOORS))
        found += [
            f"{name} (floor {own}) imports {target or package.name} (floor {floor_of[tops[target]]})"
            for target in sorted(targets)
            if target in tops and floor_of.get(tops[target], -1) > own
        ]
    # A package's __init__ re-exports its own modules: that is no circle.
    acyclic = {
        name: {target for target in targets if not (name == "" or target.startswith(name + "."))}
        for name, targets in graph.items()
    }
    try:
        graphlib.TopologicalSorter(acyclic).prepare()
    except graphlib.CycleError as error:
        found.append("a circle of imports: " + " -> ".join(error.args[1]))
    return found


def test_imports_go_down_only() -> None:
    assert faults(ROOT / "smcinfer") == []


def test_every_module_was_read() -> None:
    names = set(modules(ROOT / "smcinfer"))
    assert {"core.weights", "kernels.base", "static.target", "models", "core.smc"} <= names


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("core/weights.py", "from smcinfer.run.loop import run", "core.weights (floor 1) imports run.loop (floor 7)"),
        (
            "core/weights.py",
            "def f():\n    import smcinfer.run.loop",
            "core.weights (floor 1) imports run.loop (floor 7)",
        ),
        ("kernels/base.py", "from ..run.loop import run", "kernels.base (floor 2) imports run.loop (floor 7)"),
        ("kernels/base.py", "from ..run import loop", "kernels.base (floor 2) imports run.loop (floor 7)"),
        ("kernels/base.py", "import smcinfer", "kernels.base (floor 2) imports smcinfer (floor 19)"),
        ("core/weights.py", "from smcinfer.core import arrays", "a circle of imports"),
        ("stray.py", "", "stray: give it a floor"),
    ],
)
def test_what_goes_up_is_found(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    package = tmp_path / "smcinfer"
    tree = {"__init__.py": "", "core/arrays.py": "from smcinfer.core import weights", "run/loop.py": ""}
    tree |= {"core/__init__.py": "", "kernels/__init__.py": "", "run/__init__.py": "", "core/weights.py": ""}
    for name, text in (tree | {file: source}).items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf8")
    assert any(complaint in fault for fault in faults(package))
    (package / file).unlink()
    (package / "core/arrays.py").write_text("", encoding="utf8")
    assert faults(package) == []
