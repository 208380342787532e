"""The one training loop: compiled chunks of steps, and between them the host for validation, early stop and checkpoint.

A check comes every ``check_every`` steps, whatever the clock says, and the key of a step is a function of its number alone: a
training that was stopped and resumed ends bit for bit where it would have ended.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from smcinfer.ground.arrays import Array, Count, Float, Int, PyTree
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.ground.programs import compiled
from smcinfer.ground.validate import count
from smcinfer.run.checkpoint import Checkpoint, Saved, Shape, array_digest, joined
from smcinfer.run.runner import as_typed_key
from smcinfer.run.watch import compile_clock, watching

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
    progress: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
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
        refresh: ``(key, module) -> data``, called every ``check_every`` steps: data made with the module as it is by then.
        validate: ``module -> number``, lower is better, called every ``check_every`` steps; the best module is what comes
            back.
        check_every: steps between two checks.
        patience: checks without a new best after which to stop; ``None`` never.
        progress: draw a bar on stderr.
        checkpoint: a file to resume from and to save to; removed by nobody.
        checkpoint_seconds: least time between two writes, seconds.
        description: label of the bar.

    Returns:
        `Fitted`.

    Raises:
        ArgumentError: for settings out of range, before any work.
        TargetError: for a loss that is no scalar, or not finite at some step (says which).
        CheckpointError: for a checkpoint that is damaged or of another training.
        Interrupted: after Ctrl-C where there is a bar or a checkpoint, at the end of the step under way.
    """
    num_steps, check_every = count("num_steps", num_steps), count("check_every", check_every)
    if patience is not None:
        count("patience", patience)
        if validate is None:
            raise ArgumentError("patience needs a validation", expected="validate=module -> number", got=None)
    key = as_typed_key(key)
    step_key, refresh_key = jax.random.split(key)
    arrays, static = eqx.partition(module, trainable)
    if optimiser is None:
        schedule = learning_rate if callable(learning_rate) else optax.cosine_decay_schedule(learning_rate, num_steps)
        optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    chosen = optimiser
    state = _Progress(arrays, chosen.init(arrays), arrays)

    def value(arrays: PyTree[Any], key: Any, data: Any) -> Any:
        return loss(eqx.combine(arrays, static), key, data)

    @compiled
    def chunk(state: _Progress, start: Count, data: Any, length: Count) -> tuple[_Progress, Array]:
        """``length`` steps, and their losses in a row of ``check_every``."""

        def one(offset: Count, carry: tuple[_Progress, Array]) -> tuple[_Progress, Array]:
            state, losses = carry
            loss_key = jax.random.fold_in(step_key, start + offset)
            step_loss, gradient = jax.value_and_grad(value)(state.arrays, loss_key, data)
            updates, after = chosen.update(gradient, state.optimiser, state.arrays)
            losses = losses.at[offset].set(step_loss)
            return _Progress(optax.apply_updates(state.arrays, updates), after, state.best), losses

        losses = jnp.zeros((check_every,), eqx.filter_eval_shape(value, state.arrays, step_key, data).dtype)
        return jax.lax.fori_loop(0, length, one, (state, losses))

    started = time.perf_counter()
    with compile_clock() as compiling:
        known = None if refresh is not None else data
        store = Checkpoint.open(
            checkpoint, checkpoint_seconds, lambda: _shape(key, state, known, num_steps, check_every)
        )
        with watching(progress, description, store, compiling) as watch:
            taken, state, parts = store.load_or(lambda: Saved(0, state, [_history([], [], [])]))
            history = joined(parts)
            saved, period_over, stopped = Saved(taken, state, [history]), True, _out_of_patience(history, patience)
            while taken < num_steps and not stopped:
                if refresh is not None and period_over:
                    data = refresh(jax.random.fold_in(refresh_key, taken), eqx.combine(state.arrays, static))
                if taken == 0:
                    _check_loss(value, state.arrays, step_key, data)
                due = min(num_steps, taken - taken % check_every + check_every)
                length = min(watch.length(), due - taken)
                state, row = chunk(state, jnp.asarray(taken), data, jnp.asarray(length))
                losses = np.asarray(row, np.float64)[:length]
                _check_finite(losses, taken)
                taken += length
                period_over = taken == due
                message, checks = f"step {taken}  loss {losses.mean():.4g}", []
                if validate is not None and period_over:
                    checks = [float(validate(eqx.combine(state.arrays, static)))]
                    message += f"  check {checks[0]:.4g}"
                history = joined([history, _history(losses, [taken] * len(checks), checks)])
                if checks and checks[0] <= np.nanmin(history["checks"]):
                    state = _Progress(state.arrays, state.optimiser, state.arrays)
                stopped = _out_of_patience(history, patience)
                # In the middle of a period the data were made with a module that is no more: nothing could go on from there.
                if period_over or refresh is None:
                    saved = Saved(taken, state, [history])
                if watch.on:
                    watch.look(taken / num_steps, message, length, saved, over=stopped or taken == num_steps)
    final = state.arrays if validate is None else state.best
    found = {name: rows[0] for name, rows in history.items()}
    return Fitted(eqx.combine(final, static), **found, stopped_early=stopped, seconds=time.perf_counter() - started)


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


def _out_of_patience(history: dict[str, np.ndarray], patience: int | None) -> bool:
    """Whether the best check lies ``patience`` checks back (NaN is never best)."""
    checks = history["checks"][0]
    if patience is None or len(checks) <= patience:
        return False
    ranked = np.where(np.isnan(checks), np.inf, checks)
    return len(checks) - 1 - int(ranked.argmin()) >= patience


def _history(losses: Any, check_steps: list[int], checks: list[float]) -> dict[str, np.ndarray]:
    """A part of what `Fitted` shows, time on the second axis."""
    return {
        "losses": np.asarray(losses, np.float64)[None],
        "check_steps": np.asarray(check_steps, np.int64)[None],
        "checks": np.asarray(checks, np.float64)[None],
    }


def _shape(key: Any, state: _Progress, data: Any, num_steps: int, check_every: int) -> Shape:
    """What a checkpoint of this training holds; data that are made anew are no part of its identity."""
    template, history = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        (state, jax.tree.map(lambda leaf: leaf[:, 0], _history([0.0], [0], [0.0]))),
    )
    arrays = [leaf for leaf in jax.tree.leaves((state, data)) if hasattr(leaf, "dtype")]
    identity = array_digest(("training", num_steps, check_every, str(template)), [key, *arrays])
    return Shape(identity, template, history)
