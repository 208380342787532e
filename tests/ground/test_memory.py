"""What cannot fit is refused before any work, and what XLA finds out by itself is said in words."""

import importlib

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.ground import memory
from smcinfer.ground.errors import ArgumentError, surfacing
from smcinfer.ground.memory import in_words, refuse_what_cannot_fit, size_of, total_memory


def test_sizes_and_their_words() -> None:
    tree = {"x": jax.ShapeDtypeStruct((10, 3), jnp.float32), "key": jax.random.key(0), "word": "no array"}
    assert size_of(tree) == 128
    assert [in_words(size) for size in (0, 999, 2_000, 327_680_000_000)] == ["0 bytes", "999 bytes", "2 kB", "328 GB"]


def test_this_machine_has_some_memory() -> None:
    there = total_memory()
    assert there is None or there > 1e8
    refuse_what_cannot_fit("nothing", 0)


def test_a_population_that_cannot_fit_is_refused_before_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    target = smcinfer.posterior(dist.Normal(0.0, 1.0), lambda theta: -(theta**2))
    monkeypatch.setattr(memory, "total_memory", lambda: 1_000_000)
    monkeypatch.setattr(importlib.import_module("smcinfer.run.runner"), "_to_host", drawn.append)
    with pytest.raises(ArgumentError, match="100000 particles in 3 runs does not fit(.|\n)*at most 1 MB(.|\n)*fewer"):
        smcinfer.sample(jax.random.key(0), target, num_particles=100_000, num_runs=2, progress=False)
    assert not drawn


def test_what_a_step_holds_is_known_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    large = jnp.linspace(0.0, 1.0, 1000)
    walk = smcinfer.process(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(x, 1.0))
    model = smcinfer.compose(walk, lambda t, x: jnp.sort(x * large)[500], num_steps=1)
    smcinfer.sample(jax.random.key(0), model, num_particles=32, num_runs=1, progress=False)
    monkeypatch.setattr(memory, "total_memory", lambda: 100_000)
    with pytest.raises(
        ArgumentError, match="32 particles in 1 runs does not fit(.|\n)*num_particles=16, say, which would fit"
    ):
        smcinfer.sample(jax.random.key(0), model, num_particles=32, num_runs=1, progress=False)


def test_what_only_the_run_finds_out_is_said_in_words() -> None:
    with pytest.raises(ArgumentError, match="does not fit into memory(.|\n)*DataAnnealing"), surfacing():
        jnp.zeros((10**6, 10**9, 10)).block_until_ready()
