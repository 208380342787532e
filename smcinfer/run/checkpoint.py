"""Checkpoints of a run: one safetensors file, complete or absent, that only its own run can continue.

The file holds the state's arrays and the history so far; its header holds the step and a fingerprint of everything
that decides the numbers: the settings, the key, the model's arrays and the compiled step itself. A file that was cut
short, or that another model or seed wrote, is refused with the reason.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from smcinfer.core import smc
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.core.settings import Settings
from smcinfer.ground.arrays import Array, PyTree
from smcinfer.ground.errors import CheckpointError
from smcinfer.ground.files import check_writable, write_atomically

FORMAT = "smcinfer-checkpoint-1"
Progress = tuple[int, PyTree[Any], list[dict[str, Any]]]
"""Steps taken, the state after them, and the history so far: arrays whose second axis is time."""


class Checkpoint:
    """Where a run keeps its state between chunks; does nothing where no path is given."""

    def __init__(
        self, path: Path | None, fingerprint: str, template: Any, every_seconds: float, key_impl: Any = None
    ) -> None:
        self._path = path
        self._key_impl = key_impl
        self._fingerprint = fingerprint
        self._template = template
        self._every = every_seconds
        self._saved = time.monotonic()

    @classmethod
    def open(
        cls,
        path: str | Path | None,
        model: FeynmanKac,
        settings: Settings,
        keys: Array,
        chunk: int,
        every_seconds: float,
    ) -> "Checkpoint":
        """Prepare a checkpoint file: checks that it can be written before any work is done.

        Raises:
            ArgumentError: if the folder is absent or not writable.
        """
        if path is None:
            return cls(None, "", None, every_seconds)
        path = Path(path)
        check_writable(path)
        template = eqx.filter_eval_shape(smc.init, keys, model, settings)
        identity = fingerprint(model, settings, keys, chunk, template[0])
        return cls(path, identity, template, every_seconds, jax.random.key_impl(keys))

    def load_or(self, start: Callable[[], Progress]) -> Progress:
        """The saved step, state and history, or a fresh start where nothing was saved.

        Raises:
            CheckpointError: if the file is damaged or belongs to another run.
        """
        if self._path is None or not self._path.exists():
            return start()
        header, tensors = _read(self._path)
        if header.get("fingerprint") != self._fingerprint:
            raise CheckpointError(
                f"{self._path} was written by another run",
                expected=f"fingerprint {self._fingerprint[:12]} (same model, data, settings, precision and key)",
                got=str(header.get("fingerprint"))[:12],
                hint="give this run its own checkpoint file, or delete this one to start afresh",
            )
        state = self._unpack(self._template[0], tensors, "state")
        record = self._unpack(self._template[1], tensors, "history", host=True)
        self._saved = time.monotonic()
        return int(header["t"]), state, [record]

    def save(self, t: int, state: PyTree[Any], records: list[dict[str, Any]], *, final: bool) -> None:
        """Write the run so far, if it is time; always at the end.

        ``records`` is joined in place, so that the history is not concatenated again at each save.
        """
        if self._path is None or not (final or time.monotonic() - self._saved >= self._every):
            return
        records[:] = [jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *records)]
        tensors = _pack(state, "state") | _pack(records[0], "history")
        header = {"format": FORMAT, "t": str(t), "fingerprint": self._fingerprint}
        write_atomically(self._path, save(tensors, metadata=header))
        self._saved = time.monotonic()

    def _unpack(self, template: Any, tensors: dict[str, Any], prefix: str, *, host: bool = False) -> Any:
        """Rebuild a tree of the template's structure; the history's time axis may have any length."""
        leaves, structure = jax.tree.flatten(template)
        rebuilt = []
        for index, want in enumerate(leaves):
            name = f"{prefix}.{index}"
            if name not in tensors:
                raise CheckpointError(f"{self._path} lacks a tensor", expected=name, got=sorted(tensors)[:5])
            value = tensors[name]
            if jnp.issubdtype(want.dtype, jax.dtypes.prng_key):
                rebuilt.append(jax.random.wrap_key_data(jnp.asarray(value), impl=self._key_impl))
                continue
            value = value.view(jnp.bfloat16) if want.dtype == jnp.bfloat16 else value
            shape = value.shape[:1] + value.shape[2:] if host else value.shape
            if shape != want.shape or value.dtype != want.dtype:
                raise CheckpointError(
                    f"{self._path} holds a tensor of another shape",
                    expected=f"{name}: {want.dtype}{list(want.shape)}",
                    got=f"{value.dtype}{list(shape)}",
                )
            rebuilt.append(value if host else jnp.asarray(value))
        return jax.tree.unflatten(structure, rebuilt)


def fingerprint(model: FeynmanKac, settings: Settings, keys: Array, chunk: int, template: smc.SMCState) -> str:
    """Hex digest of all that decides a run's numbers."""
    return program_digest(
        (settings, chunk, model.num_steps),
        lambda state, model: smc.step(jnp.ones((), jnp.int32), state, model, settings),
        (template, model),
        [*jax.tree.leaves(eqx.filter(model, eqx.is_array)), keys],
    )


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
    digest = hashlib.sha256(repr((FORMAT, jax.__version__, *identity)).encode())
    jaxpr, _, _ = eqx.filter_make_jaxpr(function)(*arguments)
    # Addresses of Python objects differ between processes; nothing else in the text does.
    digest.update(re.sub(r"0x[0-9a-f]+", "0x", str(jaxpr.jaxpr)).encode())
    for leaf in [*arrays, *jaxpr.consts]:
        digest.update(_plain(leaf).tobytes())
    return digest.hexdigest()


def _plain(leaf: Any) -> np.ndarray:
    """A leaf as a numpy array; keys become their words."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf, order="C")


def _pack(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    packed = {}
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        plain = _plain(leaf)
        # The numpy side of safetensors has no bfloat16: its bits travel as integers.
        packed[f"{prefix}.{index}"] = plain.view(np.uint16) if plain.dtype == jnp.bfloat16 else plain
    return packed


def _read(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint",
            expected="a complete safetensors file written by smcinfer",
            got=f"{type(error).__name__}: {error}",
            hint="delete it to start afresh",
        ) from error
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of this version",
            expected=FORMAT,
            got=json.dumps(header.get("format")),
            hint="delete it to start afresh",
        )
    return header, tensors
