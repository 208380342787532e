"""Functions on the host: right numbers from any executor, gradients, and a clear end where they fail."""

import multiprocessing
import multiprocessing.pool
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError, TargetError, surfacing
from smcinfer.static.on_host import on_host
from tests.signatures import unchecked
from tests.static import on_host_workers as workers
from tests.statistics import assert_mean_one_log

NORMAL = dist.Normal(0.0, 1.0)
PATH = smcinfer.Tempering([0.2, 1.0], moves=smcinfer.Moves.exactly(2))


def sampled(function: Any, num_particles: int = 16, **options: Any) -> smcinfer.Result:
    target = smcinfer.posterior(NORMAL, function)
    return smcinfer.sample(
        jax.random.key(0), target, num_particles=num_particles, method=PATH, progress=False, **options
    )


def spawned(num_workers: int = 2) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("forkserver"))


def test_log_z_is_that_of_the_same_function_in_jax(precision: str) -> None:
    def in_jax(theta: Any) -> Any:
        return -0.5 * jnp.sum((jnp.asarray(workers.DATA.tolist()) - theta) ** 2) - 2.0 * np.log(2 * np.pi)

    hosted = on_host(workers.log_likelihood)
    found, same = (sampled(one, kernel="random_walk") for one in (hosted, in_jax))
    tolerance = 1e-4 if precision == "float32" else 1e-10
    np.testing.assert_allclose(found.log_z_runs, same.log_z_runs, rtol=tolerance)
    # Five runs with the leader, 16 particles: once where they start, and two moves at each of two exponents.
    assert hosted.tally.evaluations == 5 * 16 * 5
    assert hosted.tally.undefined == 0
    assert "400 evaluations" in repr(hosted)


@pytest.mark.slow
def test_without_a_gradient_a_random_walk_is_taken_and_with_one_hmc() -> None:
    hosted = on_host(workers.log_likelihood)
    result = sampled(hosted, 64, num_runs=20)
    assert result.settings["kernel"] == "random_walk"
    assert_mean_one_log(result.log_z_runs, workers.exact_log_z())
    with pytest.raises(TargetError, match="has no gradient(.|\n)*gradient="):
        sampled(hosted, kernel="hmc")
    differentiable = on_host(workers.log_likelihood, gradient=lambda theta: np.sum(workers.DATA - theta))
    result = sampled(differentiable, 64, num_runs=20)
    assert result.settings["kernel"] == "hmc"
    assert_mean_one_log(result.log_z_runs, workers.exact_log_z())
    with pytest.raises(AssertionError):
        assert_mean_one_log(result.log_z_runs, workers.exact_log_z() + 0.5)


def test_gradients_of_trees_arrays_and_pairs_are_those_of_jax(x64: None) -> None:
    def value(module: Any, theta: Any, datum: Any) -> Any:
        return module.stack([theta["a"] ** 2 * datum, module.sum(theta["b"] * module.arange(2.0)) * theta["a"]])

    def gradient(theta: Any, datum: Any) -> Any:
        a, b = theta["a"], theta["b"]
        return {"a": [2 * a * datum, b[1]], "b": [[0.0, 0.0], [0.0, a]]}

    theta, datum = {"a": jnp.asarray([1.5, -0.3]), "b": jnp.asarray([[0.2, 0.7], [1.0, 2.0]])}, jnp.asarray([3.0, 4.0])
    in_jax = jax.vmap(jax.jacrev(lambda *given: value(jnp, *given)))(theta, datum)
    several = [
        on_host(lambda *given: value(np, *given), gradient=gradient, shape=(2,)),
        on_host(lambda *given: (value(np, *given), gradient(*given)), gradient=True, shape=(2,)),
    ]
    for function in several:
        for way in (jax.jacrev, jax.jacfwd):
            found = jax.jit(jax.vmap(way(function)))(theta, datum)
            jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-12), found, in_jax)
    with pytest.raises(TargetError, match="differentiated by more than its gradient is of"):
        jax.vmap(jax.jacrev(several[0], argnums=1))(theta, datum)


def test_all_points_at_once_and_one_by_one_agree() -> None:
    theta = {"a": jnp.linspace(0.0, 1.0, 6).reshape(2, 3), "b": jnp.ones((2, 3, 2), jnp.int32)}
    one = on_host(lambda theta: theta["a"] + theta["b"].sum())
    many = on_host(lambda theta: theta["a"] + theta["b"].sum(axis=1), vectorized=True)
    found, same = (jax.jit(jax.vmap(jax.vmap(function)))(theta) for function in (one, many))
    np.testing.assert_array_equal(found, theta["a"] + 2)
    np.testing.assert_array_equal(found, same)


def test_a_point_that_the_last_call_had_is_not_evaluated_again() -> None:
    hosted = on_host(workers.log_likelihood)
    first, second = jnp.asarray([0.1, 0.2, 0.2, 0.3]), jnp.asarray([0.3, 0.4, 0.1, 0.1])
    jax.block_until_ready(jax.vmap(hosted)(first))
    found = jax.vmap(hosted)(second)
    np.testing.assert_allclose(found, [workers.log_likelihood(one) for one in np.asarray(second, float)], rtol=1e-5)
    assert (hosted.tally.evaluations, hosted.tally.repeats, hosted.tally.calls) == (4, 4, 2)


@pytest.mark.slow
def test_filters_and_potentials_take_it() -> None:
    data = np.array([0.3, -0.2, 0.9])
    hosted = on_host(lambda x: 0.5 * x)

    def filtered(mean: Callable[[Any], Any]) -> smcinfer.Result:
        model = smcinfer.state_space(
            NORMAL, lambda t, x: dist.Normal(0.9 * x, 1.0), lambda t, x: dist.Normal(mean(x), 1.0), data
        )
        return smcinfer.sample(jax.random.key(0), model, num_particles=32, progress=False)

    same = filtered(lambda x: 0.5 * x)
    np.testing.assert_allclose(filtered(hosted).log_z_runs, same.log_z_runs, rtol=1e-5)
    process = smcinfer.process(NORMAL, lambda t, x: dist.Normal(0.9 * x, 1.0))
    potential = on_host(lambda t, x: -0.5 * (x - data[t]) ** 2)
    model = smcinfer.compose(process, potential, num_steps=2)
    assert np.isfinite(smcinfer.sample(jax.random.key(0), model, num_particles=32, progress=False).log_z)
    assert hosted.tally.evaluations == 4 * 32 * 3 and potential.tally.evaluations == 4 * 32 * 3


class MapAlone:
    """The least that an executor is."""

    def map(self, function: Any, points: Any) -> list[Any]:
        return [function(point) for point in points]


def dask_client() -> Any:
    """Two worker processes on loopback."""
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    return distributed.Client(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)


EXECUTORS: dict[str, Callable[[], Any]] = {
    "processes": spawned,
    "threads": lambda: ThreadPoolExecutor(2),
    "apply_async": lambda: multiprocessing.pool.ThreadPool(2),
    "map": MapAlone,
    "made": lambda: lambda: ThreadPoolExecutor(2),
    "dask": dask_client,
}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", EXECUTORS)
def test_every_executor_gives_the_same_numbers(name: str) -> None:
    theta = jnp.linspace(-2.0, 2.0, 40)
    executor = EXECUTORS[name]()
    hosted = on_host(workers.log_likelihood, executor=executor, timeout=None if name == "map" else 30.0)
    found = jax.jit(jax.vmap(hosted))(theta)
    np.testing.assert_allclose(found, [workers.log_likelihood(one) for one in np.asarray(theta, float)], rtol=1e-5)
    if hasattr(executor, "shutdown"):
        executor.shutdown()
    elif hasattr(executor, "terminate"):
        executor.terminate()


def test_a_worker_that_dies_is_replaced_once(tmp_path: Path) -> None:
    theta = jnp.linspace(-2.0, 2.0, 8)
    once = workers.DiesOnce(tmp_path / "once")
    found = jax.vmap(on_host(once, executor=lambda: spawned(1)))(theta)
    np.testing.assert_allclose(found, [workers.log_likelihood(one) for one in np.asarray(theta, float)], rtol=1e-5)
    always = on_host(workers.DiesOnce(tmp_path / "always", always=True), executor=spawned(1))
    with (
        pytest.raises(TargetError, match="the executor failed twice(.|\n)*Broken(.|\n)*executor=a function"),
        surfacing(),
    ):
        jax.vmap(always)(theta)


def returns(value: Any) -> Callable[[Any], Any]:
    return lambda theta: value


def raises(theta: Any) -> float:
    raise RuntimeError("no licence")


FAILURES: dict[str, tuple[Callable[[], Any], str]] = {
    "wrong shape": (lambda: on_host(returns(np.zeros(3))), r"returned the wrong shape(.|\n)*\(\)(.|\n)*\(3,\)"),
    "no number": (lambda: on_host(returns("low")), "returned no numbers"),
    "raises": (
        lambda: on_host(raises),
        "on the host raised RuntimeError: no licence(.|\n)*raise RuntimeError(.|\n)*called at",
    ),
    "raises in a worker": (
        lambda: on_host(raises, executor=ThreadPoolExecutor(1)),
        "raised RuntimeError: no licence(.|\n)*called at",
    ),
    "hangs": (lambda: on_host(workers.hangs, timeout=0.05), r"hangs(.|\n)*timeout=0.05 s"),
    "hangs in a worker": (lambda: on_host(workers.hangs, timeout=0.2, executor=spawned(1)), "hangs"),
    "cannot be sent": (lambda: on_host(lambda theta: 0.0, executor=spawned(1)), "top level of a module"),
    "gradient": (lambda: on_host(returns(0.0), gradient=returns(np.zeros(2))), "the gradient of(.|\n)*wrong shape"),
    "no executor": (lambda: on_host(raises, executor=lambda: 3), "executor is none"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_goes_wrong_ends_the_run_in_words(name: str) -> None:
    made, words = FAILURES[name]
    with pytest.raises((TargetError, ArgumentError), match=words), surfacing():
        function = made()
        jax.block_until_ready(jax.vmap(jax.grad(function) if function.differentiable else function)(jnp.arange(3.0)))


@pytest.mark.slow
def test_nan_has_weight_zero_and_a_status() -> None:
    hosted = on_host(lambda theta: np.nan if theta > 1 else workers.log_likelihood(theta))
    result = sampled(hosted, 64)
    assert result.status & smcinfer.Status.NON_FINITE_POTENTIAL and hosted.tally.undefined > 0
    assert (result.particles["theta"] <= 1).all() and np.isfinite(result.log_z)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "function": ({"function": 3}, "not callable"),
    "gradient": ({"gradient": "adjoint"}, "gradient is of no known kind"),
    "executor": ({"executor": 4}, "executor is none"),
    "timeout": ({"timeout": 0}, "timeout is out of range"),
    "map": ({"executor": MapAlone(), "timeout": 1.0}, "map alone cannot say"),
    "vectorized": ({"vectorized": "yes"}, "neither True nor False"),
    "shape": ({"shape": (0,)}, "an entry of shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused(name: str) -> None:
    options, words = WRONG[name]
    with unchecked(), pytest.raises(ArgumentError, match=words):
        on_host(**({"function": workers.slow} | options))


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_another_executor(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    found = sampled(on_host(workers.log_likelihood), checkpoint=file)
    with ThreadPoolExecutor(2) as pool:
        hosted = on_host(workers.log_likelihood, executor=pool)
        again = sampled(hosted, checkpoint=file)
    np.testing.assert_array_equal(again.log_z_runs, found.log_z_runs)
    assert hosted.tally.evaluations == 0
    with pytest.raises(smcinfer.CheckpointError, match="another run"):
        sampled(on_host(workers.slow), checkpoint=file)
