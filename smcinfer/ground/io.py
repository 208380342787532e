"""Arrays in netCDF files, read back bit for bit or refused.

The file carries a digest of its content, so that a damaged one is never taken for a result. It is plain netCDF-4: any
reader of that format sees the arrays under their own names, with named dimensions.
"""

import hashlib
import json
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np

from smcinfer.ground.errors import ArgumentError, CheckpointError
from smcinfer.ground.files import check_writable, temporary_beside

Groups = Mapping[str, Mapping[str, tuple[tuple[str, ...], np.ndarray]]]
"""Arrays with the names of their dimensions, by group and name; the group ``""`` is the root."""

_DIGEST = "content_sha256"
_LAYOUT = "layout"


def dimensions(name: str, leading: tuple[str, ...], value: np.ndarray) -> tuple[str, ...]:
    """Dimension names of a variable: the leading ones, then one of its own for each further axis.

    Args:
        name: of the variable; its own axes are ``{name}_dim_0`` and so on.
        leading: names of its first axes, which it shares with other variables.
        value: the variable, with at least as many axes.
    """
    return (*leading, *(f"{name}_dim_{axis}" for axis in range(value.ndim - len(leading))))


def write_netcdf(path: str | Path, groups: Groups, attributes: Mapping[str, Any], layout: str) -> Path:
    """Write arrays and attributes to a netCDF file, atomically.

    Args:
        path: of the file.
        groups: numeric or boolean arrays with their dimensions, by group and name.
        attributes: anything JSON can hold; it comes back as JSON gives it.
        layout: name and version of what the file holds, checked by `read_netcdf`.

    Returns:
        The path.
    """
    text = json.dumps(dict(attributes), allow_nan=True)
    content = {group: {name: array for name, (_, array) in inner.items()} for group, inner in groups.items()}
    with temporary_beside(check_writable(path)) as temporary:
        with h5netcdf.File(temporary, "w") as file:
            file.attrs[_LAYOUT] = layout
            file.attrs["attributes"] = text
            file.attrs[_DIGEST] = _digest(content, text)
            for group, variables in groups.items():
                node = file.create_group(group) if group else file
                for name, (dims, array) in variables.items():
                    _write_variable(node, name, dims, array)
    return Path(path)


def read_netcdf(path: str | Path, layout: str) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Arrays by group and name, and the attributes, of a file that `write_netcdf` wrote.

    Args:
        path: of the file.
        layout: what it must hold.

    Returns:
        The arrays, with their dtypes, and the attributes.

    Raises:
        ArgumentError: there is no such file.
        CheckpointError: the file is damaged, cut short, or holds something else.
    """
    source = Path(path)
    if not source.is_file():
        raise ArgumentError("no such file", got=source)
    try:
        groups, text, found, digest = _read_file(source)
    # A damaged HDF5 file surfaces as any of these, depending on which byte is wrong.
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{source} is damaged, cut short, or not a file of this package",
            expected=f"netCDF with layout {layout!r}",
            got=f"{type(error).__name__}: {error}",
            hint="run again and save again; a complete file is never left half written",
        ) from error
    if found != layout:
        raise CheckpointError(
            f"{source} has another layout", expected=layout, got=found, hint="read it with the version that wrote it"
        )
    if _digest(groups, text) != digest:
        raise CheckpointError(
            f"{source} is damaged: its content does not match its digest", hint="run again and save again"
        )
    return groups, json.loads(text)


def _read_file(source: Path) -> tuple[dict[str, dict[str, np.ndarray]], str, str, str]:
    with h5netcdf.File(source, "r") as file:
        nodes = {"": file} | dict(file.groups.items())
        groups = {group: dict(map(_read_variable, node.variables.values())) for group, node in nodes.items()}
        return groups, str(file.attrs["attributes"]), str(file.attrs[_LAYOUT]), str(file.attrs[_DIGEST])


def _write_variable(node: Any, name: str, dims: tuple[str, ...], array: np.ndarray) -> None:
    if array.dtype.kind not in "biuf":
        raise ArgumentError(f"cannot save {name!r}", expected="an array of numbers or booleans", got=array.dtype)
    dims = tuple(urllib.parse.quote(dim, safe=" ") for dim in dims)
    for dim, size in zip(dims, array.shape, strict=True):
        if dim not in node.dimensions:
            node.dimensions[dim] = size
    # netCDF has no booleans, and a slash in a name would open a group.
    stored = array.astype(np.int8) if array.dtype == bool else array
    variable = node.create_variable(urllib.parse.quote(name, safe=" "), dims, stored.dtype, data=stored)
    variable.attrs["long_name"] = name
    if array.dtype == bool:
        variable.attrs["dtype"] = "bool"


def _read_variable(variable: Any) -> tuple[str, np.ndarray]:
    array = np.asarray(variable[...])
    is_bool = str(variable.attrs.get("dtype", "")) == "bool"
    return str(variable.attrs["long_name"]), array.astype(bool) if is_bool else array


def _digest(groups: Mapping[str, Mapping[str, np.ndarray]], text: str) -> str:
    """SHA-256 of names, dtypes, shapes, bytes and attributes, in an order of its own."""
    total = hashlib.sha256(text.encode())
    for group in sorted(groups):
        for name in sorted(groups[group]):
            array = groups[group][name]
            total.update(f"{group}/{name}:{array.dtype.str}:{array.shape}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
