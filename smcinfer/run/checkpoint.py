"""Checkpoints of runs, chains and trainings: one safetensors file, complete or absent, that only its own run continues.

The file holds the arrays of a state, the history so far, and a JSON header: how far the run is, an identity that digests
everything that decides its numbers (settings, key, arrays, the compiled step itself), and a digest of the whole file. A file
that was cut short, in which one bit has flipped, or that another run wrote is refused with the reason.
"""

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from smcinfer.ground import validate
from smcinfer.ground.arrays import PyTree
from smcinfer.ground.errors import CheckpointError, CheckpointWarning, FileError
from smcinfer.ground.files import check_writable, write_whole
from smcinfer.ground.keys import key_of_kind
from smcinfer.ground.programs import by_use

FORMAT = "smcinfer-checkpoint-2"

_BLANK = b"0" * 64
"""What stands in the place of the file's digest while the file is digested."""


class Saved(NamedTuple):
    """A run between two chunks.

    Attributes:
        step: how far it is, in whatever the run counts.
        state: pytree of arrays, all that goes on.
        history: what was recorded so far, in parts: trees whose arrays have time on their second axis.
    """

    step: int
    state: PyTree[Any]
    history: list[PyTree[Any]]


class Shape(NamedTuple):
    """What a checkpoint of a run must hold.

    Attributes:
        identity: hex digest of all that decides the run's numbers.
        state: tree of shapes and dtypes.
        history: likewise, without the axis of time.
    """

    identity: str
    state: PyTree[Any]
    history: PyTree[Any]


class Checkpoint:
    """Where a run keeps itself between chunks; does nothing where no path is given."""

    def __init__(self, path: Path | None, shape: Shape, every_seconds: float) -> None:
        self.path = path
        self._shape = shape
        self.every_seconds = every_seconds
        self._written = time.monotonic()

    @classmethod
    def open(cls, path: str | Path | None, every_seconds: float, describe: Callable[[], Shape]) -> "Checkpoint":
        """Prepare a checkpoint file: checks that it can be written before any work is done.

        Args:
            path: of the file; ``None`` for a run without one.
            every_seconds: least time between two writes, seconds.
            describe: what the file must hold; called only where there is a path, for it traces the run's program.

        Raises:
            ArgumentError: if the folder is absent or not writable, or the time is no time.
        """
        every_seconds = validate.seconds("checkpoint_seconds", every_seconds)
        if path is None:
            return cls(None, Shape("", None, None), every_seconds)
        return cls(check_writable(path), describe(), every_seconds)

    def load_or(self, start: Callable[[], Saved]) -> Saved:
        """The run as it was saved, or a fresh start where nothing was saved.

        Raises:
            CheckpointError: if the file is damaged or belongs to another run.
        """
        if self.path is None or not self.path.exists():
            return start()
        header, tensors = _read(self.path)
        if header.get("identity") != self._shape.identity:
            raise CheckpointError(
                f"{self.path} was written by another run",
                expected=f"identity {self._shape.identity[:12]} (same model, data, settings, precision and key)",
                got=str(header.get("identity"))[:12],
                hint="give this run its own checkpoint file, or delete this one to start afresh",
            )
        state = self._unpack(self._shape.state, tensors, "state", header["keys"])
        history = self._unpack(self._shape.history, tensors, "history", header["keys"])
        self._written = time.monotonic()
        return Saved(int(header["step"]), state, [history])

    def save(self, saved: Saved, *, now: bool) -> bool:
        """Write the run so far, if it is time or ``now``; a disk that is full is a warning, and the run goes on.

        The parts of ``saved.history`` are joined in place, so that they are not joined again at each write.

        Returns:
            Whether it was written.
        """
        if self.path is None or not (now or time.monotonic() - self._written >= self.every_seconds):
            return False
        saved.history[:] = [joined(saved.history)]
        tensors = _pack(saved.state, "state") | _pack(saved.history[0], "history")
        header = {
            "format": FORMAT,
            "step": str(saved.step),
            "identity": self._shape.identity,
            "keys": _key_kind(saved.state),
            "sha256": _BLANK.decode(),
        }
        content = bytearray(save(tensors, metadata=header))
        place = content.index(_BLANK)
        content[place : place + len(_BLANK)] = hashlib.sha256(content).hexdigest().encode()
        try:
            write_whole(self.path, content)
        except FileError as error:
            warnings.warn(f"the run goes on without a checkpoint: {error}", CheckpointWarning, stacklevel=2)
            return False
        finally:
            # From the end of one write to the next, so that a large state leaves time for the run.
            self._written = time.monotonic()
        return True

    def _unpack(self, template: PyTree[Any], tensors: dict[str, Any], prefix: str, keys: str) -> PyTree[Any]:
        """Rebuild a tree of the template's structure; the history's axis of time may have any length."""
        leaves, structure = jax.tree.flatten(template)
        recorded = prefix == "history"
        rebuilt = []
        for index, want in enumerate(leaves):
            name = f"{prefix}.{index}"
            if name not in tensors:
                raise CheckpointError(f"{self.path} lacks a tensor", expected=name, got=sorted(tensors)[:5])
            value = tensors[name]
            if jnp.issubdtype(want.dtype, jax.dtypes.prng_key):
                rebuilt.append(key_of_kind(jnp.asarray(value), keys))
                continue
            value = value.view(jnp.bfloat16) if want.dtype == jnp.bfloat16 else value
            shape = value.shape[:1] + value.shape[2:] if recorded else value.shape
            if shape != want.shape or value.dtype != want.dtype:
                raise CheckpointError(
                    f"{self.path} holds a tensor of another shape",
                    expected=f"{name}: {want.dtype}{list(want.shape)}",
                    got=f"{value.dtype}{list(shape)}",
                )
            rebuilt.append(value if recorded else jnp.asarray(value))
        return jax.tree.unflatten(structure, rebuilt)


def joined(history: list[PyTree[Any]]) -> PyTree[Any]:
    """The parts of a history as one, joined along time."""
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *history) if len(history) > 1 else history[0]


def program_digest(
    identity: tuple[Any, ...], function: Callable[..., Any], arguments: tuple[Any, ...], arrays: list[Any]
) -> str:
    """Hex digest of a traced function, the arrays it was given, and whatever else ``identity`` names.

    Args:
        identity: settings whose ``repr`` says all that matters.
        function: traced, not run.
        arguments: what to trace it on.
        arrays: those among the arguments whose values decide the outcome.
    """
    closed, _, _ = eqx.filter_make_jaxpr(function)(*arguments)
    traced = lambda leaf: eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    leaves = jax.tree.leaves(eqx.filter(arguments, traced))
    order = by_use(closed.jaxpr)
    jaxpr = closed.jaxpr.replace(invars=[closed.jaxpr.invars[at] for at in order])
    # Pytrees of other packages list their arrays in another order in every process: the program knows which is which.
    place = {id(leaves[at]): rank for rank, at in enumerate(order)}
    arrays = sorted(arrays, key=lambda leaf: (place.get(id(leaf), len(place)), _plain(leaf).tobytes()))
    # Addresses of Python objects differ between processes; nothing else in the text does.
    program = re.sub(r"0x[0-9a-f]+", "0x", str(jaxpr))
    return array_digest((*identity, program), [*arrays, *closed.consts])


def array_digest(identity: tuple[Any, ...], arrays: list[Any]) -> str:
    """Hex digest of arrays and of whatever else ``identity`` names."""
    digest = hashlib.sha256(repr((FORMAT, jax.__version__, *identity)).encode())
    for leaf in arrays:
        digest.update(_plain(leaf).tobytes())
    return digest.hexdigest()


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_kind(tree: PyTree[Any]) -> str:
    """Name of the generator of a tree's random keys; empty where there are none."""
    return next((str(jax.random.key_impl(leaf)) for leaf in jax.tree.leaves(tree) if _is_key(leaf)), "")


def _plain(leaf: Any) -> np.ndarray:
    """A leaf as a numpy array; keys become their words."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")


def _pack(tree: PyTree[Any], prefix: str) -> dict[str, np.ndarray]:
    packed = {}
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        plain = _plain(leaf)
        # The numpy side of safetensors has no bfloat16: its bits travel as integers.
        packed[f"{prefix}.{index}"] = plain.view(np.uint16) if plain.dtype == jnp.bfloat16 else plain
    return packed


def _read(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Header and tensors of a file that is whole, bit by bit."""
    content = bytearray(path.read_bytes())
    try:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])["__metadata__"]
        if header["format"] != FORMAT:
            raise CheckpointError(
                f"{path} is not a checkpoint of this version",
                expected=FORMAT,
                got=header["format"],
                hint="delete it to start afresh",
            )
        digest = header["sha256"].encode()
        place = content.index(digest, 8, 8 + size)
        content[place : place + len(digest)] = _BLANK
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise ValueError("its content does not match its digest")
        return header, load(bytes(content))
    # What a damaged header holds is anything at all.
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: it is damaged, cut short, or something else",
            expected="a complete safetensors file written by smcinfer",
            got=f"{type(error).__name__}: {error}",
            hint="delete it to start afresh",
        ) from error
