"""A package whose public names are imported when they are first asked for, so that ``smcinfer --help`` waits for nothing.

Names and where they live are the import statements of the package's stub, ``__init__.pyi``, which type checkers read as they
stand. Source: Scientific Python Ecosystem Coordination, SPEC 1 (lazy loading of submodules and functions).
"""

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class Later:
    """A module of another package that is imported when something of it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


class Lazy(ModuleType):
    """A package that looks a name up in its stub, then among its own modules."""

    def __getattr__(self, name: str) -> Any:
        home = self.__dict__["_homes"].get(name)
        if home is not None and home != self.__name__:
            found = getattr(importlib.import_module(home), name)
        elif not name.startswith("_") and importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
            found = importlib.import_module(f"{self.__name__}.{name}")
        else:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__dict__[name] = found
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        # Python binds every imported module to its package: the room `run` must not hide the function `run`.
        hidden = self.__dict__.get("_homes", {}).get(name, self.__name__) != self.__name__
        if not (hidden and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__dict__["_homes"]})


def open_doors(package: str) -> None:
    """Make a package lazy; called by its ``__init__``.

    Args:
        package: its name; its stub stands beside its ``__init__.py``.
    """
    module = sys.modules[package]
    assert module.__file__ is not None, "a package with an __init__ has a file"
    stub = ast.parse(Path(module.__file__).with_suffix(".pyi").read_text(encoding="utf8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.asname or alias.name: node.module for node in imports for alias in node.names}
    module.__dict__.update(_homes=homes, __all__=sorted(homes))
    module.__class__ = Lazy


def bind_submodules(package: str) -> None:
    """Make every loaded module of a package an attribute of the one above it, as an ordinary import leaves them.

    A package that was loaded through `importlib.util.LazyLoader` lacks some: ArviZ loads numpyro so, and `numpyro.factor` of a
    program that imports ArviZ first would not find its distribution.

    Args:
        package: its name.
    """
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        above, _, last = name.rpartition(".")
        if above in sys.modules and not hasattr(sys.modules[above], last):
            setattr(sys.modules[above], last, sys.modules[name])
