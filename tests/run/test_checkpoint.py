"""Checkpoints: a killed run ends where it would have ended, and nothing else is ever taken for a checkpoint."""

import contextlib
import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pytest

from smcinfer import Moves, Tempering
from smcinfer.ground.errors import ArgumentError, CheckpointError, CheckpointWarning, Interrupted
from smcinfer.kernels import RandomWalk
from smcinfer.run import watch
from smcinfer.run.checkpoint import Checkpoint, Saved, Shape, _read, program_digest
from smcinfer.run.runner import run
from smcinfer.run.watch import Watch
from smcinfer.static import posterior
from tests import exact_models
from tests.conftest import ROOT


class KilledError(Exception):
    """Stands for the end of a process."""


def gaussian_path(max_move_steps: int = 4):  # noqa: ANN201
    """A small adaptive run."""
    target = posterior(dist.Normal(0.0, 1.0).expand([2]).to_event(1), lambda x: -20.0 * ((x - 1.0) ** 2).sum())
    return Tempering(moves=Moves(max_move_steps, 1, 0.0)).model(target, RandomWalk())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["filter", "tempering"])
def test_resume_continues_bit_for_bit(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exact_models.linear_gaussian(20)[0] if family == "filter" else gaussian_path()
    options = {"num_runs": 2, "resample_below": 1.0, "history": "full", "chunk_steps": 2, "checkpoint_seconds": 0.0}
    whole = run(jax.random.key(0), model, 64, checkpoint=tmp_path / "whole.ckpt", **options)
    saves = []
    real = Checkpoint.save

    def dies(self, *arguments, **keywords):  # noqa: ANN001, ANN202
        real(self, *arguments, **keywords)
        saves.append(1)
        if len(saves) == 2:
            raise KilledError

    monkeypatch.setattr(Checkpoint, "save", dies)
    with pytest.raises(KilledError):
        run(jax.random.key(0), model, 64, checkpoint=tmp_path / "cut.ckpt", **options)
    monkeypatch.setattr(Checkpoint, "save", real)
    resumed = run(jax.random.key(0), model, 64, checkpoint=tmp_path / "cut.ckpt", **options)
    for a, b in zip(jax.tree.leaves(whole.particles), jax.tree.leaves(resumed.particles), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(whole.log_z, resumed.log_z)
    for a, b in zip(jax.tree.leaves(whole.history), jax.tree.leaves(resumed.history), strict=True):
        np.testing.assert_array_equal(a, b)
    # A finished checkpoint gives its result again at once.
    again = run(jax.random.key(0), model, 64, checkpoint=tmp_path / "cut.ckpt", **options)
    np.testing.assert_array_equal(whole.log_z, again.log_z)


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    model, _ = exact_models.linear_gaussian(4)
    path = tmp_path / "run.ckpt"
    run(jax.random.key(0), model, 16, checkpoint=path)
    before = path.read_bytes()
    others = [
        (jax.random.key(1), model, 16, {}),
        (jax.random.key(0), model, 32, {}),
        (jax.random.key(0), model, 16, {"resampling": "multinomial"}),
        (jax.random.key(0), exact_models.hmm("bootstrap"), 16, {}),
    ]
    for key, other, size, options in others:
        with pytest.raises(CheckpointError, match="another run"):
            run(key, other, size, checkpoint=path, **options)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "foreign"])
def test_a_damaged_checkpoint_is_refused_and_left_alone(damage: str, tmp_path: Path) -> None:
    model, _ = exact_models.linear_gaussian(4)
    path = tmp_path / "run.ckpt"
    run(jax.random.key(0), model, 16, checkpoint=path)
    whole = path.read_bytes()
    from safetensors.numpy import save

    content = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not a checkpoint",
        "foreign": save({"x": np.zeros(3)}),
    }[damage]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checkpoint"):
        run(jax.random.key(0), model, 16, checkpoint=path)
    assert path.read_bytes() == content


def test_an_unwritable_checkpoint_is_refused_before_any_work(tmp_path: Path) -> None:
    model, _ = exact_models.linear_gaussian(4)
    with pytest.raises(ArgumentError, match="cannot write"):
        run(jax.random.key(0), model, 16, checkpoint=tmp_path / "absent" / "run.ckpt")
    with pytest.raises(ArgumentError, match="cannot write"):
        run(jax.random.key(0), model, 16, checkpoint=tmp_path)


SCRIPT = """
import sys, jax, numpy as np, numpyro.distributions as dist
from smcinfer.kernels import RandomWalk
from smcinfer.run.runner import run
from smcinfer import Moves, Tempering
from smcinfer.static import posterior
target = posterior(dist.Normal(0.0, 1.0).expand([2]).to_event(1), lambda x: -20.0 * ((x - 1.0) ** 2).sum())
model = Tempering(moves=Moves(int(sys.argv[2]), 1, 0.0)).model(target, RandomWalk())
options = dict(num_runs=2, resample_below=1.0, chunk_steps=1, checkpoint=sys.argv[1], checkpoint_seconds=0.0)
done = run(jax.random.key(0), model, 512, **options)
print(np.asarray(done.log_z).tobytes().hex(), np.asarray(done.particles.position).tobytes().hex()[:4000])
"""


@pytest.mark.slow
def test_kill_minus_nine_and_resume(tmp_path: Path) -> None:
    """A process killed in the middle of a run, then started again, prints what an undisturbed one prints."""

    def command(path: Path) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(path), "20000"]

    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    whole = subprocess.run(
        command(tmp_path / "a"), env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    victim = subprocess.Popen(command(tmp_path / "b"), env=environment, stdout=subprocess.DEVNULL, cwd=ROOT)
    deadline = time.monotonic() + 300
    while not (tmp_path / "b").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    resumed = subprocess.run(
        command(tmp_path / "b"), env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert resumed.stdout == whole.stdout
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp") and name.startswith(".a")]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["filter", "tempering"])
def test_the_clock_does_not_change_the_numbers(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exact_models.linear_gaussian(40)[0] if family == "filter" else gaussian_path()
    options: dict[str, Any] = {"num_runs": 2, "resample_below": 1.0, "history": "full", "checkpoint_seconds": 0.0}

    def lasting(*lengths: int) -> Any:
        """A run whose chunks have these lengths, again and again."""
        clock = itertools.cycle(lengths)
        monkeypatch.setattr(Watch, "length", lambda self: next(clock))
        return run(jax.random.key(0), model, 64, checkpoint=tmp_path / f"{lengths}.ckpt", **options)

    whole, parts = lasting(2**30), lasting(1, 2, 1, 1)
    for a, b in zip(jax.tree.leaves(vars(whole)), jax.tree.leaves(vars(parts) | times(whole)), strict=True):
        np.testing.assert_array_equal(a, b)


def times(done: Any) -> dict[str, float]:
    """What alone may differ between two runs."""
    return {name: getattr(done, name) for name in ("seconds", "compile_seconds")}


def test_every_flipped_bit_is_seen(tmp_path: Path) -> None:
    model, _ = exact_models.linear_gaussian(4)
    path = tmp_path / "run.ckpt"
    run(jax.random.key(0), model, 16, checkpoint=path)
    whole = path.read_bytes()
    for place in np.linspace(0, 8 * len(whole) - 1, 400).astype(int):
        content = bytearray(whole)
        content[place // 8] ^= 1 << (place % 8)
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"run\.ckpt"):
            _read(path)


@pytest.mark.slow
def test_a_full_disk_is_a_warning_and_the_run_goes_on(small_disk: Path) -> None:
    model, _ = exact_models.linear_gaussian(30)
    path = small_disk / "run.ckpt"
    with pytest.warns(CheckpointWarning, match=rf"{path} could not be written\n.*No space left"):
        done = run(jax.random.key(0), model, 4096, history="full", checkpoint=path, checkpoint_seconds=0.0)
    np.testing.assert_array_equal(done.log_z, run(jax.random.key(0), model, 4096, history="full").log_z)
    # What could still be written before the disk was full is whole.
    assert [file.name for file in small_disk.iterdir()] == ["run.ckpt"]
    assert int(_read(path)[0]["step"]) > 0


def interrupting(after: int) -> Any:
    """A bar that stands for a person who presses Ctrl-C at some look."""

    @contextlib.contextmanager
    def bar(enabled: bool, description: str) -> Iterator[Any]:
        looks = itertools.count(1)
        yield lambda fraction, message: next(looks) == after and signal.raise_signal(signal.SIGINT)

    return bar


@pytest.mark.slow
def test_ctrl_c_keeps_the_run_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = exact_models.linear_gaussian(30)
    path = tmp_path / "run.ckpt"
    whole = run(jax.random.key(0), model, 64)
    with monkeypatch.context() as patch:
        patch.setattr(watch, "bar", interrupting(3))
        with pytest.raises(Interrupted, match=rf"step \d+ .*\n.*kept in {path}; the same call goes on"):
            run(jax.random.key(0), model, 64, checkpoint=path)
        with pytest.raises(Interrupted, match="nothing was kept; with checkpoint="):
            run(jax.random.key(0), model, 64, progress=True)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert 0 < int(_read(path)[0]["step"]) < 30
    resumed = run(jax.random.key(0), model, 64, checkpoint=path)
    np.testing.assert_array_equal(resumed.log_z, whole.log_z)


def test_a_second_ctrl_c_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), watch._asking_first(True) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        signal.raise_signal(signal.SIGINT)


def test_no_second_of_compiling_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace within another is reported before it, and is a part of its time."""
    now = [10.0]
    monkeypatch.setattr(watch.time, "perf_counter", lambda: now[0])
    with watch.compile_clock() as compiling:
        for ended, seconds in ((11.0, 1.0), (12.0, 0.5), (13.0, 3.0), (14.0, 2.0), (20.0, 1.0)):
            now[0] = ended
            jax.monitoring.record_event_duration_secs("/jax/core/compile/jaxpr_trace_duration", seconds)
    assert compiling[0] == 5.0


def test_chunks_follow_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a run whose steps take a second each are one step long, and grow where steps become quick."""
    now = [0.0]
    monkeypatch.setattr(watch.time, "perf_counter", lambda: now[0])
    seen = []
    with watch.watching(False, "", Checkpoint(Path("never"), Shape("", None, None), math.inf), [0.0]) as looking:
        for seconds in [1.0] * 3 + [2**-7] * 5 + [1.0] * 2:
            seen.append(looking.length())
            now[0] += seen[-1] * seconds
            looking.look(0.0, "", seen[-1], Saved(0, {}, []))
    assert seen == [1, 1, 1, 1, 4, 16, 64, 64, 64, 1]


class Turned:
    """A pair whose halves a process may list in either order, as distributions of other packages do."""

    backwards = False

    def __init__(self, low: Any, high: Any) -> None:
        self.low, self.high = low, high


jax.tree_util.register_pytree_node(
    Turned,
    lambda pair: ((pair.high, pair.low), True) if Turned.backwards else ((pair.low, pair.high), False),
    lambda turned, halves: Turned(*(reversed(halves) if turned else halves)),
)


def test_an_identity_is_the_same_in_a_process_that_lists_arrays_in_another_order(monkeypatch: Any) -> None:
    """Else half of all killed runs would be told that their checkpoint is another run's."""

    def digest(low: float, high: float) -> str:
        pair = Turned(np.float32([low, 2.0]), np.float32([high, 5.0]))
        unused = Turned(np.float32(low), np.float32(high))

        def looped(pair: Turned, unused: Turned) -> Any:
            del unused
            return jax.lax.while_loop(lambda x: x[0] < 9.0, lambda x: x * pair.high + pair.low, pair.low)

        return program_digest(("settings",), looped, (pair, unused), jax.tree.leaves((pair, unused)))

    first, other = digest(1.0, 3.0), digest(3.0, 1.0)
    monkeypatch.setattr(Turned, "backwards", True)
    assert digest(1.0, 3.0) == first and digest(3.0, 1.0) == other and first != other
