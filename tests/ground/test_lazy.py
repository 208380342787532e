"""The package's public names: each is what its stub says, whenever it is asked for, and no room hides one."""

import importlib
import math
import subprocess
import sys
from types import FunctionType, ModuleType

import pytest

import smcinfer


@pytest.mark.parametrize("name", smcinfer.__all__)
def test_a_public_name_is_what_its_stub_says(name: str) -> None:
    home = vars(smcinfer)["_homes"][name]
    found = getattr(smcinfer, name)
    if home == "smcinfer":
        assert found is importlib.import_module(f"smcinfer.{name}")
    else:
        assert found is getattr(importlib.import_module(home), name)
    assert name in dir(smcinfer)


@pytest.mark.parametrize("name", ["run", "state_space"])
def test_a_room_does_not_hide_the_function_of_its_name(name: str) -> None:
    room = importlib.import_module(f"smcinfer.{name}")
    assert isinstance(room, ModuleType) and isinstance(getattr(smcinfer, name), FunctionType)


def test_a_room_without_a_door_is_found_too() -> None:
    assert smcinfer.results is importlib.import_module("smcinfer.results")


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'smcinfer' has no attribute 'sampel'"):
        _ = smcinfer.sampel
    assert not hasattr(smcinfer, "__wrapped__")


@pytest.mark.slow
def test_models_run_where_arviz_was_imported_first() -> None:
    """ArviZ imports numpyro lazily, and leaves a part of it unbound."""
    code = (
        "import arviz, jax.numpy, numpyro, numpyro.distributions as dist, smcinfer\n"
        "def model():\n"
        "    numpyro.factor('half', -numpyro.sample('x', dist.HalfNormal()))\n"
        "print(smcinfer.from_numpyro(model).log_prob(jax.numpy.zeros(1)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(found.stdout) == pytest.approx(-1.5 - 0.5 * math.log(math.pi / 2), rel=1e-4)


def test_importing_the_package_imports_no_engine() -> None:
    program = "import sys, smcinfer; smcinfer.__version__; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 0
