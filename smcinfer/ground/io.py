"""Arrays in netCDF files, read back bit for bit or refused.

The file is made in memory by xarray, then written whole. It carries a digest of its content, so that a damaged one is never
taken for a record; any reader of netCDF sees the arrays in named groups, with named dimensions.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from smcinfer.ground.errors import ArgumentError, CheckpointError
from smcinfer.ground.files import check_writable, write_whole
from smcinfer.ground.lazy import Later
from smcinfer.ground.names import check_names, dimensions, exported_name
from smcinfer.ground.version import package_version

if TYPE_CHECKING:
    import xarray as xr
else:
    xr = Later("xarray")

FORMAT = "smcinfer-record-1"
"""Name and version of the layout of the files."""

Arrays = Mapping[str, np.ndarray]


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        kind: name of what it is, in words of the package.
        groups: numeric or boolean arrays by group and name; the group ``""`` is the root.
        attributes: anything JSON can hold; it comes back as JSON gives it.
    """

    kind: str
    groups: Mapping[str, Arrays]
    attributes: Mapping[str, Any]


def write_netcdf(path: str | Path, content: Content, axes: Mapping[str, tuple[str, ...]]) -> Path:
    """Write arrays and attributes to a netCDF file, whole or not at all.

    Args:
        path: of the file; what it holds already is replaced.
        content: what to write.
        axes: names of the leading axes of all arrays of a group, or of one array of the root, by its name; further axes get
            names of their own.

    Returns:
        The path.

    Raises:
        ArgumentError: no such file can be made there, an array holds neither numbers nor booleans, or two names of one group
            would come out as one.
        FileError: the disk is full, say; a file that was there before is as it was.
    """
    target = check_writable(path)
    text = json.dumps(dict(content.attributes), allow_nan=True)
    tree = xr.DataTree.from_dict(
        {f"/{group}": _dataset(group, arrays, axes) for group, arrays in content.groups.items()}
    )
    tree.attrs = {
        "format": FORMAT,
        "kind": content.kind,
        "attributes": text,
        "content_sha256": _digest(content.kind, content.groups, text),
        "smcinfer_version": package_version(),
    }
    write_whole(target, bytes(tree.to_netcdf(engine="h5netcdf")))
    return Path(path)


def read_netcdf(path: str | Path) -> Content:
    """What `write_netcdf` wrote, arrays with their dtypes.

    Args:
        path: of the file.

    Raises:
        ArgumentError: there is no such file.
        CheckpointError: the file is damaged, cut short, or holds something else.
    """
    source = Path(path)
    if not source.is_file():
        raise ArgumentError("no such file", got=source)
    try:
        # Read whole: nothing stays open, and a file that changes meanwhile is not read in two states.
        with xr.open_datatree(io.BytesIO(source.read_bytes()), engine="h5netcdf", **_AS_STORED) as tree:
            groups = {node.path.strip("/"): dict(map(_restored, node.variables.values())) for node in tree.subtree}
            attributes = dict(tree.attrs)
        kind, text, digest = (str(attributes[name]) for name in ("kind", "attributes", "content_sha256"))
    # A damaged HDF5 file surfaces as any of these, depending on which byte is wrong.
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{source} is damaged, cut short, or not a file of this package",
            expected=f"netCDF of format {FORMAT!r}",
            got=f"{type(error).__name__}: {error}",
            hint="run again and save again; a complete file is never left half written",
        ) from error
    if attributes.get("format") != FORMAT:
        raise CheckpointError(
            f"{source} has another format",
            expected=FORMAT,
            got=attributes.get("format"),
            hint="read it with the version that wrote it",
        )
    if _digest(kind, groups, text) != digest:
        raise CheckpointError(
            f"{source} is damaged: its content does not match its digest", hint="run again and save again"
        )
    return Content(kind, groups, json.loads(text))


_AS_STORED: Any = {"mask_and_scale": False, "decode_times": False, "decode_coords": False}
"""No bit of an array is to be read as a date, as missing or as scaled."""


def _dataset(group: str, arrays: Arrays, axes: Mapping[str, tuple[str, ...]]) -> "xr.Dataset":
    check_names(arrays, f"arrays of the group {group!r}")
    variables = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ArgumentError(f"cannot save {name!r}", expected="an array of numbers or booleans", got=array.dtype)
        # The root's arrays have names that the package chose.
        written = exported_name(name) if group else name
        dims = dimensions(written, axes.get(group or name, ()), array.ndim)
        # xarray would mark NaN as missing.
        variables[written] = xr.Variable(dims, array, {"long_name": name}, {"_FillValue": None})
    return xr.Dataset(variables)


def _restored(variable: Any) -> tuple[str, np.ndarray]:
    return str(variable.attrs["long_name"]), np.asarray(variable.values)


def _digest(kind: str, groups: Mapping[str, Arrays], text: str) -> str:
    """SHA-256 of names, dtypes, shapes, bytes and attributes, in an order of its own."""
    total = hashlib.sha256(f"{kind}\n{text}".encode())
    for group in sorted(groups):
        for name in sorted(groups[group]):
            array = groups[group][name]
            total.update(f"{group}/{name}:{array.dtype.str}:{array.shape}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
