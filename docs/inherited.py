"""The reference shows a method that overrides another, and says nothing of itself, with the docstring of what it overrides."""

from collections.abc import Iterator
from typing import Any

import griffe


def classes(package: griffe.Module | griffe.Class) -> Iterator[griffe.Class]:
    """Every class of a package, those within classes included."""
    for member in package.members.values():
        if isinstance(member, griffe.Class):
            yield member
        if isinstance(member, griffe.Module | griffe.Class):
            yield from classes(member)


class InheritedDocstrings(griffe.Extension):
    """Looks for a missing docstring among the bases, the nearest first."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Fill in what is missing, once the whole package is known."""
        for kind in classes(pkg):
            bases = kind.mro()
            for name, member in kind.members.items():
                if member.is_alias or member.docstring is not None or name.startswith("_"):
                    continue
                said = next((base.members[name].docstring for base in bases if name in base.members), None)
                if said is not None:
                    member.docstring = griffe.Docstring(said.value, parent=member)
