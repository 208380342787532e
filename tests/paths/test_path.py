"""A path written by hand, the one of `examples/your_own_family.py`: exact log Z, and what a path refuses."""

import dataclasses
import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer import checks
from smcinfer.ground.errors import ArgumentError
from smcinfer.paths import ESS, Exponents, Moves
from smcinfer.paths.moves import repeat
from smcinfer.run.runner import run
from tests.conftest import ROOT
from tests.statistics import assert_mean_one_log

spec = importlib.util.spec_from_file_location("your_own_family", ROOT / "examples" / "your_own_family.py")
assert spec is not None and spec.loader is not None
example: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

ITEMS, COST = 5, 0.7
KEY = jax.random.key(0)
FEW = Moves.exactly(2)
PATH = Exponents(jnp.asarray([0.2, 0.5, 1.0]))


def exact_log_z() -> float:
    """log of the mean of q^inversions over all orders."""
    q, items = np.exp(-COST), np.arange(1, ITEMS + 1)
    return float(np.log((1 - q**items) / (1 - q) / items).sum())


class MovesAtTheEnd(example.Rankings):
    """A mistake: its moves leave the target invariant and not the law on the way to it."""

    def move(self, key: Any, particles: Any, at: Any, params: Any) -> Any:
        return super().move(key, particles, dataclasses.replace(at, exponent=jnp.ones_like(at.exponent)), params)


class SaysMore(example.Rankings):
    """A mistake: it reports what it has not announced."""

    def move(self, key: Any, particles: Any, at: Any, params: Any) -> Any:
        particles, report = super().move(key, particles, at, params)
        return particles, report | {"extra": jnp.zeros(())}


def log_z(kind: Any = example.Rankings, **options: Any) -> Any:
    return run(KEY, kind(ITEMS, COST, **({"moves": FEW} | options)), 16, num_runs=1500).log_z


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"schedule": ESS(0.6)}, {"schedule": PATH, "led": False}, {"schedule": PATH, "moves": Moves(), "chain_length": 4}],
    ids=["adaptive and led", "given", "waste-free"],
)
def test_a_family_of_three_methods_is_unbiased(options: dict[str, Any]) -> None:
    assert_mean_one_log(log_z(**options), exact_log_z())


def test_moves_at_the_wrong_exponent_are_caught() -> None:
    with pytest.raises(AssertionError):
        assert_mean_one_log(log_z(MovesAtTheEnd, schedule=PATH), exact_log_z())


def test_a_family_keeps_the_contract_and_exports_its_particles() -> None:
    report = checks.check(example.Rankings(ITEMS, COST, moves=FEW), KEY, num_particles=64)
    assert report.passed, str(report)


def test_what_a_path_refuses() -> None:
    with pytest.raises(ArgumentError, match="reports"):
        log_z(SaysMore)
    with pytest.raises(ArgumentError, match="max_steps"):
        example.Rankings(ITEMS, schedule=PATH, max_steps=5)
    with pytest.raises(ArgumentError, match="chain_length"):
        example.Rankings(ITEMS, chain_length=1)
    with pytest.raises(ArgumentError, match="multiple of chain_length"):
        run(KEY, example.Rankings(ITEMS, chain_length=5), 16)
    with pytest.raises(ArgumentError, match="resample_below"):
        run(KEY, example.Rankings(ITEMS), 16, resample_below=0.5)


def test_moves_stop_once_the_start_is_forgotten_unless_all_are_asked_for() -> None:
    """Particles that swap sides forget their start at once, and remember it at the next move."""
    swap = lambda key, x: (-x, {})  # noqa: E731
    look = (lambda x: x, lambda x: None)
    for moves, count in ((Moves(5, 1, 0.5), 1), (Moves(5, 2, 0.5), 3), (Moves(5, 1, 0.0), 5)):
        assert int(repeat(KEY, jnp.arange(8.0), swap, look, moves, {}, led=False)[1].num_steps) == count
