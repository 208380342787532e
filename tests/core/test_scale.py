"""Particles shared by several devices and processes, and islands: the same numbers, and log Z without bias."""

import json
import os
import socket
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.run.runner import run
from tests import exact_models
from tests.conftest import ROOT
from tests.statistics import assert_error_bars, assert_mean_one_log

SIZE = {"num_particles": 64, "num_runs": 600}
CASES = {
    "global on one": SIZE | {"shared": False},
    "global on eight": SIZE | {"shared": True},
    "islands on one": SIZE | {"shared": False, "islands": 8},
    "islands on eight": SIZE | {"shared": True, "islands": 8},
}
STEPS = 8


def start(spec: dict[str, Any], num_devices: int) -> subprocess.Popen[str]:
    """A process that runs the spec of `tests.scale_worker` on forced host devices."""
    flags = f"--xla_force_host_platform_device_count={num_devices} --xla_backend_optimization_level=0"
    return subprocess.Popen(
        [sys.executable, "-m", "tests.scale_worker", json.dumps({"num_steps": STEPS} | spec)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the process printed last."""
    try:
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-2000:]
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def on_eight_devices() -> dict[str, Any]:
    """log Z of every case, computed by one process with eight devices."""
    return answer(start({"cases": CASES, "collectives": [1, 8]}, 8))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["global", "islands"])
def test_eight_devices_give_the_numbers_of_one(on_eight_devices: dict[str, Any], kind: str) -> None:
    for what in ("", " variance"):
        one, eight = (np.array(on_eight_devices[f"{kind} on {number}{what}"]) for number in ("one", "eight"))
        np.testing.assert_allclose(eight, one, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("case", ["global on eight", "islands on eight"])
def test_z_hat_is_unbiased_on_eight_devices(on_eight_devices: dict[str, Any], case: str) -> None:
    assert_mean_one_log(on_eight_devices[case], exact_models.linear_gaussian(STEPS)[1])


def test_islands_move_no_particle_between_devices(on_eight_devices: dict[str, Any]) -> None:
    # Collectives as large as the population, by number of islands; global resampling needs some: the control.
    assert on_eight_devices["collectives"]["8"] == []
    assert "all-gather" in on_eight_devices["collectives"]["1"]


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cases = {name: case for name, case in CASES.items() if name.endswith("eight")}
    together = {"coordinator": f"127.0.0.1:{port}", "num_processes": 2, "cases": cases}
    pair = [start(together | {"process": rank}, 4) for rank in range(2)]
    first, second = [answer(one) for one in pair]
    alone = answer(start({"cases": CASES}, 1))
    for kind in ("global", "islands"):
        assert first[f"{kind} on eight"] == second[f"{kind} on eight"]
        np.testing.assert_allclose(first[f"{kind} on eight"], alone[f"{kind} on one"], rtol=2e-4, atol=2e-4)


def test_islands_have_honest_error_bars() -> None:
    model, log_z = exact_models.linear_gaussian(12)
    done = run(jax.random.key(2), model, 256, num_runs=300, islands=4)
    assert_mean_one_log(done.log_z, log_z)
    assert_error_bars(done.log_z, done.log_z_variance, log_z)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 10, "islands": 3}, "islands"),
        ({"num_particles": 10, "islands": 0}, "islands"),
        ({"num_particles": 9, "devices": jax.devices() * 2}, "devices"),
    ],
)
def test_a_population_that_cannot_be_split_is_refused(options: dict[str, Any], message: str) -> None:
    model, _ = exact_models.linear_gaussian(2)
    with pytest.raises(ArgumentError, match=message):
        run(jax.random.key(0), model, **options)
