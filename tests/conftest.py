"""What every test runs under: checked signatures, one precision at a time, quick compilation.

The import hook must be in place before the first import of `smcinfer`: it makes beartype check every
annotated shape and dtype of the package at run time.
"""

import os
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

# The tests compile hundreds of small programs and run each for a moment: what counts is compiling. Must precede jax.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()

# Nothing is written into the home of whoever runs the tests.
os.environ.setdefault("SMCINFER_CACHE_DIR", "off")

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

import tests.signatures  # noqa: E402

install_import_hook("smcinfer", f"{tests.signatures.__name__}.checked")

ROOT = Path(__file__).resolve().parent.parent


# A shell that starts the tests in the background leaves Ctrl-C ignored, and some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

NUM_SHARES = 4
"""Shares that the slow tests are dealt into: each commit runs one, four commits run all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--slow-share K`` keeps the slow tests of share K, and every test that is not slow."""
    parser.addoption("--slow-share", type=int, choices=range(NUM_SHARES), help="which share of the slow tests to run")
    parser.addoption(
        "--slow-minutes", type=float, help="start no slow test later than this, minutes; those left are skipped"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slow tests of other shares. A test keeps its share as long as it keeps its name."""
    share = config.getoption("--slow-share")
    if share is None:
        return
    others = [
        item
        for item in items
        if item.get_closest_marker("slow") and zlib.crc32(item.nodeid.encode()) % NUM_SHARES != share
    ]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in set(others)]


STARTED = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A slow test that would start too late is skipped, and says so."""
    minutes = item.config.getoption("--slow-minutes")
    if minutes is not None and item.get_closest_marker("slow") and time.monotonic() - STARTED > 60 * minutes:
        pytest.skip(f"the {minutes:g} minutes for slow tests are spent")


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs() -> Iterator[None]:
    """Drop a module's compiled programs after it: hundreds alive at once have crashed the process."""
    yield
    jax.clear_caches()


@pytest.fixture(params=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once in each precision; the value is the name of the default float dtype."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def x64() -> Iterator[None]:
    """Run the test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of reference data beside the checkout, or the one that SMCINFER_SHARED names."""
    folder = Path(os.environ.get("SMCINFER_SHARED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no reference data: put the folder `shared` beside the checkout or set SMCINFER_SHARED")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for 256 kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mounting, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
