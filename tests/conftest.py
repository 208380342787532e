"""What every test runs under: checked signatures, one precision at a time, quick compilation.

A program is compiled once: it is kept in memory, and in a folder that the processes of this run and the next ones share.

The import hook must be in place before the first import of `smcinfer`: it makes beartype check every
annotated shape and dtype of the package at run time.
"""

import os
import re
import signal
import subprocess
import time
import zlib
from collections import Counter
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

from smcinfer.ground import programs  # noqa: E402
from smcinfer.ground.cache import machine  # noqa: E402
from tests.programs import make_room, share_programs  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent

PROGRAMS = ROOT / ".pytest_cache" / "programs" / machine()
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make_room(PROGRAMS)
    share_programs(PROGRAMS)

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


NUM_DEALT = 3
"""Of the cases of a test that is marked as dealt the first of so many is quick, and the others are slow."""

PRECISIONS = ("float32", "float64")


def second_precision(item: pytest.Item) -> bool:
    """Whether the test is one of a pair that differ in precision alone, and the other was dealt to the quick tests."""
    precision = getattr(item, "callspec", None) and item.callspec.params.get("precision")
    pair = re.sub("float(32|64)", "", item.nodeid)
    return precision in PRECISIONS and precision != PRECISIONS[zlib.crc32(pair.encode()) % 2]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal pairs of precisions, and cases, to the quick and the slow tests; leave out the slow tests of other shares.

    A test keeps its place as long as it keeps its name.
    """
    counts: Counter[str] = Counter()
    for item in items:
        if item.get_closest_marker("slow"):
            continue
        if second_precision(item):
            item.add_marker(pytest.mark.slow)
        elif item.get_closest_marker("dealt"):
            test = item.nodeid.split("[")[0]
            if counts[test] % NUM_DEALT:
                item.add_marker(pytest.mark.slow)
            counts[test] += 1
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


MAPS = Path("/proc/self/maps")
MAX_MAPS = int(Path("/proc/sys/vm/max_map_count").read_text()) // 2 if MAPS.exists() else 0
"""Half of the memory maps that Linux grants a process. A compiled program holds about ten; one too many kills the process."""


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs() -> Iterator[None]:
    """Drop the compiled programs where those alive use up the process's memory maps (or where that cannot be counted)."""
    yield
    if not MAX_MAPS or MAPS.read_bytes().count(b"\n") > MAX_MAPS:
        jax.clear_caches()


@pytest.fixture
def mistaken(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """`monkeypatch` for what compiled programs call: traces made without the mistake do not serve, and those with it go."""
    forget_traces()
    yield monkeypatch
    monkeypatch.undo()
    forget_traces()


def forget_traces() -> None:
    """Trace whatever is called from now on anew."""
    programs._traces._values.clear()
    jax.clear_caches()


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once in each precision, the second time as a slow test; the value is the default float dtype's name."""
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
