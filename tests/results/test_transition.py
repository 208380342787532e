"""Phase transitions are seen where they are, by levels and by the humps of a cloud; two paths agree or contradict."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import smcinfer
from smcinfer.core.status import Status
from smcinfer.models.evidence_problems import spike
from smcinfer.paths.humps import sparseness
from smcinfer.results import Result
from smcinfer.results.evidence import Check
from smcinfer.results.transition import DEPTH, SPARSE, depth

KEY = jax.random.key(0)


def log_ball(radius: Any, dim: int) -> Any:
    """Log of the volume of a ball."""
    return dim * np.log(radius) + 0.5 * dim * np.log(np.pi) - scipy.special.gammaln(0.5 * dim + 1)


def volumes(heights: np.ndarray, dim: int, log_mass: float, std: float) -> np.ndarray:
    """Log of the volume where a Gaussian of this mass exceeds each height."""
    peak = log_mass - dim * np.log(std * np.sqrt(2 * np.pi))
    radius = std * np.sqrt(2 * np.maximum(peak - heights, 1e-300))
    return np.where(heights < peak, log_ball(radius, dim), -np.inf)


@pytest.mark.parametrize("dim", [5, 10, 20])
def test_levels_see_the_spike_and_no_valley_without_it(dim: int) -> None:
    heights = np.linspace(-40.0, 40.0 + 3 * dim, 400)
    slab, narrow = volumes(heights, dim, 0.0, 0.1), volumes(heights, dim, np.log(100.0), 0.01)
    assert depth(heights, np.logaddexp(slab, narrow)) > DEPTH
    assert depth(heights, slab) < 1e-6 and depth(heights, narrow) < 1e-6
    assert depth(heights[:2], slab[:2]) == 0.0


def test_two_humps_are_told_from_one(precision: str) -> None:
    """Gaussian, one-sided and heavy tails have one; a tenth of the particles far from the rest makes two."""
    draws = jax.random.normal(KEY, (20, 1024))
    equal = jnp.zeros(1024)
    single = {
        "normal": draws,
        "squares": -(draws**2),
        "heavy": -jnp.exp(3 * draws),
        "on two values": jnp.sign(draws),
        "half outside": jnp.where(draws > 0, draws, -jnp.inf),
    }
    for name, potentials in single.items():
        found = jax.vmap(sparseness, (0, None))(potentials, equal)
        assert found.dtype == precision and (found < SPARSE).all(), name
    shifted = draws.at[:, :100].add(12.0)
    assert (jax.vmap(sparseness, (0, None))(shifted, equal) > SPARSE).all()
    assert float(sparseness(shifted[0, ::20], equal[::20])) == 1.0, "too few to tell"


def made(log_z: list[float], **more: Any) -> Result:
    runs, one = len(log_z), np.zeros(len(log_z), np.int32)
    weights = np.full((runs, 50), -np.log(50.0))
    common = {"status_runs": one, "num_steps": one + 2, "settings": {"method": "nested"}, "history": {}}
    common |= {"seconds": 0.0, "compile_seconds": 0.0}
    variance = np.full(runs, 0.01)
    given = {
        "particles": {"x": weights},
        "log_weights": weights,
        "log_z_runs": np.asarray(log_z),
        "log_z_variance": variance,
    }
    return Result(**(common | given | more))


def test_a_check_signs_or_contradicts_and_is_kept(tmp_path) -> None:  # noqa: ANN001
    first = made([1.0, 1.1, 0.9, 1.0])
    signed, other = first.with_check(made([1.1, 1.2, 1.0, 1.0])), first.with_check(made([3.0, 3.1, 3.1, 3.0]))
    assert signed.status == Status.OK and "nested agrees: 1.0" in str(signed)
    assert other.status == Status.PATHS_DISAGREE and "DISAGREES" in str(other)
    lower = made([3.0, 3.1, 3.1, 3.0]).with_check(first)
    assert lower.status == Status.PATHS_DISAGREE
    loaded: Any = smcinfer.load(other.save(tmp_path / "result.nc"))
    assert loaded.check == other.check and loaded.status == other.status
    unknown = Check("nested", -np.inf, np.nan, np.nan, np.nan, 0.0)
    assert dataclasses.replace(first, check=unknown).status == Status.PATHS_DISAGREE
    levels = np.array([[-9.0, -2.0, 9.0]]), np.array([[0.0, -9.0, -10.0]])
    deep = made([1.0], history={"level": levels[0], "log_mass": levels[1]})
    assert first.with_check(deep).status & Status.PHASE_TRANSITION


def test_humps_on_the_way_are_reported_and_those_of_the_base_are_not() -> None:
    for humps, expected in (([9.0, 1.0, 1.0], Status.OK), ([1.0, 9.0, 1.0], Status.PHASE_TRANSITION)):
        assert made([1.0, 1.1], history={"humps": np.array([humps, humps])}).status == expected


@pytest.mark.slow
def test_a_spike_is_contradicted() -> None:
    """Tempering alone is 4.6 nats low with status OK."""
    problem = spike(5)
    alone = smcinfer.sample(KEY, problem.target, num_particles=1024, progress=False)
    assert alone.log_z < 1.0 and alone.status == Status.OK
    signed = smcinfer.certify(jax.random.key(1), problem.target, alone, progress=False)
    assert signed.log_z == alone.log_z and signed.check is not None
    assert signed.check.low < problem.log_z < signed.check.high
    assert signed.status & Status.PATHS_DISAGREE and signed.status & Status.PHASE_TRANSITION
