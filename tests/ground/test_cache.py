"""Compiled programs kept between processes: where, for whom, and what a damaged file does (nothing)."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import smcinfer
from smcinfer.ground import cache
from smcinfer.ground.errors import ArgumentError

SETTINGS = ("jax_compilation_cache_dir", *cache._SETTINGS)


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A process that has not opened a cache, with a home of its own."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "_chosen", cache._USE_DEFAULT)
    monkeypatch.setattr(cache, "_opened", None)
    yield tmp_path / "home"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the next process does not know."""
    jax.clear_caches()
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    monkeypatch.setattr(cache, "_opened", None)


def compiled() -> tuple[np.ndarray, int]:
    """What a small program says, and how many programs were found in the cache."""
    cache.use_cache()
    hits = []
    listen = lambda event, **_: hits.append(event) if event == "/jax/compilation_cache/cache_hits" else None  # noqa: E731
    jax.monitoring.register_event_listener(listen)
    try:
        return np.asarray(jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))(np.arange(7.0))), len(hits)
    finally:
        jax.monitoring.unregister_event_listener(listen)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*-cache"))


def test_the_next_process_finds_what_this_one_compiled(new_process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smcinfer.cache_dir(None)
    without, _ = compiled()
    assert not new_process.exists()
    monkeypatch.setattr(cache, "_chosen", cache._USE_DEFAULT)
    forget(monkeypatch)
    first, none = compiled()
    forget(monkeypatch)
    second, some = compiled()
    assert none == 0
    assert some > 0
    assert without.tobytes() == first.tobytes() == second.tobytes()
    folder = new_process / "smcinfer"
    assert smcinfer.cache_dir() == folder
    assert entries(folder)
    for made in (new_process, folder, *folder.iterdir()):
        assert made.stat().st_mode & 0o777 == 0o700


def test_an_entry_that_was_cut_is_removed_and_made_again(new_process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = compiled()
    forget(monkeypatch)
    compiled()  # by now every entry is known to be whole
    sizes = [entry.stat().st_size for entry in entries(new_process / "smcinfer")]
    for entry in entries(new_process / "smcinfer"):
        entry.write_bytes(entry.read_bytes()[:-7])
    forget(monkeypatch)
    again, found = compiled()  # JAX would warn of what it cannot read
    assert found == 0
    assert again.tobytes() == first.tobytes()
    assert [entry.stat().st_size for entry in entries(new_process / "smcinfer")] == sizes


def test_a_full_disk_is_a_warning(new_process: Path, small_disk: Path) -> None:
    small_disk.chmod(0o700)
    smcinfer.cache_dir(small_disk / "cache")
    cache.use_cache()
    (small_disk / "cache" / "ballast").write_bytes(b"0" * (250 * 2**10))
    with pytest.warns(UserWarning, match="compilation cache"):
        said, _ = compiled()
    assert np.isfinite(said)


@pytest.mark.parametrize("word", ["off", "", "OFF"])
def test_the_environment_turns_it_off(new_process: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv(cache.VARIABLE, word)
    compiled()
    assert smcinfer.cache_dir() is None
    assert not new_process.exists()


def test_the_environment_moves_it_and_a_call_moves_it_again(
    new_process: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "one"))
    compiled()
    assert entries(tmp_path / "one")
    assert smcinfer.cache_dir(tmp_path / "two") == tmp_path / "two"
    jax.clear_caches()
    compiled()
    assert entries(tmp_path / "two")
    assert not new_process.exists()


def test_folders_that_others_can_write_to_are_refused(new_process: Path, tmp_path: Path) -> None:
    for name, mode in (("all", 0o777), ("group", 0o770)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
        for folder in (tmp_path / name, tmp_path / name / "within"):
            with pytest.raises(ArgumentError, match="not safe"):
                smcinfer.cache_dir(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="cannot be used"):
        smcinfer.cache_dir(tmp_path / "file" / "within")


def test_a_home_that_cannot_be_used_is_no_error(
    new_process: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compiled()
    assert smcinfer.cache_dir() is None


def test_the_cache_that_jax_was_told_of_is_left_alone(new_process: Path, tmp_path: Path) -> None:
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    cache.use_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    assert smcinfer.cache_dir() is None
    assert not new_process.exists()
