"""The loop of all Markov chains: right draws, and nothing that the host decides changes one of them."""

import contextlib
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError, CheckpointError, CheckpointWarning, Interrupted
from smcinfer.run import watch
from smcinfer.run.chains import Sampler, drive
from smcinfer.run.chains.plan import Segment, doubling, paired
from smcinfer.run.checkpoint import _read
from tests.signatures import unchecked
from tests.statistics import assert_mean


class Walk(Sampler):
    """A random walk on a standard normal; what all chains share is its scale, which the warm-up tunes."""

    def begin(self, key: Any, chain: Any) -> Any:
        return 3.0 * jax.random.normal(key)

    def prepare(self, states: Any) -> Any:
        return jnp.std(states)

    def share(self, key: Any, params: Any) -> Any:
        return params * jax.random.uniform(key, (), minval=0.5, maxval=1.5)

    def step(self, key: Any, state: Any, params: Any) -> Any:
        walk_key, accept_key = jax.random.split(key)
        proposed = state + params * jax.random.normal(walk_key)
        accepted = -jax.random.exponential(accept_key) < 0.5 * (state**2 - proposed**2)
        info = {"acceptance": accepted.astype(state.dtype), "num_evals": jnp.ones((), jnp.int32)}
        return jnp.where(accepted, proposed, state), info

    def record(self, state: Any, info: Any) -> Any:
        return {"x": {"itself": state, "squared": state**2}}

    def tune(self, params: Any, rows: Any) -> Any:
        return params * jnp.exp(rows["acceptance"].mean() - 0.4)


def walk(num_chains: int = 8, **options: Any) -> Any:
    key, share_key = jax.random.split(jax.random.key(0))
    plan = doubling(12, 21, 3)
    return drive(key, Walk(), plan, num_chains=num_chains, share_key=share_key, **({"progress": False} | options))


def assert_same(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_draws_follow_the_law() -> None:
    key = jax.random.key(1)
    done = drive(key, Walk(), paired(4, 60, 5), num_chains=4000, share_key=key, progress=False)
    last = done.records["x"]["itself"][:, -1]
    assert_mean(np.stack([last, last**2], axis=1), np.array([0.0, 1.0]))
    assert done.records["num_evals"].tolist() == np.full((4000, 4), 5).tolist()
    with pytest.raises(AssertionError):
        assert_mean(np.stack([last, last**2], axis=1), np.array([0.0, 1.2]))


@contextlib.contextmanager
def pressing(enabled: bool, description: str) -> Iterator[Any]:
    """A bar that stands for a person who presses Ctrl-C at the fifth look."""
    del enabled, description
    looks = itertools.count(1)
    yield lambda fraction, message: next(looks) == 5 and signal.raise_signal(signal.SIGINT)


def test_nothing_that_the_host_decides_changes_a_draw(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = walk()
    assert whole.records["x"]["itself"].shape == (8, 12) and whole.records["acceptance"].dtype == precision
    file: dict[str, Any] = {"checkpoint": tmp_path / "run.ckpt", "checkpoint_seconds": 0.0}
    seen = set()
    with monkeypatch.context() as patch:
        # Stops between the transitions of a record, in the warm-up and in the draws.
        lengths = itertools.cycle([1, 2, 5, 1])
        patch.setattr(watch.Watch, "length", lambda self: next(lengths))
        patch.setattr(watch, "bar", pressing)
        for _ in range(20):
            with contextlib.suppress(Interrupted):
                resumed = walk(**file)
                break
            seen.add(_read(tmp_path / "run.ckpt")[0]["step"])
    assert len(seen) > 3
    assert_same((whole.records, whole.progress), (resumed.records, resumed.progress))
    assert_same(walk(**file).records, whole.records)
    with pytest.raises(CheckpointError, match="another run"):
        walk(num_chains=7, **file)


def test_a_full_disk_does_not_stop_chains(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(240 * 1024))
    with pytest.warns(CheckpointWarning, match="No space left"):
        done = walk(num_chains=1000, checkpoint=small_disk / "run.ckpt", checkpoint_seconds=0.0)
    assert_same(done.records, walk(num_chains=1000).records)
    assert [file.name for file in small_disk.iterdir()] == ["ballast"]


def test_plans_make_what_was_asked_for() -> None:
    for plan in (paired, doubling):
        for num_draws, num_warmup, thin in itertools.product((1, 7, 1000), (0, 1, 13, 200, 1000), (1, 3)):
            segments = plan(num_draws, num_warmup, thin)
            draws = [segment for segment in segments if not segment.tuning]
            assert sum(segment.records for segment in draws) == num_draws
            assert len({segment.records for segment in draws}) == 1 and all(each.thin == thin for each in draws)
            warmup = sum(segment.transitions for segment in segments if segment.tuning)
            assert warmup <= num_warmup and (warmup >= 0.5 * num_warmup or num_warmup < 2)
            assert segments[-1] == draws[-1]
    assert paired(20, 100, 1)[:2] == [Segment(7, 1, True)] * 2


def test_settings_are_checked_before_work() -> None:
    for wrong, said in ({"progress": "no"}, "progress"), ({"checkpoint_seconds": -1}, "checkpoint_seconds"):
        with unchecked(), pytest.raises(ArgumentError, match=said):
            walk(**wrong)
