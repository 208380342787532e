"""Reading a posteriordb folder: what a posterior is made of, its data and its reference draws."""

import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smcinfer.ground.errors import ArgumentError

# The layout of the database itself, and a flat one with the same files.
_DATA = ("data/data", "data")
_DRAWS = ("reference_posteriors/draws/draws", "reference_draws")


def posterior_names(folder: Path) -> list[str]:
    """Names of every posterior a folder describes."""
    listing = folder / "posteriors"
    if not listing.is_dir():
        raise ArgumentError(
            "this is no posteriordb folder",
            expected=f"a folder with a subfolder posteriors: {listing}",
            got="no such folder",
            hint="pass the folder posterior_database of a copy of stan-dev/posteriordb",
        )
    return sorted(path.stem for path in listing.glob("*.json"))


def read_description(folder: Path, name: str) -> dict[str, Any]:
    """The posterior's own file: names of its model, data and reference draws, and its dimensions."""
    known = posterior_names(folder)
    if name not in known:
        raise ArgumentError("the folder has no such posterior", expected=f"one of {known}", got=name)
    return json.loads((folder / "posteriors" / f"{name}.json").read_text())


def read_data(folder: Path, data_name: str) -> dict[str, Any]:
    """The data of a posterior, lists as float64 or integer arrays."""
    raw = _read_json(folder, _DATA, data_name)
    return {name: np.asarray(value) if isinstance(value, list) else value for name, value in raw.items()}


def read_draws(folder: Path, reference_name: str) -> dict[str, NDArray[np.float64]]:
    """Reference draws by parameter: (chains, draws) for a scalar, (chains, draws, k) for a vector."""
    chains = _read_json(folder, _DRAWS, reference_name)
    return gather({name: np.asarray([chain[name] for chain in chains], np.float64) for name in chains[0]})


def gather(columns: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Columns named as Stan names them (``beta[1]``, ``beta[2]``) put together, elements on the last axis."""
    groups: dict[str, list[NDArray[np.float64]]] = {}
    for name, column in columns.items():
        groups.setdefault(name.split("[")[0], []).append(column)
    return {name: np.stack(parts, -1) if f"{name}[1]" in columns else parts[0] for name, parts in groups.items()}


def _read_json(folder: Path, places: Iterable[str], name: str) -> Any:
    for place in places:
        plain, zipped = folder / place / f"{name}.json", folder / place / f"{name}.json.zip"
        if plain.is_file():
            return json.loads(plain.read_text())
        if zipped.is_file():
            with zipfile.ZipFile(io.BytesIO(zipped.read_bytes())) as archive:
                return json.loads(archive.read(f"{name}.json"))
    raise ArgumentError(
        f"the folder has no file for {name!r}",
        expected=" or ".join(f"{place}/{name}.json[.zip]" for place in places),
        got=f"none of them in {folder.name}",
        hint="large files of the database may be missing from a partial copy",
    )
