"""Every public function is asked for things in one style: key first, then the target, then keywords, by the same names."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

EXCEPTIONS = {
    "checks": "the part that is checked comes first: the key is of the draws that try it, and most people leave it fixed",
    "run progress": "the driver below the doors: whoever calls it draws the bar",
    "bounds.by_particles num_particles": "the numbers of particles are what it runs over",
    "block_gibbs proposal": "a graph and its proposal are one thing said in two words",
    "mcmc kernel": "a target and its kernel are one thing said in two words",
    "parallel_tempering kernel": "a target and its kernel are one thing said in two words",
    "twists.learn objective": "a target and what is minimised are one thing said in two words",
    "twists.learn validation_particles": "stands beside num_particles, and is read as its name for validation",
    "twists.learn validation_runs": "stands beside num_particles, and is read as its name for validation",
    "resampling": "a scheme has one number, that of the ancestors it draws",
    "graphs.uniform_states num": "there is one number, that of states",
    "twists.upcoming num": "there is one number, that of data",
}
"""Doors and parameters that keep another style, and why; a room stands for all its doors."""

TARGETS = ("target", "model", "graph", "base")
"""What a door that runs something takes after its key."""

WHOLE_NUMBERS = {
    "thin": "a stride",
    "every": "a stride",
    "check_every": "a stride",
    "lag": "a distance in time",
    "length": "a distance in time",
    "islands": "parts, a layout",
    "chunk_steps": "a layout",
    "particle_batch": "a layout",
    "vocab_size": "a size, as of an array",
    "context_size": "a size, as of an array",
    "context_dim": "a size, as of an array",
    "dim": "a size, as of an array",
    "width": "a size, as of an array",
    "depth": "a size, as of an array",
    "order": "of a Markov chain",
    "seed": "a name",
    "run": "an index",
    "t": "a step",
    "eos_id": "a name",
    "columns": "a layout",
    "cardinalities": "sizes, as of arrays",
    "patience": "checks without progress",
}
"""Whole numbers that are no counts of things, and so have no ``num_``."""

DEFAULTS = {"progress": "True", "checkpoint": "None", "checkpoint_seconds": "30.0"}
"""One default each, wherever a door has it."""


@dataclass(frozen=True)
class Door:
    """A public function: its name below the package, and its definition."""

    name: str
    definition: ast.FunctionDef

    @property
    def positional(self) -> list[ast.arg]:
        """Parameters that may be given by position."""
        return [*self.definition.args.posonlyargs, *self.definition.args.args]

    @property
    def optional(self) -> list[str]:
        """Names of positional parameters with a default."""
        return [one.arg for one in self.positional[len(self.positional) - len(self.definition.args.defaults) :]]

    @property
    def defaults(self) -> dict[str, str]:
        """Parameter -> its default as written; those that have one."""
        arguments = self.definition.args
        late = zip(self.optional, arguments.defaults, strict=True)
        named = zip((one.arg for one in arguments.kwonlyargs), arguments.kw_defaults, strict=True)
        return {name: ast.unparse(value) for name, value in (*late, *named) if value is not None}

    @property
    def parameters(self) -> dict[str, str]:
        """Parameter -> its annotation as written."""
        every = [*self.positional, *self.definition.args.kwonlyargs]
        return {one.arg: ast.unparse(one.annotation) if one.annotation else "" for one in every}


def file_of(module: str, package: Path) -> Path | None:
    """The file of a dotted module name."""
    path = package.joinpath(*module.split(".")[1:])
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    stub = found.with_suffix(".pyi")
    return stub if stub.is_file() else found if found.is_file() else None


def doors(module: str, package: Path, prefix: str = "") -> Iterator[Door]:
    """The public functions of a module, through its re-exports; those of a public package carry its name."""
    path = file_of(module, package)
    assert path is not None, f"{module} has no file"
    tree = ast.parse(path.read_text(encoding="utf8"))
    public = {
        element.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "__all__"
        and isinstance(node.value, ast.List)
        for element in node.value.elts
        if isinstance(element, ast.Constant)
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in public:
            yield Door(prefix + node.name, node)
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(package.name):
            continue
        for alias in node.names:
            if (alias.asname or alias.name) not in public:
                continue
            if (
                node.module
                and file_of(f"{node.module}.{alias.name}", package)
                and (prefix == "" or node.module == module)
            ):
                # Rooms are read to one level: what lies deeper has no door of the package's own.
                if prefix == "":
                    yield from doors(f"{node.module}.{alias.name}", package, f"{alias.name}.")
            elif definition := find(node.module or "", alias.name, package):
                yield Door(prefix + (alias.asname or alias.name), definition)


def find(module: str, name: str, package: Path) -> ast.FunctionDef | None:
    """The definition of a function, followed through re-exports; ``None`` for what is no function."""
    path = file_of(module, package)
    if path is None:
        return None
    for node in ast.parse(path.read_text(encoding="utf8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package.name):
            for alias in node.names:
                if (alias.asname or alias.name) == name and (node.module, alias.name) != (module, name):
                    return find(node.module or "", alias.name, package)
    return None


def faults(door: Door) -> list[str]:
    """What of a door is of another style, a sentence each; exceptions left out."""
    found: list[tuple[str, str]] = []
    names = [one.arg for one in door.positional]
    if "key" in door.parameters and names[:1] != ["key"]:
        found.append(("key", "the key comes first"))
    runs = names[:1] == ["key"] and "progress" in door.parameters
    if runs and not (len(names) > 1 and names[1] in TARGETS):
        found.append((names[1] if len(names) > 1 else "key", f"after the key comes one of {', '.join(TARGETS)}"))
    if runs:
        found += [(name, "what may be left out is a keyword") for name in door.optional]
    for name, default in DEFAULTS.items():
        if name in door.parameters and door.defaults.get(name) != default:
            found.append((name, f"its default is {default}"))
    if ("checkpoint" in door.parameters) != ("checkpoint_seconds" in door.parameters):
        found.append(("checkpoint", "checkpoint and checkpoint_seconds come together"))
    for name, annotation in door.parameters.items():
        whole = "int" in annotation.replace(" ", "").split("|")
        if whole and not name.startswith(("num_", "max_", "min_")) and name not in WHOLE_NUMBERS:
            found.append((name, "a count is called num_..."))
    room = door.name.partition(".")[0]
    return [
        f"{door.name}({name}): {what}"
        for name, what in found
        if room not in EXCEPTIONS and f"{door.name} {name}" not in EXCEPTIONS
    ]


DOORS = {door.name: door for door in doors("smcinfer", ROOT / "smcinfer")}


@pytest.mark.parametrize("name", sorted(DOORS))
def test_a_door_keeps_the_style(name: str) -> None:
    assert faults(DOORS[name]) == []


def test_every_door_was_found() -> None:
    assert {"sample", "run", "mcmc", "smc2", "bounds.sandwich", "twists.learn", "language.generation"} <= set(DOORS)


def test_every_exception_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = dict(EXCEPTIONS)
    for name in kept:
        monkeypatch.delitem(EXCEPTIONS, name)
        assert any(faults(door) for door in DOORS.values()), f"{name}: no door needs the exception any more"
        monkeypatch.setitem(EXCEPTIONS, name, kept[name])


@pytest.mark.parametrize(
    ("signature", "fault"),
    [
        ("target, key", "(key): the key comes first"),
        ("key, size, *, progress: bool = True", "(size): after the key comes one of"),
        ("key, target, kernel=None, *, progress: bool = True", "(kernel): what may be left out is a keyword"),
        ("key, target, *, progress: bool = False", "(progress): its default is True"),
        (
            "key, target, *, checkpoint: str | None = None",
            "(checkpoint): checkpoint and checkpoint_seconds come together",
        ),
        ("key, target, *, n_steps: int = 3", "(n_steps): a count is called num_..."),
        ("key, target, *, steps: int | None = None", "(steps): a count is called num_..."),
    ],
)
def test_another_style_would_be_seen(signature: str, fault: str) -> None:
    definition = ast.parse(f"def door({signature}): ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    assert any(one.startswith(f"door{fault}") for one in faults(Door("door", definition)))


def test_the_style_is_seen() -> None:
    text = (
        "key, target, *, num_steps: int = 3, progress: bool = True, checkpoint=None, checkpoint_seconds: float = 30.0"
    )
    definition = ast.parse(f"def door({text}): ...").body[0]
    assert isinstance(definition, ast.FunctionDef) and faults(Door("door", definition)) == []
