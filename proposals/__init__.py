"""The library of learned parts: block proposals and twists, each trained once by its recipe and kept with its card.

>>> proposal = smcinfer.proposals.load("grid")
"""

import importlib
import pkgutil
from typing import Any

from smcinfer.ground.errors import ArgumentError


def names() -> list[str]:
    """Entries of the library."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def load(name: str, **options: Any) -> Any:
    """A learned proposal or twist of the library, ready to use.

    Args:
        name: one of `names`.
        **options: what the entry's own ``load`` takes (its card says).

    Raises:
        ArgumentError: no such entry.
        CheckpointError: its weights are damaged or of another version.
    """
    if name not in names():
        raise ArgumentError("no such entry in the library", expected=" | ".join(names()), got=name)
    return importlib.import_module(f"{__name__}.{name}").load(**options)
