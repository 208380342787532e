"""Every wrong call of the table (`tests.wrong_calls`) is an error of this package that names the argument."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.wrong_calls import faults

DOORS = (
    *(
        "sample",
        "sample a filter",
        "Tempering",
        "Nested",
        "DataAnnealing",
        "Moves",
        "posterior",
        "log_density",
        "from_numpyro",
    ),
    *(
        "state_space",
        "online",
        "smooth",
        "smooth by a lag",
        "mcmc",
        "parallel_tempering",
        "pmmh",
        "particle_gibbs",
        "smc2",
        "parametric",
        "compose",
    ),
    *(
        "condition",
        "sandwich",
        "sandwich of a filter",
        "generation",
        "alignment",
        "alignment whose strength is found",
        "learn",
        "check",
        "check_model",
    ),
    *("gaussian_filter", "ensemble_filter", "panel", "maximum_likelihood"),
    *(
        "check_kernel",
        "check_target",
        "HMC",
        "cascade",
        "second_model",
        "TopK",
        "Nucleus",
        "plot_log_z",
        "plot_genealogy",
        "plot_posterior",
        "load",
    ),
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What every call of the table raised, in a process of its own where no hook checks annotations first."""
    file: Path = tmp_path_factory.mktemp("calls") / "found.json"
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "tests.wrong_calls", str(file)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text(encoding="utf8"))


@pytest.mark.parametrize("door", DOORS)
def test_a_wrong_call_is_an_error_that_names_the_argument(found: list[dict[str, str]], door: str) -> None:
    calls = [row for row in found if row["door"] == door]
    assert calls and faults(calls) == []


def test_the_table_is_whole(found: list[dict[str, str]]) -> None:
    assert {row["door"] for row in found} == set(DOORS) and len(found) > 400


@pytest.mark.parametrize(
    ("error", "message", "fault"),
    [
        ("nothing", "", "raised nothing"),
        ("TypeError Exception", "lag: an error of JAX", "raised TypeError"),
        ("ArgumentError SmcinferError ValueError", "out of range", "says nothing of 'lag'"),
    ],
)
def test_silence_raw_errors_and_errors_without_a_name_are_faults(error: str, message: str, fault: str) -> None:
    row = {"door": "smooth", "argument": "lag", "value": "1000", "says": "lag", "error": error, "message": message}
    assert fault in faults([row])[0]
    assert faults([row | {"error": "ArgumentError SmcinferError", "message": "lag is out of range"}]) == []
