"""One base for everything that a run returns: it prints, says its status, cost and settings, and is kept in a file.

A kind of record is a frozen dataclass. A field made by `arrays` holds one numpy array, or several by name; every other field
holds what JSON can. That is all that `save` and `load` need to know, and checked shapes come with it:

    @dataclass(frozen=True, eq=False, repr=False, kw_only=True)
    class Walk(Record):
        points: np.ndarray = arrays("chain", "draw")
        num_accepted: int

        def _title(self): return f"random walk of {self.points.shape[1]} steps"
        def _lines(self): return [("accepted", str(self.num_accepted))]
"""

import abc
import dataclasses
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from smcinfer.core.status import SERIOUS, Status, explain
from smcinfer.ground.errors import ArgumentError, CheckpointError
from smcinfer.ground.io import Content, read_netcdf, write_netcdf
from smcinfer.results.words import Lines, as_html, as_text

KINDS: dict[str, type["Record"]] = {}
"""Kinds of records that are imported, by name: what a file may say that it holds."""

HOMES = {
    "BoundsByParticles": "smcinfer.bounds.by_particles",
    "Cascade": "smcinfer.language.decoding.cascade",
    "Chains": "smcinfer.results.chains",
    "Forecast": "smcinfer.results.forecast",
    "GaussianMoments": "smcinfer.results.gaussian",
    "Likeliest": "smcinfer.results.likeliest",
    "MixtureChains": "smcinfer.models.open_mixture.chains",
    "ParticleChains": "smcinfer.results.particle_chains",
    "PanelFiltered": "smcinfer.results.panel",
    "PausedFilter": "smcinfer.state_space.online.door",
    "Result": "smcinfer.results.result",
    "Sandwich": "smcinfer.results.sandwich",
    "SegmentChains": "smcinfer.language.decoding.segment_gibbs",
    "Smoothed": "smcinfer.results.smoothed",
    "TemperedChains": "smcinfer.results.tempered_chains",
}
"""Modules of the package's own kinds: a file can be read before anything else was imported. No file names a module."""


def arrays(*axes: str, **options: Any) -> Any:
    """A field of a record that holds one array, or several by name.

    Args:
        *axes: names of the leading axes that all its arrays share; an axis has one length in a whole record.
        **options: of `dataclasses.field`.
    """
    return dataclasses.field(metadata={"axes": axes}, **options)


def revived(revive: Callable[[Any], Any], **options: Any) -> Any:
    """A field of a record whose value JSON keeps in a plainer form.

    Args:
        revive: makes the value from what JSON gives back; ``None`` stays what it is.
        **options: of `dataclasses.field`.
    """
    return dataclasses.field(metadata={"revive": revive}, **options)


def not_kept(default: Any) -> Any:
    """A field of a record that its file leaves out: a loaded record has the default there."""
    return dataclasses.field(default=default, metadata={"kept": False})


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Record(abc.ABC):
    """What a run leaves behind.

    Attributes:
        settings: how it was made, as JSON can hold it.
        status: bits of `Status`.
        seconds, compile_seconds: wall time of the whole run, and the part of it spent compiling.
    """

    settings: dict[str, Any]
    status: Status = revived(Status)
    seconds: float
    compile_seconds: float

    WEIGHTED_FOR: ClassVar[str] = "the target"
    """What records of this kind are properly weighted for, where the settings do not say it better."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        KINDS[cls.__name__] = cls

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for field, axes in _array_fields(self):
            value = getattr(self, field)
            if isinstance(value, Mapping):
                self._put(field, {name: _checked(name, part, axes, sizes) for name, part in value.items()})
            elif value is not None:
                self._put(field, _checked(field, value, axes, sizes))
        self._put("settings", _plain(self.settings))
        self._put("status", Status(int(self.status)))
        self._put("seconds", float(self.seconds))
        self._put("compile_seconds", float(self.compile_seconds))

    @property
    def serious(self) -> bool:
        """Whether something makes the record wrong or partial, not merely less certain."""
        return bool(self.status & SERIOUS)

    @property
    def status_in_words(self) -> str:
        """A sentence for each bit of the status, or ``OK``."""
        return "; ".join(explain(self.status)) or "OK"

    @property
    def weighted_for(self) -> str:
        """The law that weighted averages over this record estimate means under, and what its log Z is of."""
        return str(self.settings.get("weighted_for", self.WEIGHTED_FOR))

    def save(self, path: str | Path) -> Path:
        """Write everything to a netCDF file, whole or not at all; `smcinfer.load` gives it back bit for bit.

        Args:
            path: of the file, replaced where it exists.

        Raises:
            ArgumentError: nothing can be written there.
            FileError: the disk is full, say; a file that was there before is as it was.
        """
        axes = dict(_array_fields(self))
        groups: dict[str, dict[str, np.ndarray]] = {"": {}}
        attributes = {}
        for field in _given(type(self)):
            value = getattr(self, field)
            if field in axes and isinstance(value, dict):
                groups[field] = value
            elif field in axes and value is not None:
                groups[""][field] = value
            else:
                attributes[field] = value
        return write_netcdf(path, Content(type(self).__name__, groups, attributes), axes)

    @property
    def heading(self) -> str:
        """One line that says what was run."""
        return self._title()

    @property
    def report_lines(self) -> Lines:
        """What the record says of itself, as (label, text) pairs in reading order."""
        return self._report()

    def __str__(self) -> str:
        return as_text(self._title(), self._report())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return as_html(self._title(), self._report())

    @abc.abstractmethod
    def _title(self) -> str:
        """One line that says what was run."""

    @abc.abstractmethod
    def _lines(self) -> Lines:
        """What this kind has to say, before what all kinds say."""

    def _report(self) -> Lines:
        return [
            *self._lines(),
            ("weighted for", self.weighted_for),
            ("status", self.status_in_words),
            ("time", f"{self.seconds:.3g} s, of which {self.compile_seconds:.3g} s compiling"),
        ]

    def _put(self, field: str, value: Any) -> None:
        """Set a field of a record that is being made."""
        object.__setattr__(self, field, value)


def load(path: str | Path) -> Record:
    """The record that a `save` wrote, of the kind that it was.

    Args:
        path: of the file.

    Returns:
        The record, equal to the one that was saved.

    Raises:
        ArgumentError: there is no such file.
        CheckpointError: the file is damaged, or no record.
    """
    content = read_netcdf(path)
    if content.kind in HOMES:
        importlib.import_module(HOMES[content.kind])
    if content.kind not in KINDS:
        raise CheckpointError(
            f"{path} holds a kind of record that is not known here",
            expected=" | ".join(sorted({*HOMES, *KINDS})),
            got=content.kind,
            hint="import what defines it first",
        )
    groups = {group: arrays for group, arrays in content.groups.items() if group}
    found = {**content.attributes, **content.groups.get("", {}), **groups}
    kind = KINDS[content.kind]
    expected = set(_given(kind))
    if set(found) != expected:
        raise CheckpointError(
            f"{path} lacks a part of a {content.kind}, or holds more than that",
            expected=sorted(expected),
            got=sorted(found),
            hint="read it with the version that wrote it",
        )
    for field in dataclasses.fields(kind):
        if "revive" in field.metadata and found.get(field.name) is not None:
            found[field.name] = field.metadata["revive"](found[field.name])
    return kind(**found)


def _given(kind: type[Record]) -> list[str]:
    """Fields that a file keeps; the others follow from them, or are left out."""
    return [field.name for field in dataclasses.fields(kind) if field.init and field.metadata.get("kept", True)]


def _array_fields(record: Record) -> Iterator[tuple[str, tuple[str, ...]]]:
    for field in dataclasses.fields(record):
        if "axes" in field.metadata:
            yield field.name, field.metadata["axes"]


def _checked(name: str, value: Any, axes: tuple[str, ...], sizes: dict[str, int]) -> np.ndarray:
    """The value as an array whose leading axes are as long as those of the same name elsewhere."""
    array = np.asarray(value)
    if array.ndim < len(axes) or any(
        sizes.setdefault(*axis) != axis[1] for axis in zip(axes, array.shape, strict=False)
    ):
        known = ", ".join(f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in axes)
        raise ArgumentError(f"{name!r} has the wrong shape", expected=f"leading axes ({known})", got=array.shape)
    return array


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back, so that a saved record equals the one in memory."""

    def convert(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise ArgumentError(
            f"a setting of type {type(value).__name__} cannot be saved", expected="JSON values", got=value
        )

    return json.loads(json.dumps(dict(settings), default=convert))
