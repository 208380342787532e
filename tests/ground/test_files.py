"""Files are complete or absent, also where the disk is full."""

import subprocess
import sys
from pathlib import Path

import pytest

from smcinfer.ground.errors import FileError
from smcinfer.ground.files import temporary_beside, write_whole
from tests.conftest import ROOT


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"first")
    write_whole(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_keeps_what_was_there(small_disk: Path) -> None:
    write_whole(small_disk / "a", b"before")
    for _ in range(3):
        with pytest.raises(FileError, match=f"{small_disk / 'a'} could not be written.*\n.*No space left"):
            write_whole(small_disk / "a", bytes(2**20))
    assert (small_disk / "a").read_bytes() == b"before"
    assert [path.name for path in small_disk.iterdir()] == ["a"]


def test_what_a_killed_writer_left_goes_with_the_next_write_of_that_name(tmp_path: Path) -> None:
    killed = f"""import os, signal
from smcinfer.ground.files import temporary_beside
with temporary_beside({str(tmp_path / "a")!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", killed], cwd=ROOT, check=False)
    assert [path.name.startswith(".a.") for path in tmp_path.iterdir()] == [True]
    write_whole(tmp_path / "b", b"other")
    assert len(list(tmp_path.iterdir())) == 2
    with temporary_beside(tmp_path / "a") as living:
        write_whole(tmp_path / "a", b"first")
        assert {path.name for path in tmp_path.iterdir()} == {"a", "b", living.name}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="gone/a could not be written"):
        write_whole(tmp_path / "gone" / "a", b"")
