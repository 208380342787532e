"""The one training loop: compiled chunks of steps, and between them the host for validation, early stop and checkpoint.

A chunk is ``check_every`` steps, whatever the clock says, and the key of a step is a function of its number alone: a
training that was stopped and resumed ends bit for bit where it would have ended.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from smcinfer.ground.arrays import Array, Float, Int, PyTree
from smcinfer.ground.errors import ArgumentError, CheckpointError, TargetError
from smcinfer.ground.files import check_writable
from smcinfer.ground.progress import bar
from smcinfer.nn import storage

Loss = Callable[[Any, Any, Any], Any]
"""``(module, key, data) -> Float[""]``, JAX code."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained module and how it got there.

    Attributes:
        module: the module at its best check, or after the last step where nothing was checked.
        losses: Float["steps"], the loss of every step taken.
        check_steps: Int["checks"], steps after which validation was asked.
        checks: Float["checks"], what it said; lower is better.
        stopped_early: whether patience ran out.
        seconds: wall time of this call, compiling included.
    """

    module: Any
    losses: Float[np.ndarray, " steps"]
    check_steps: Int[np.ndarray, " checks"]
    checks: Float[np.ndarray, " checks"]
    stopped_early: bool
    seconds: float


class _Progress(eqx.Module):
    """Everything a resumed training needs."""

    arrays: PyTree[Any]
    optimiser: PyTree[Any]
    best: PyTree[Any]


def fit(
    key: Any,
    module: Any,
    loss: Loss,
    data: Any = None,
    *,
    num_steps: int,
    learning_rate: float | optax.Schedule = 1e-3,
    optimiser: optax.GradientTransformation | None = None,
    trainable: Any = eqx.is_inexact_array,
    refresh: Callable[[Any, Any], Any] | None = None,
    validate: Callable[[Any], Any] | None = None,
    check_every: int = 100,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    description: str = "training",
) -> Fitted:
    """Minimise an expected loss by stochastic gradients.

    Args:
        key: one random key; the same key gives the same module bit for bit, resumed or not.
        module: an equinox module (or any pytree).
        loss: ``(module, key, data) -> Float[""]``; a fresh key every step draws the batch, or picks it from ``data``.
        data: pytree handed to the loss: data sets, frozen networks.
        num_steps: the most gradient steps.
        learning_rate: of the default optimiser, Adam with gradients clipped to norm one; a number decays to zero along a
            cosine. Ignored where ``optimiser`` is given.
        optimiser: any optax transformation.
        trainable: which leaves may change, an equinox filter specification.
        refresh: ``(key, module) -> data``, called before every chunk: data made with the module as it is by then.
        validate: ``module -> number``, lower is better, called after every chunk; the best module is what comes back.
        check_every: steps of a chunk.
        patience: checks without a new best after which to stop; ``None`` never.
        checkpoint: a file to resume from and to save to after every chunk; removed by nobody.
        progress: draw a bar on stderr.
        description: its label.

    Returns:
        `Fitted`.

    Raises:
        ArgumentError: for settings out of range, before any work.
        TargetError: for a loss that is no scalar, or not finite at some step (says which).
        CheckpointError: for a checkpoint that is damaged or of another training.
    """
    _check_arguments(num_steps, check_every, patience, validate)
    step_key, refresh_key = jax.random.split(key)
    arrays, static = eqx.partition(module, trainable)
    if optimiser is None:
        schedule = learning_rate if callable(learning_rate) else optax.cosine_decay_schedule(learning_rate, num_steps)
        optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    chosen = optimiser
    state = _Progress(arrays, chosen.init(arrays), arrays)

    def value(arrays: PyTree[Any], key: Any, data: Any) -> Any:
        return loss(eqx.combine(arrays, static), key, data)

    @eqx.filter_jit
    def chunk(state: _Progress, start: Array, data: Any, length: int) -> tuple[_Progress, Array]:
        def one(state: _Progress, offset: Array) -> tuple[_Progress, Array]:
            step_loss, gradient = jax.value_and_grad(value)(
                state.arrays, jax.random.fold_in(step_key, start + offset), data
            )
            updates, after = chosen.update(gradient, state.optimiser, state.arrays)
            return _Progress(optax.apply_updates(state.arrays, updates), after, state.best), step_loss

        return jax.lax.scan(one, state, jnp.arange(length))

    store = _Store(checkpoint, key, state, (num_steps, check_every))
    state, losses, check_steps, checks = store.load_or(state)
    started, stopped = time.perf_counter(), False
    with bar(progress, description) as report:
        taken = len(losses)
        while taken < num_steps and not (stopped := _out_of_patience(checks, patience)):
            length = min(check_every, num_steps - taken)
            if refresh is not None:
                data = refresh(jax.random.fold_in(refresh_key, taken), eqx.combine(state.arrays, static))
            if taken == 0:
                _check_loss(value, state.arrays, step_key, data)
            state, chunk_losses = chunk(state, jnp.asarray(taken), data, length)
            losses = np.concatenate([losses, np.asarray(chunk_losses, np.float64)])
            _check_finite(losses, taken)
            taken += length
            message = f"step {taken}  loss {losses[-length:].mean():.4g}"
            if validate is not None:
                checks = np.append(checks, float(validate(eqx.combine(state.arrays, static))))
                check_steps = np.append(check_steps, taken)
                if checks[-1] <= np.nanmin(checks):
                    state = _Progress(state.arrays, state.optimiser, state.arrays)
                message += f"  check {checks[-1]:.4g}"
            report(taken / num_steps, message)
            store.save(state, losses, check_steps, checks)
    final = state.arrays if validate is None else state.best
    return Fitted(eqx.combine(final, static), losses, check_steps, checks, stopped, time.perf_counter() - started)


def _check_arguments(num_steps: int, check_every: int, patience: int | None, validate: Any) -> None:
    for name, value in {"num_steps": num_steps, "check_every": check_every, "patience": patience}.items():
        if value is not None and value < 1:
            raise ArgumentError(f"{name} is out of range", expected="at least 1", got=value)
    if patience is not None and validate is None:
        raise ArgumentError("patience needs a validation", expected="validate=module -> number", got=None)


def _check_loss(value: Callable[..., Any], arrays: PyTree[Any], key: Any, data: Any) -> None:
    shape = eqx.filter_eval_shape(value, arrays, key, data)
    if getattr(shape, "shape", None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TargetError("the loss is no scalar", expected="Float['']", got=shape)


def _check_finite(losses: np.ndarray, start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(losses[start:]))
    if bad.size:
        raise TargetError(
            "the loss is not finite",
            expected="a finite loss at every step",
            got=f"{losses[start + bad[0]]} at step {start + bad[0]}",
            hint="lower the learning rate, or look at what the loss does with extreme weights",
        )


def _out_of_patience(checks: np.ndarray, patience: int | None) -> bool:
    """Whether the best check lies ``patience`` checks back (NaN is never best)."""
    if patience is None or len(checks) <= patience:
        return False
    ranked = np.where(np.isnan(checks), np.inf, checks)
    return len(checks) - 1 - int(ranked.argmin()) >= patience


class _Store:
    """The checkpoint of one training, or nothing where no path is given."""

    def __init__(self, path: str | Path | None, key: Any, state: _Progress, settings: tuple[int, int]) -> None:
        self._path = None if path is None else check_writable(path)
        shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), state)
        words = np.asarray(jax.random.key_data(key)).tolist()
        self._identity = hashlib.sha256(repr((words, settings, jax.tree.flatten(shapes))).encode()).hexdigest()

    def load_or(self, state: _Progress) -> tuple[_Progress, np.ndarray, np.ndarray, np.ndarray]:
        """The saved progress, or the given start."""
        if self._path is None or not self._path.exists():
            return state, np.zeros(0), np.zeros(0, np.int64), np.zeros(0)
        found = storage.read_metadata(self._path)
        if found.get("identity") != self._identity:
            raise CheckpointError(
                f"{self._path} was written by another training",
                expected=f"identity {self._identity[:12]} (same key, module and settings)",
                got=str(found.get("identity"))[:12],
                hint="give this training its own checkpoint file, or delete this one to start afresh",
            )
        state = storage.restore(self._path, state)
        return state, np.array(found["losses"]), np.array(found["check_steps"], np.int64), _from_json(found["checks"])

    def save(self, state: _Progress, losses: np.ndarray, check_steps: np.ndarray, checks: np.ndarray) -> None:
        """Write the progress."""
        if self._path is None:
            return
        # NaN is no JSON: a check that said nothing is null.
        said = [None if np.isnan(check) else float(check) for check in checks]
        record = {"losses": losses.tolist(), "check_steps": check_steps.tolist(), "checks": said}
        storage.save(self._path, state, record | {"identity": self._identity})


def _from_json(checks: list[float | None]) -> np.ndarray:
    return np.array([np.nan if check is None else check for check in checks], np.float64)
