"""Populations taken a slice at a time: the same numbers from less memory, and slices that fit where all at once do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.ground import memory
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.slices import each, sliced
from tests.run.test_programs import TARGETS
from tests.signatures import unchecked

SIZE = 16


def sampled(target: Any, **options: Any) -> Any:
    return smcinfer.sample(jax.random.key(1), target, num_particles=SIZE, num_runs=2, progress=False, **options)


def assert_same(one: Any, other: Any) -> None:
    assert one.log_z == pytest.approx(other.log_z, rel=1e-5)
    for name, values in one.particles.items():
        np.testing.assert_allclose(values, other.particles[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "kind", [name if name == "filter" else pytest.param(name, marks=pytest.mark.slow) for name in TARGETS]
)
def test_slices_give_the_numbers_of_all_at_once(kind: str) -> None:
    target = TARGETS[kind](1)
    assert_same(sampled(target), sampled(target, particle_batch=5))


def test_slices_are_those_of_a_map_and_can_be_differentiated() -> None:
    x, scale = jnp.arange(7.0), jnp.float32(3.0)

    def total(scale: Any, size: int | None) -> Any:
        with sliced(size):
            squares, _ = each(lambda x: (jnp.sin(scale * x) ** 2, x))(x)
        return jnp.sum(squares)

    for size in (1, 3, 7, 20):
        np.testing.assert_allclose(total(scale, size), total(scale, None), rtol=1e-6)
        np.testing.assert_allclose(jax.grad(total)(scale, size), jax.grad(total)(scale, None), rtol=1e-5)
    assert "while" in str(jax.make_jaxpr(lambda: total(scale, 3))()) or "scan" in str(
        jax.make_jaxpr(lambda: total(scale, 3))()
    )


def wide(num_particles: int) -> Callable[..., Any]:
    """A run whose weights hold a thousand numbers for each particle that is weighed at once."""
    large = jnp.linspace(0.0, 1.0, 1000)
    walk = smcinfer.process(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(x, 1.0))
    model = smcinfer.compose(walk, lambda t, x: jnp.sort(x * large)[500], num_steps=1)
    fixed = {"num_particles": num_particles, "num_runs": 1, "progress": False}
    return lambda **options: smcinfer.sample(jax.random.key(0), model, **fixed, **options)


@pytest.mark.slow
def test_what_does_not_fit_at_once_is_taken_in_slices_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    run = wide(64)
    whole = run()
    for name in ("total_memory", "free_memory"):
        monkeypatch.setattr(memory, name, lambda: 150_000)
    assert run().log_z == pytest.approx(whole.log_z, rel=1e-5)
    with unchecked(), pytest.raises(ArgumentError, match="64 of them at a time(.|\n)*particle_batch=None"):
        run(particle_batch=64)
    for name in ("total_memory", "free_memory"):
        monkeypatch.setattr(memory, name, lambda: 4_000)
    with unchecked(), pytest.raises(ArgumentError, match="1 of them at a time(.|\n)*fewer particles"):
        run()


@pytest.mark.slow
def test_a_run_is_taken_on_in_slices_of_another_size(tmp_path: Path) -> None:
    run, where = wide(32), tmp_path / "run"
    first = run(particle_batch=8, checkpoint=where)
    assert run(checkpoint=where).log_z == first.log_z


def test_slices_of_nothing_and_over_devices_are_refused() -> None:
    run = wide(8)
    for batch in (0, 1.5, "all"):
        with unchecked(), pytest.raises(ArgumentError, match="particle_batch"):
            run(particle_batch=batch)
    with unchecked(), pytest.raises(ArgumentError, match="several devices(.|\n)*particle_batch"):
        run(particle_batch=4, devices=jax.devices())
