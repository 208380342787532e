"""The training loop and the weights on disk."""

import contextlib
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError, CheckpointError, Interrupted, TargetError
from smcinfer.nn import read_metadata, restore, save
from smcinfer.run import watch
from smcinfer.run.checkpoint import _read
from smcinfer.run.fit import fit


class Line(eqx.Module):
    slope: jax.Array
    name: str = eqx.field(static=True, default="line")


def regression(module: Line, key: Any, data: Any) -> jax.Array:
    """Least squares on noisy draws of y = x @ truth: the best slope is the truth."""
    x = jax.random.normal(key, (64, 3))
    return jnp.mean((x @ module.slope - x @ data) ** 2)


TRUTH = jnp.array([1.0, -2.0, 0.5])
START = Line(jnp.zeros(3))


def error(module: Line) -> float:
    return float(jnp.max(jnp.abs(module.slope - TRUTH)))


def test_the_minimum_is_found_in_both_precisions(precision: str) -> None:
    fitted = fit(
        jax.random.key(0), Line(jnp.zeros(3)), regression, jnp.asarray(TRUTH), num_steps=400, learning_rate=0.1
    )
    assert error(fitted.module) < 1e-3
    assert fitted.losses.shape == (400,) and fitted.losses[-1] < 1e-5
    assert fitted.module.slope.dtype == jnp.dtype(precision)


def test_the_best_module_comes_back_and_patience_stops() -> None:
    said = iter([3.0, 1.0, float("nan"), 2.0, 5.0, 5.0, 5.0])
    seen: list[np.ndarray] = []

    def validate(module: Line) -> float:
        seen.append(np.asarray(module.slope))
        return next(said)

    fitted = fit(
        jax.random.key(0), START, regression, TRUTH, num_steps=100, check_every=10, validate=validate, patience=3
    )
    assert fitted.stopped_early and fitted.check_steps.tolist() == [10, 20, 30, 40, 50]
    np.testing.assert_array_equal(fitted.module.slope, seen[1])


def test_a_cut_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_steps": 50, "check_every": 20, "validate": error}
    whole = fit(jax.random.key(1), START, regression, TRUTH, **options)
    calls = []

    def dies(module: Line) -> float:
        calls.append(module)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return error(module)

    options |= {"checkpoint": tmp_path / "a", "checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        fit(jax.random.key(1), START, regression, TRUTH, **options | {"validate": dies})
    assert int(_read(tmp_path / "a")[0]["step"]) >= 20
    resumed = fit(jax.random.key(1), START, regression, TRUTH, **options)
    assert resumed.losses.shape == (50,)
    np.testing.assert_array_equal(whole.module.slope, resumed.module.slope)
    np.testing.assert_array_equal(whole.losses, resumed.losses)
    with pytest.raises(CheckpointError, match="another run"):
        fit(jax.random.key(2), START, regression, TRUTH, **options)


def test_ctrl_c_keeps_what_a_training_can_go_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data are made anew every ten steps: a training that is stopped between goes on from the last time they were made."""

    def refresh(key: Any, module: Line) -> jax.Array:
        return TRUTH + module.slope

    options: dict[str, Any] = {"num_steps": 30, "check_every": 10, "refresh": refresh}
    whole = fit(jax.random.key(1), START, regression, **options)
    with monkeypatch.context() as patch:
        lengths = itertools.cycle([3, 4])
        patch.setattr(watch.Watch, "length", lambda self: next(lengths))
        patch.setattr(watch, "bar", ctrl_c)
        with pytest.raises(Interrupted, match="step 14 "):
            fit(jax.random.key(1), START, regression, checkpoint=tmp_path / "a", **options)
    assert _read(tmp_path / "a")[0]["step"] == "10"
    resumed = fit(jax.random.key(1), START, regression, checkpoint=tmp_path / "a", **options)
    np.testing.assert_array_equal(whole.module.slope, resumed.module.slope)
    np.testing.assert_array_equal(whole.losses, resumed.losses)


@contextlib.contextmanager
def ctrl_c(enabled: bool, description: str) -> Iterator[Any]:
    """A bar that stands for a person who presses Ctrl-C after a third of the way."""
    del enabled, description
    yield lambda fraction, message: fraction > 0.4 and signal.raise_signal(signal.SIGINT)


def test_data_are_made_anew_with_the_current_module() -> None:
    slopes = []

    def refresh(key: Any, module: Line) -> jax.Array:
        slopes.append(float(module.slope[0]))
        return TRUTH

    fit(jax.random.key(0), START, regression, num_steps=30, check_every=10, refresh=refresh, learning_rate=0.1)
    assert len(slopes) == 3 and slopes[0] == 0.0 and len(set(slopes)) == 3


def test_only_what_may_change_changes() -> None:
    frozen = eqx.tree_at(lambda line: line.slope, START, False)
    fitted = fit(jax.random.key(0), START, regression, TRUTH, num_steps=5, trainable=frozen)
    np.testing.assert_array_equal(fitted.module.slope, START.slope)


@pytest.mark.parametrize(
    ("loss", "options", "error", "words"),
    [
        (lambda m, k, d: m.slope, {}, TargetError, "no scalar"),
        (lambda m, k, d: jnp.sum(m.slope) / 0.0 - jnp.inf, {}, TargetError, "at step 0"),
        (regression, {"num_steps": 0}, ArgumentError, "num_steps"),
        (regression, {"patience": 2}, ArgumentError, "validation"),
    ],
)
def test_bad_input_is_named(loss: Any, options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        fit(jax.random.key(0), START, loss, TRUTH, **{"num_steps": 3} | options)


def test_weights_return_as_they_were(tmp_path: Path) -> None:
    tree = {"a": jnp.arange(6.0).reshape(2, 3), "b": (jnp.ones(2, jnp.bfloat16), "text", jnp.asarray(3))}
    path = save(tmp_path / "w.safetensors", tree, {"seed": 1})
    back = restore(path, eqx.filter_eval_shape(lambda: tree))
    assert read_metadata(path) == {"seed": 1}
    assert back["b"][1] == "text" and back["b"][0].dtype == jnp.bfloat16
    np.testing.assert_array_equal(back["a"], tree["a"])


def test_weights_of_another_module_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", {"a": jnp.zeros(3)})
    for like, words in [
        ({"a": jnp.zeros(4)}, "wrong shape"),
        ({"b": jnp.zeros(3)}, "another module"),
        ({"a": jnp.zeros(3, jnp.int32)}, "wrong shape or dtype"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            restore(path, like)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="cannot be read"):
        restore(path, {"a": jnp.zeros(3)})
    with pytest.raises(ArgumentError, match="JSON"):
        save(tmp_path / "x", {}, {"bad": object()})
