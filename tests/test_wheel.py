"""What is shipped: the wheel and the source archive hold the package, with models and proposals inside it."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCES = ("LICENSE", "README.md", "pyproject.toml", "smcinfer", "models", "proposals")


def build(kind: str, source: Path, out: Path) -> Path:
    """Build ``source`` without network; the one archive that appears in ``out``."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out), str(source)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert outcome.returncode == 0, outcome.stdout[-3000:] + outcome.stderr[-3000:]
    (archive,) = out.iterdir()
    return archive


def run_isolated(code: str) -> str:
    """Standard output of a fresh interpreter that sees neither this folder nor the environment's variables."""
    outcome = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    return outcome.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, links kept, so that building leaves nothing in the working tree."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def shipped(folder: str) -> set[str]:
    """Files of a top-level folder that must be in the wheel: code and everything it reads at run time."""
    kinds = {".py", ".pyi", ".safetensors", ".json", ".md", ".typed"}
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in kinds and "__pycache__" not in path.parts
    }


def test_wheel_holds_every_file_of_the_package(names: set[str]) -> None:
    assert shipped("smcinfer") <= names


@pytest.mark.parametrize("folder", ["models", "proposals"])
def test_wheel_holds_models_and_proposals_inside_the_package_only(names: set[str], folder: str) -> None:
    assert (ROOT / "smcinfer" / folder).is_symlink()
    assert f"{folder}/__init__.py" in shipped(folder)
    assert {f"smcinfer/{name}" for name in shipped(folder)} <= names
    assert not {name for name in names if name.startswith(f"{folder}/")}


def test_wheel_has_one_top_level_package_and_the_command(wheel: Path, names: set[str]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]["version"]
    info = f"smcinfer-{version}.dist-info"
    assert {name.split("/")[0] for name in names} == {"smcinfer", info}
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert "smcinfer = smcinfer.cli:main" in entry_points
    assert "License-Expression: Apache-2.0" in metadata


def test_wheel_is_importable_where_it_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import importlib.util, smcinfer, smcinfer.models, smcinfer.proposals\n"
        "print(smcinfer.__file__, smcinfer.models.__file__, smcinfer.proposals.__file__)\n"
        "print([name for name in ('models', 'proposals') if importlib.util.find_spec(name)])\n"
    )
    files, bare = run_isolated(code).splitlines()
    assert all(Path(file).is_relative_to(tmp_path) for file in files.split())
    assert bare == "[]"


def test_source_archive_builds_the_same_wheel(checkout: Path, names: set[str], tmp_path: Path) -> None:
    archive = build("sdist", checkout, tmp_path / "sdist")
    with tarfile.open(archive) as sources:
        assert not [member.name for member in sources if member.issym() or member.islnk()]
        sources.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    with zipfile.ZipFile(build("wheel", source, tmp_path / "wheel")) as again:
        assert set(again.namelist()) == names
