"""Objects named on the command line as ``FILE.py:NAME``."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from smcinfer.cli.intake import called, is_pymc, is_stan, taken_in
from smcinfer.ground.errors import ArgumentError, calling
from smcinfer.static.target import StaticTarget

_NUMPYRO = "a numpyro model with arguments becomes a target by smcinfer.from_numpyro(model, *args)"


def load_object(reference: str, kinds: tuple[type, ...]) -> Any:
    """The object a ``FILE.py:NAME`` names, or what it returns if it is a function without arguments.

    Args:
        reference: path of a Python file, a colon, and a name defined in it.
        kinds: classes the object may belong to; where targets do, models of PyMC, Stan and numpyro become targets.

    Returns:
        The object.

    Raises:
        ArgumentError: no such file or name, or an object of another kind; says which names would do.
        TargetError: the file, or the function, raised.
    """
    path, _, name = reference.rpartition(":")
    if not path:
        path, name = reference, ""
    module = _load_module(Path(path))
    candidates = _candidates(module, kinds)
    hint = f"in {path}: {', '.join(candidates)}" if candidates else f"nothing in {path} is one"
    wanted = " or ".join(kind.__name__ for kind in kinds)
    expected = f"FILE.py:NAME, NAME a {wanted}, or a function without arguments that returns one"
    if not name:
        raise ArgumentError("the name inside the file is missing", expected=expected, got=reference, hint=hint)
    if not hasattr(module, name):
        raise ArgumentError(f"{path} defines no {name!r}", expected=expected, hint=hint)
    found = getattr(module, name)
    is_factory = _is_factory(found)
    targets = StaticTarget in kinds
    if is_factory:
        function = found
        found = _call(lambda: called(function) if targets else function(), f"{path}:{name}()", Path(path), _NUMPYRO)
    found = taken_in(found) if targets else found
    if not isinstance(found, kinds):
        got = f"{name} {'returned' if is_factory else 'is'} a {type(found).__name__}"
        if found is None or callable(found):
            hint += f"; {_NUMPYRO}"
        raise ArgumentError(f"{reference} is of the wrong kind", expected=expected, got=got, hint=hint)
    return found


def _load_module(path: Path) -> ModuleType:
    """Run a Python file as a module.

    Its folder is searched after all others, so that no `json.py` beside it hides a library.
    """
    if not path.is_file():
        raise ArgumentError("no such file", expected="FILE.py:NAME with FILE.py an existing file", got=path)
    if path.suffix != ".py":
        raise ArgumentError("not a Python file", expected="FILE.py:NAME", got=path)
    # A name of its own: a file called json.py must not stand in for the library.
    name = f"smcinfer_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a file that ends in .py always has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.path.append(str(path.resolve().parent))
    # Dataclasses and equinox look their own module up by name.
    sys.modules[name] = module
    _call(lambda: _execute(path, module), str(path), path)
    return module


def _execute(path: Path, module: ModuleType) -> None:
    """Run the file as Python runs a script: no bytecode of an earlier version stands in for it."""
    exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)


def _call(function: Callable[[], Any], what: str, path: Path, hint: str = "") -> Any:
    """Call the user's code; its exceptions become one message with the line of the user's file they came from."""
    with calling(what, hint=hint or f"python {path} shows the whole traceback"):
        return function()


def _candidates(module: ModuleType, kinds: tuple[type, ...]) -> list[str]:
    """Names in a file that would do: objects of the right kind, and functions of its own without arguments."""
    names = []
    for name, value in vars(module).items():
        own = inspect.isfunction(value) and value.__module__ == module.__name__
        is_model = StaticTarget in kinds and (is_pymc(value) or is_stan(value))
        if not name.startswith("_") and (isinstance(value, kinds) or is_model or (own and _is_factory(value))):
            names.append(name)
    return names


def _is_factory(value: Any) -> bool:
    """Whether a value is a function that can be called without arguments."""
    if not inspect.isfunction(value):
        return False
    needed = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
    parameters = inspect.signature(value).parameters.values()
    return all(one.default is not one.empty or one.kind not in needed for one in parameters)
