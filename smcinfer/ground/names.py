"""What the arrays of a state are called, and how files, exports and tables write those names.

A name is a path in a tree, keys joined by dots. Wherever arrays go out (netCDF files, ArviZ trees) they stand beside
dimensions and groups that have names too, so one rule changes the names that would be taken for those:

    a/b         a.b          a slash opens a group
    chain       chain_       the name of a dimension or of an array that every export has
    beta_dim_0  beta_dim_0_  the name of a dimension of beta
    chain_      chain__      so that no two names come out as one

Only a slash can make two names one; `check_names` refuses those, at the door where the names come in.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import ArgumentError

BARE_STATE = "x"
"""The name of a state that is one bare array."""

_RESERVED = re.compile(r"(chain|draw|time|step|run|particle|log_weights|.*_dim_\d+)_*", re.DOTALL)


def leaves_by_name(tree: PyTree[Any], is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Leaves of a tree by their path, keys joined by dots; a bare array is called ``x``.

    Args:
        tree: any pytree.
        is_leaf: what is taken for a leaf though JAX would look inside, as in `jax.tree.leaves`.

    Raises:
        ArgumentError: two leaves have one name: ``{"a.b": ...}`` beside ``{"a": {"b": ...}}``.
    """
    with_paths, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf)
    named = [(jax.tree_util.keystr(path, simple=True, separator=".") or BARE_STATE, leaf) for path, leaf in with_paths]
    check_names(name for name, _ in named)
    return dict(named)


def exported_name(name: str) -> str:
    """A name as files, ArviZ trees and tables write it (the rule is the module's).

    Args:
        name: of a variable, as `leaves_by_name` gives it.
    """
    name = name.replace("/", ".")
    return f"{name}_" if _RESERVED.fullmatch(name) else name


def dimensions(name: str, leading: tuple[str, ...], ndim: int) -> tuple[str, ...]:
    """Names of a variable's dimensions: the leading ones, then ``name_dim_0``, ``name_dim_1``, ... for the further axes.

    Args:
        name: of the variable, as `exported_name` gives it.
        leading: of its first axes.
        ndim: how many axes it has.
    """
    return (*leading, *(f"{name}_dim_{axis}" for axis in range(ndim - len(leading))))


def exported(values: Mapping[str, Any], what: str = "variables") -> dict[str, Any]:
    """The same values under the names that files, ArviZ trees and tables write (`exported_name`).

    Raises:
        ArgumentError: two would come out as one (`check_names`).
    """
    check_names(values, what)
    return {exported_name(name): value for name, value in values.items()}


def check_names(names: Iterable[str], what: str = "variables") -> None:
    """Refuse names that an export cannot write, or would write as one.

    Args:
        names: of all variables of one target or state, nested ones as their paths joined by dots.
        what: what they name, for the message.

    Raises:
        ArgumentError: a name is empty, of dots alone or not printable, or two names come out as one.
    """
    given = list(names)
    for name in given:
        if not name.strip(" ./") or not name.isprintable() or name != name.strip():
            raise ArgumentError(
                f"{what} cannot have this name", expected="printable characters that are not all dots", got=repr(name)
            )
    written = Counter(map(exported_name, given))
    twice = [name for name in given if written[exported_name(name)] > 1]
    if twice:
        raise ArgumentError(
            f"two {what} would have one name in results and files",
            expected="names that differ when slashes and nesting are read as dots",
            got=", ".join(map(repr, twice)),
            hint="rename one of them",
        )
