"""A program is compiled once for one structure: other data, keys and numbers of the same shape run the same program."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer import twists
from smcinfer.diffusion import Cosine, alignment
from smcinfer.ground.programs import compiled
from smcinfer.language import generation
from smcinfer.language.decoding.cascade import cascade
from tests.exact_diffusion import normal_model
from tests.exact_language import LENGTH, small_lm


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Names of the programs that are compiled while the block lasts."""
    names: list[str] = []

    def listen(event: str, duration: float, **known: Any) -> None:
        del duration
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(known["fun_name"]))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def numbers(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=6).astype(np.float32)


def by_functions(seed: int) -> Any:
    x, y = jnp.asarray(numbers(seed)), numbers(seed + 10)
    prior = {"slope": dist.Normal(0.0, 1.0 + seed), "noise": dist.HalfNormal(1 + seed)}
    return smcinfer.posterior(prior, lambda theta: dist.Normal(theta["slope"] * x, theta["noise"]).log_prob(y).sum())


def by_numpyro(seed: int) -> Any:
    def model(y: Any) -> None:
        mean = numpyro.sample("mean", dist.Normal(0.0, 2.0))
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    return smcinfer.from_numpyro(model, numbers(seed))


def by_filter(seed: int) -> Any:
    drift = jnp.asarray(numbers(seed)[0])
    law = lambda x: dist.Normal(x, 1.0)  # noqa: E731
    return smcinfer.state_space(law(0.0), lambda t, x: law(drift + x), lambda t, x: law(x), jnp.asarray(numbers(seed)))


def by_language(seed: int) -> Any:
    reward = numbers(seed)
    return generation(
        small_lm(), (1,), lambda t, state: jnp.asarray(reward)[state.last_token], max_tokens=LENGTH, eos_id=0
    )


def by_diffusion(seed: int) -> Any:
    wanted = numbers(seed)[:1]
    return alignment(normal_model(Cosine()), lambda x: -jnp.sum((x - wanted) ** 2), num_steps=3)


TARGETS: dict[str, Callable[[int], Any]] = {
    "functions": by_functions,
    "numpyro": by_numpyro,
    "filter": by_filter,
    "language": by_language,
    "diffusion": by_diffusion,
}


def sampled(make: Callable[[int], Any], seed: int) -> float:
    return smcinfer.sample(jax.random.key(seed), make(seed), num_particles=16, num_runs=2, progress=False).log_z


@pytest.mark.parametrize(
    "kind", [name if name == "filter" else pytest.param(name, marks=pytest.mark.slow) for name in TARGETS]
)
def test_new_data_compile_nothing_and_are_not_mixed_up(kind: str) -> None:
    sampled(TARGETS[kind], 1)
    with compilations() as names:
        found = sampled(TARGETS[kind], 2)
    assert names == []
    jax.clear_caches()
    assert found == sampled(TARGETS[kind], 2)


def test_chains_on_new_data_compile_nothing() -> None:
    run = lambda seed: smcinfer.mcmc(  # noqa: E731
        jax.random.key(seed), by_functions(seed), "random_walk", num_chains=4, num_draws=8, num_warmup=8, progress=False
    )
    run(1)
    with compilations() as names:
        run(2)
    assert names == []


def smoothed(seed: int) -> Any:
    return smcinfer.smooth(jax.random.key(seed), by_filter(seed), num_particles=8, num_runs=2, progress=False)


def particle_chains(seed: int) -> Any:
    data, law = jnp.asarray(numbers(seed)), lambda x: dist.Normal(x, 1.0)
    build = lambda theta: smcinfer.state_space(  # noqa: E731
        law(0.0), lambda t, x: law(theta["drift"] + x), lambda t, x: law(x), data
    )
    target = smcinfer.parametric({"drift": dist.Normal(0.0, 1.0 + seed)}, build)
    sizes = {"num_particles": 4, "num_chains": 2, "num_draws": 4, "num_warmup": 4}
    return smcinfer.pmmh(jax.random.key(seed), target, **sizes, progress=False)


def grown(seed: int) -> Any:
    reward = numbers(seed)
    wish = lambda tokens, length: jnp.asarray(reward)[tokens[0]]  # noqa: E731
    return cascade(jax.random.key(seed), small_lm(), (1,), wish, num_texts=4, max_tokens=LENGTH, eos_id=0)


def checked(seed: int) -> Any:
    return smcinfer.checks.check(by_functions(seed), jax.random.key(seed))


def learned(seed: int) -> Any:
    sizes = {"num_particles": 8, "num_steps": 4, "check_every": 2, "validation_particles": 4, "validation_runs": 2}
    return twists.learn(jax.random.key(seed), by_filter(seed), **sizes, progress=False)


@pytest.mark.parametrize(
    "door",
    [smoothed, checked, *(pytest.param(door, marks=pytest.mark.slow) for door in (particle_chains, grown, learned))],
)
def test_other_doors_compile_nothing_for_new_data(door: Callable[[int], Any]) -> None:
    door(1)
    with compilations() as names:
        door(2)
    assert names == []


def test_one_and_true_are_not_the_same_program() -> None:
    doubled = compiled(lambda x, by: x * 2 if by is True else x * by)
    assert [float(doubled(jnp.float32(3.0), by)) for by in (1, True)] == [3.0, 6.0]
    assert float(doubled(jnp.float32(3.0), by=5)) == 15.0


def added(y: Any, *, twice: bool = False) -> Callable[[Any], Any]:
    """A program that holds an array, and a function that calls it."""

    def plus(x: Any) -> Any:
        return x + y * (2.0 if twice else 1.0)

    program = compiled(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: jax.jit(plus)(x), x))
    return lambda x: np.asarray(program(x))


def test_what_is_held_deep_within_is_part_of_the_program() -> None:
    x = jnp.zeros(3)
    for y in (np.ones(3, np.float32), np.full(3, 2.0, np.float32), np.arange(3, dtype=np.float32)):
        np.testing.assert_array_equal(added(y)(x), 3 * y)
    np.testing.assert_array_equal(added(np.ones(3, np.float32), twice=True)(x), 6.0)


def test_programs_that_call_the_host_are_told_apart() -> None:
    shape = jax.ShapeDtypeStruct((), np.float32)
    calling = lambda function: compiled(lambda x: jax.pure_callback(function, shape, x))  # noqa: E731
    ups = [calling(lambda x, up=up: np.float32(x + up)) for up in (1.0, 2.0)]
    assert [float(program(jnp.float32(0.0))) for program in ups] == [1.0, 2.0]


def test_a_function_of_a_trace_under_way_is_traced_anew() -> None:
    inner = compiled(lambda function, x: function(x))

    @jax.jit
    def outer(a: Any, x: Any) -> Any:
        return inner(lambda x: a * x, x)

    assert float(outer(2.0, 3.0)) == 6.0
    assert float(jax.grad(outer)(2.0, 3.0)) == 3.0
    np.testing.assert_array_equal(jax.vmap(outer, (0, None))(jnp.arange(3.0), 2.0), [0.0, 2.0, 4.0])


def test_the_order_in_which_arguments_are_listed_is_no_part_of_a_program() -> None:
    a, b, unused = jnp.float32(3.0), jnp.float32(2.0), jnp.zeros(4)
    assert float(compiled(lambda a, b: a - b / 7.0)(a, b)) == float(a - b / 7.0)
    with compilations() as names:
        found = compiled(lambda unused, b, a: a - b / 7.0)(unused, b, a)
    assert names == []
    assert float(found) == float(a - b / 7.0)
