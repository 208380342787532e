"""The command line, end to end on a small target, and every way a person can get it wrong."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import smcinfer.cli.demo as demonstration
from smcinfer import api, plots
from smcinfer.cli import main
from smcinfer.cli.app import COMMANDS, build
from smcinfer.cli.loading import load_object
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.ground.errors import FileError, Interrupted
from smcinfer.paths.moves import Moves
from smcinfer.paths.schedules import ConditionalESS
from smcinfer.results import Result, load
from smcinfer.static.methods import DataAnnealing
from smcinfer.static.target import StaticTarget
from tests.statistics import FAILURE_RATE
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


def observed():
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(x, 1.0), obs=OBSERVED)


def labelled():
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    which = numpyro.sample("which", dist.Bernoulli(0.5))
    numpyro.sample("y", dist.Normal(x + which, 1.0), obs=OBSERVED)


def wrapped():
    return smcinfer.from_numpyro(observed)


class Stan:
    def log_density_gradient(self, x, **options):
        return -0.5 * float(x @ x), -x

    def param_constrain(self, x):
        return x

    param_unconstrain = param_constrain

    def param_names(self):
        return ["x"]


stan = Stan()


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

# A command reads the sampler's signature when it is imported: before a test puts another function in its place.
build().resolved_commands()


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
    low, high = result.log_z_interval(1 - FAILURE_RATE)
    assert low < EXACT < high and result.log_z_se < 0.2
    assert result.settings["kernel"] == "random_walk"
    assert list(saved["checkpoint"].iterdir()) != []
    assert {"genealogy.png", "log_z.png"} <= {path.name for path in saved["plots"].iterdir()}


@pytest.mark.slow
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
    result = make_result(status_runs=np.full(4, bit))
    monkeypatch.setattr(api, "sample", lambda *_, **__: result)
    assert main(["sample", f"{source}:target"]) == code
    assert main(["summary", str(result.save(tmp_path / "run.nc"))]) == code


def test_options_reach_the_sampler(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def record(key: Any, target: Any, **options: Any) -> Any:
        seen.update(options, precision=str(jax.numpy.result_type(float)), target=type(target).__name__)
        return make_result()

    monkeypatch.setattr(api, "sample", record)
    words = "--kernel nuts --schedule .1,.5,1 --x64 --no-progress --checkpoint c --no-led --moves-max-steps 9"
    assert main(["sample", f"{source}:target", *words.split()]) == 0
    method = seen.pop("method")
    assert (method.schedule, method.led, method.moves) == ([0.1, 0.5, 1.0], False, Moves(max_steps=9))
    # What was not given is not handed on: defaults are the sampler's own.
    assert seen == {
        "kernel": "nuts",
        "progress": False,
        "checkpoint": Path("c"),
        "precision": "float64",
        "target": "StaticTarget",
    }
    assert str(jax.numpy.result_type(float)) == "float32"
    words = "--method data_annealing --batch-size 2"
    assert main(["sample", f"{source}:target", *words.split()]) == 0 and seen["method"] == DataAnnealing(batch_size=2)
    words = "--method nested --survival .3 --check tempering"
    assert main(["sample", f"{source}:target", *words.split()]) == 0
    assert (seen["method"].survival, seen["check"]) == (0.3, "tempering")
    words = "--schedule=conditional_ess --schedule-fraction .7"
    assert main(["sample", f"{source}:target", *words.split()]) == 0
    assert seen["method"].schedule == ConditionalESS(fraction=0.7)


def test_an_option_of_another_choice_is_refused(source: Path, refuse: Callable[..., str]) -> None:
    message = refuse("sample", f"{source}:target", "--schedule", ".5,1", "--schedule-fraction", ".7")
    assert "--schedule-fraction does nothing here" in message and "--schedule conditional_ess" in message
    message = refuse("sample", f"{source}:target", "--method", "data_annealing", "--max-steps", "9")
    assert "--max-steps does nothing here" in message and "it beside --method tempering" in message
    assert "max_steps" in refuse("sample", f"{source}:target", "--schedule", ".5,1", "--max-steps", "9")
    assert "method" in refuse("sample", f"{source}:target", "--method", "flying")
    assert "conditional_ess" in refuse("sample", f"{source}:target", "--schedule", "linear")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("", ["the name inside the file is missing", "target, make_target", "stan"]),
        (":absent", ["defines no 'absent'", "target, make_target"]),
        (":number", ["number is a int", "target, make_target"]),
        (":needs", ["needs is a function"]),
        (":wrong", ["wrong returned a NoneType", "from_numpyro"]),
        (":model", ["the model observes nothing"]),
        (":fails", ["IndexError", "return [][1]"]),
        (":kernel", ["kernel is a RandomWalk", "StaticTarget or FeynmanKac"]),
    ],
)
def test_what_is_no_target(source: Path, refuse: Callable[..., str], name: str, parts: list[str]) -> None:
    message = refuse("sample", f"{source}{name}")
    for part in ["smcinfer sample: ", *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("name", "kind"),
    [("observed", "StaticTarget"), ("wrapped", "StaticTarget"), ("labelled", "MixedPath"), ("stan", "StaticTarget")],
)
def test_models_of_other_languages_are_targets(source: Path, name: str, kind: str) -> None:
    found = load_object(f"{source}:{name}", (StaticTarget, FeynmanKac))
    assert type(found).__name__ == kind


def test_a_pymc_model_is_a_target(tmp_path: Path) -> None:
    pytest.importorskip("pymc")
    path = tmp_path / "model.py"
    path.write_text(
        "import pymc as pm\n\nwith pm.Model() as model:\n    x = pm.Normal('x')\n    pm.Normal('y', x, observed=1.0)\n"
    )
    found = load_object(f"{path}:model", (StaticTarget, FeynmanKac))
    assert found.log_prob(jax.numpy.zeros(1)) == pytest.approx(-np.log(2 * np.pi) - 0.5, rel=1e-5)


def test_files_that_are_wrong(tmp_path: Path, saved: Files, refuse: Callable[..., str]) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("x = 1\ny = undefined\n")
    assert "no such file" in refuse("sample", f"{tmp_path}/absent.py:target")
    assert "not a Python file" in refuse("sample", f"{saved['run']}:target")
    assert "line 2: y = undefined" in refuse("sample", f"{broken}:target")
    broken.write_text("import math\n\ndef (:\n")
    message = refuse("sample", f"{broken}:target")
    assert "raised SyntaxError: invalid syntax" in message and f"{broken}, line 3: def (:" in message
    (tmp_path / "unfinished.py").write_text("x = [1,\n")
    broken.write_text("import unfinished\n")
    message = refuse("sample", f"{broken}:target")
    assert "unfinished.py, line 1: x = [1," in message and "importlib" not in message
    broken.write_bytes(b"x = 1\0\n")
    message = refuse("sample", f"{broken}:target")
    assert str(broken) in message and "importlib" not in message
    broken.write_text("import sys\nsys.exit(0)\n")
    assert "line 2: sys.exit(0)" in refuse("sample", f"{broken}:target")
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
    for name in ("run.nc", "log_z.png"):
        (tmp_path / name).write_text("dear")
    assert "--force overwrites it" in refuse("sample", target, "--out", tmp_path / "run.nc")
    assert "--force overwrites them" in refuse("sample", target, "--plots", tmp_path)
    assert "run.nc exists" in refuse("generate", "--prompt", "A", "--out", tmp_path / "run.nc")
    assert "run.nc exists" in refuse("tree", "(S (NN _))", "--out", tmp_path / "run.nc")
    assert "run.nc exists" in refuse("blocks", target, "--out", tmp_path / "run.nc")
    assert "files of an earlier run" in refuse("demo", "--out", tmp_path)
    assert (tmp_path / "run.nc").read_text() == "dear"


def test_force_overwrites(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run.nc"
    out.write_text("old")
    monkeypatch.setattr(api, "sample", lambda *_, **__: make_result())
    assert main(["sample", f"{source}:target", "--out", str(out), "--force"]) == 0
    assert load(out).log_z == make_result().log_z


@pytest.mark.parametrize(
    ("options", "error", "advice"),
    [
        (["--checkpoint", "c"], KeyboardInterrupt(), "the same command goes on from what was saved to c"),
        ([], KeyboardInterrupt(), "with --checkpoint PATH the same command goes on"),
        (["--checkpoint", "c"], Interrupted("step 3", "c", written=True), "step 3\n  kept in c"),
        (["--checkpoint", "c"], Interrupted("step 3", "c"), "step 3\n  c could not be written"),
        ([], Interrupted("step 3"), "step 3\n  nothing was saved: with --checkpoint PATH"),
    ],
)
def test_interruption_says_how_to_resume(
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    error: BaseException,
    advice: str,
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(api, "sample", interrupt)
    assert main(["sample", f"{source}:target", *options]) == 130
    assert advice in capsys.readouterr().err


def test_a_full_disk_is_a_failure_and_no_wrong_command(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise FileError("the disk is full")

    monkeypatch.setattr(api, "sample", lambda *_, **__: make_result())
    monkeypatch.setattr(Result, "save", full)
    assert main(["sample", f"{source}:target", "--out", str(tmp_path / "run.nc")]) == 1
    assert "the disk is full" in capsys.readouterr().err


def test_demo_gets_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(demonstration, "main", lambda out: seen.append(out) or 0)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    assert seen == [tmp_path / "demo"] and seen[0].is_dir()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], "unknown command 'fly'"),
        (["sampl"], "to fix:   smcinfer sample"),
        (["sample"], "TARGET requires an argument"),
        (["sample", "x.py:y", "--num-runs", "two"], 'unable to convert "two" into int'),
        (["sample", "x.py:y", "--num-particels", "2"], "Did you mean --num-particles?"),
        (["--fly"], 'Unknown command "--fly"'),
    ],
)
def test_unknown_words_exit_with_two(arguments: list[str], words: str, refuse: Callable[..., str]) -> None:
    assert words in refuse(*arguments)


def test_no_words_show_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_examples_that_are_understood(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "130" in shown and "Usage: smcinfer" in shown
    for example in COMMANDS[name].examples:
        assert example in shown
        # A script for a shell is given to it.
        line = example.partition(" > ")[0].replace('eval "$(smcinfer completion bash)"', "smcinfer completion bash")
        words = shlex.split(line)
        assert words[:2] == ["smcinfer", name]
        function, _, _ = build().parse_args(words[1:])
        assert function.__name__ == name


def test_errors_are_coloured_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    main(["summary", "absent.nc"])
    assert "\x1b[" not in capsys.readouterr().err
    # What rich takes for a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    main(["summary", "absent.nc"])
    assert "\x1b[1;31msmcinfer summary" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    main(["summary", "absent.nc"])
    assert "\x1b[1;31m" not in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert "schedule-fraction" in script and "num-particles" in script


def test_version_and_help_import_no_engine() -> None:
    program = """
import sys
from smcinfer.cli import main
assert main(["--version"]) == 0 and main(["--help"]) == 0 and main(["fly"]) == 2
heavy = {"jax", "numpy", "scipy", "matplotlib", "numpyro", "sklearn", "tokenizers", "xarray"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("smcinfer ")


def test_python_dash_m_runs_it() -> None:
    done = subprocess.run([sys.executable, "-m", "smcinfer", "--version"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()[0]) == (0, "smcinfer")
