"""What every test runs under: checked signatures, one precision at a time, quick compilation.

The import hook must be in place before the first import of `smcinfer`: it makes beartype check every
annotated shape and dtype of the package at run time.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

# The tests compile hundreds of small programs and run each for a moment: what counts is compiling. Must precede jax.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("smcinfer", "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent


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
