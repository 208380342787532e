"""The command line, end to end on a small target, and every way a person can get it wrong."""

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import smcinfer.cli
from smcinfer import api, plots
from smcinfer.cli import main
from smcinfer.cli.commands import parse_schedule
from smcinfer.cli.parser import build_parser
from smcinfer.ground.errors import ArgumentError
from smcinfer.paths.schedules import ESS, ConditionalESS
from smcinfer.results import load
from tests.synthetic import make_result

SOURCE = """
import numpyro
import numpyro.distributions as dist

import smcinfer.cli
from neighbour import OBSERVED


def log_likelihood(x):
    return dist.Normal(x, 1.0).log_prob(OBSERVED)


target = smcinfer.posterior(dist.Normal(0.0, 1.0), log_likelihood)


def make_target(shift=0.0):
    return target


def needs(value):
    return target


def model():
    numpyro.sample("x", dist.Normal(0.0, 1.0))


def fails():
    return [][1]


def wrong():
    return None


number = 3
kernel = smcinfer.kernels.RandomWalk()
"""

EXACT = -0.5 * np.log(4 * np.pi) - 0.25
"""log of the density of an observation of 1 under N(0, 2)."""

Files = dict[str, Path]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that defines a target and many things that are none."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "neighbour.py").write_text("OBSERVED = 1.0\n")
    # Named as a module of the standard library, which it must not replace.
    path = folder / "json.py"
    path.write_text(SOURCE)
    return path


def sample(source: Path, folder: Path, *more: str) -> Files:
    """Run the command into a folder."""
    files = {"run": folder / "run.nc", "checkpoint": folder / "checkpoints"}
    files["checkpoint"].mkdir(parents=True)
    options = ["--num-particles", "200", "--num-runs", "3", "--kernel", "random_walk", "--seed", "7", "--no-progress"]
    outputs = ["--out", str(files["run"]), "--checkpoint", str(files["checkpoint"]), *more]
    assert main(["sample", f"{source}:make_target", *options, *outputs]) == 0
    return files


@pytest.fixture(scope="module")
def saved(source: Path) -> Files:
    """The files of one real run, with all it can write."""
    folder = source.parent / "first"
    return sample(source, folder, "--plots", str(folder / "plots")) | {"plots": folder / "plots"}


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail with exit code 2 and one message on stderr; returns the message."""

    def run(*arguments: Any) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and "Traceback" not in captured.err
        return captured.err

    return run


def test_sample_writes_a_result_that_is_right(saved: Files) -> None:
    result = load(saved["run"])
    assert (result.num_runs, result.num_particles) == (3, 200)
    assert abs(result.log_z - EXACT) < 6 * result.log_z_se < 1.0
    assert result.settings["kernel"] == "random_walk"
    assert list(saved["checkpoint"].iterdir()) != []
    assert {"genealogy.png", "log_z.png"} <= {path.name for path in saved["plots"].iterdir()}


def test_same_seed_same_result(saved: Files, source: Path, tmp_path: Path) -> None:
    again, first = load(sample(source, tmp_path)["run"]), load(saved["run"])
    np.testing.assert_array_equal(again.log_z_runs, first.log_z_runs)
    for name, values in first.particles.items():
        np.testing.assert_array_equal(again.particles[name], values)


def test_summary_prints_the_result_again(saved: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(saved["run"])]) == 0
    printed = capsys.readouterr().out
    assert str(load(saved["run"])) in printed
    assert "mcse" in printed and "5%" in printed


def test_plot_draws_into_a_new_folder(
    saved: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def save_all(result: Any, folder: Path) -> list[Path]:
        assert folder.is_dir()
        drawn.append(result.log_z)
        return [folder / "one.png"]

    monkeypatch.setattr(plots, "save_all", save_all)
    folder = tmp_path / "a" / "b"
    assert main(["plot", str(saved["run"]), "--out", str(folder)]) == 0
    assert drawn == [load(saved["run"]).log_z]
    assert capsys.readouterr().out == f"drew {folder / 'one.png'}\n"


def test_check_passes_and_fails_by_exit_code(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{source}:target"]) == 0
    assert "contract kept" in capsys.readouterr().out
    bad = source.with_name("bad.py")
    bad.write_text(
        SOURCE + "\nimport jax.numpy as jnp\ntarget = smcinfer.posterior(dist.Normal(0., 1.), lambda x: jnp.nan * x)\n"
    )
    assert main(["check", f"{bad}:target"]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize(("bit", "code"), [(0, 0), (2, 0), (4, 1), (1, 1)])
def test_serious_status_is_exit_code_one(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bit: int, code: int
) -> None:
    result = make_result(status=np.full(4, bit))
    monkeypatch.setattr(api, "sample", lambda *_, **__: result)
    assert main(["sample", f"{source}:target"]) == code
    assert main(["summary", str(result.save(tmp_path / "run.nc"))]) == code


def test_options_reach_the_sampler(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def record(key: Any, target: Any, **options: Any) -> Any:
        seen.update(options, precision=str(jax.numpy.result_type(float)), target=type(target).__name__)
        return make_result()

    monkeypatch.setattr(api, "sample", record)
    words = "--kernel nuts --method tempering --schedule .1,.5,1 --x64 --no-progress --checkpoint c"
    assert main(["sample", f"{source}:target", *words.split()]) == 0
    method = seen.pop("method")
    assert (method.schedule, method.max_steps) == ([0.1, 0.5, 1.0], None)
    assert seen == {
        "num_particles": 4096,
        "num_runs": 4,
        "kernel": "nuts",
        "history": "scalars",
        "progress": False,
        "checkpoint": Path("c"),
        "precision": "float64",
        "target": "StaticTarget",
    }
    assert str(jax.numpy.result_type(float)) == "float32"


def test_schedules() -> None:
    assert parse_schedule(None, None) is None and parse_schedule("ess", None) == "ess"
    assert parse_schedule(None, 0.7) == ESS(fraction=0.7)
    assert parse_schedule("conditional_ess", 0.7) == ConditionalESS(fraction=0.7)
    assert parse_schedule("1", None) == [1.0]
    with pytest.raises(ArgumentError, match="separated by commas"):
        parse_schedule("linear", None)
    with pytest.raises(ArgumentError, match="fixed exponents"):
        parse_schedule(".5,1", 0.7)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("", ["the name inside the file is missing", "target, make_target"]),
        (":absent", ["defines no 'absent'", "target, make_target"]),
        (":number", ["number is a int", "target, make_target"]),
        (":needs", ["needs is a function"]),
        (":wrong", ["wrong returned a NoneType", "from_numpyro"]),
        (":model", ["from_numpyro(model, *args)"]),
        (":fails", ["IndexError", "return [][1]"]),
        (":kernel", ["kernel is a RandomWalk", "StaticTarget or FeynmanKac"]),
    ],
)
def test_what_is_no_target(source: Path, refuse: Callable[..., str], name: str, parts: list[str]) -> None:
    message = refuse("sample", f"{source}{name}")
    for part in ["smcinfer sample: ", *parts]:
        assert part in message


def test_files_that_are_wrong(tmp_path: Path, saved: Files, refuse: Callable[..., str]) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("x = 1\ny = undefined\n")
    assert "no such file" in refuse("sample", f"{tmp_path}/absent.py:target")
    assert "not a Python file" in refuse("sample", f"{saved['run']}:target")
    assert "line 2: y = undefined" in refuse("sample", f"{broken}:target")
    broken.write_text("def (:\n")
    assert "SyntaxError" in refuse("sample", f"{broken}:target")
    assert "no such file" in refuse("summary", tmp_path / "absent.nc")
    assert "damaged, cut short" in refuse("plot", broken, "--out", tmp_path / "figures")


def test_wrong_values_are_found_before_any_work(
    source: Path, tmp_path: Path, refuse: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"{source}:target"
    assert "random_walk" in refuse("sample", target, "--kernel", "walk")
    assert "num_particles" in refuse("sample", target, "--num-particles", 0)
    assert "path from 0 to 1" in refuse("sample", target, "--schedule", "1,.5")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("work started")

    monkeypatch.setattr(api, "sample", never)
    assert "cannot write" in refuse("sample", target, "--out", tmp_path / "absent" / "run.nc")
    assert "cannot make the output folder" in refuse("sample", target, "--plots", source)


def test_interruption_is_not_a_traceback(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "sample", interrupt)
    assert main(["sample", f"{source}:target", "--checkpoint", "c"]) == 130
    assert "goes on from it" in capsys.readouterr().err


def test_demo_gets_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    demonstration = types.SimpleNamespace(main=lambda out: seen.append(out))
    monkeypatch.setattr(smcinfer.cli, "demo", demonstration, raising=False)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    assert seen == [tmp_path / "demo"] and seen[0].is_dir()


@pytest.mark.parametrize("arguments", [[], ["fly"], ["sample"], ["sample", "x.py:y", "--num-runs", "two"]])
def test_unknown_words_exit_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and "usage:" in capsys.readouterr().err


def test_help_has_an_example_of_every_command() -> None:
    text = build_parser().format_help()
    for command in ("sample", "summary", "plot", "check", "demo"):
        assert f"smcinfer {command} " in text


def test_python_dash_m_runs_it() -> None:
    done = subprocess.run([sys.executable, "-m", "smcinfer", "--version"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()[0]) == (0, "smcinfer")
