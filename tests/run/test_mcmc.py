"""Chains: right draws, the same draws whatever the pace, resumed bit for bit; a record that is kept whole; clear errors."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer import ArgumentError, CheckpointError, TargetError
from smcinfer.core.status import Status
from smcinfer.ground.errors import Interrupted
from smcinfer.kernels import HMC, RandomWalk
from smcinfer.kernels.gibbsian_polar_slice import GibbsianPolarSlice
from smcinfer.models import conjugate
from smcinfer.results.chains import Chains
from smcinfer.run import watch
from smcinfer.run.chains.run import mcmc
from tests.signatures import unchecked
from tests.statistics import assert_mean

SIZE: dict[str, Any] = {"num_chains": 32, "num_draws": 40, "num_warmup": 100, "progress": False}
MODEL = conjugate.EXAMPLES["linear_regression"]()


def sample(kernel: Any = "hmc", target: Any = MODEL.target, seed: int = 0, **changes: Any) -> Chains:
    return mcmc(jax.random.key(seed), target, kernel, **(SIZE | changes))


@pytest.fixture(scope="module")
def chains() -> Chains:
    """One run that many tests look at; its kernel runs at any pace."""
    return sample(GibbsianPolarSlice(), pace="flat")


def moments(result: Chains) -> np.ndarray:
    """Means and squares of each chain, (chains, 2 dim)."""
    centred = result.draws["theta"] - np.asarray(MODEL.posterior.mean)
    return np.concatenate([centred.mean(axis=1), (centred**2).mean(axis=1)], axis=1)


def exact_moments() -> np.ndarray:
    return np.concatenate([np.zeros(3), np.diagonal(np.asarray(MODEL.posterior.covariance_matrix))])


@pytest.mark.slow
def test_moments_are_exact(chains: Chains) -> None:
    """Chains are independent once the kernel is frozen, up to what they all learned: their means test the mean."""
    for result in (chains, sample("hmc")):
        assert_mean(moments(result), exact_moments(), num_comparisons=2)
        assert result.draws["theta"].shape == (32, 40, 3)
        assert result.status == Status.OK
        assert 0 < result.acceptance.mean() <= 1
        assert result.num_evals.min() >= 1


def test_a_kernel_that_targets_something_else_is_seen() -> None:
    class Hotter(RandomWalk):
        """Accepts as on the square root of the density."""

        def step(self, key: Any, state: Any, density: Any, params: Any) -> Any:
            halved = jax.tree.map(lambda leaf: 0.5 * leaf, (state.log_base, state.log_potential))
            state = type(state)(state.position, *halved)
            half = type(density)(
                lambda x: 0.5 * density.log_base(x), lambda x: 0.5 * density.log_potential(x), density.exponent
            )
            state, info = super().step(key, state, half, params)
            return type(state)(state.position, 2 * state.log_base, 2 * state.log_potential), info

    assert_mean(moments(sample(RandomWalk(), thin=4)), exact_moments())
    with pytest.raises(AssertionError):
        assert_mean(moments(sample(Hotter(), thin=4)), exact_moments())


@pytest.mark.slow
def test_draws_do_not_depend_on_the_pace(chains: Chains) -> None:
    together = sample(GibbsianPolarSlice(), pace="lockstep")
    np.testing.assert_array_equal(together.draws["theta"], chains.draws["theta"])
    np.testing.assert_array_equal(together.num_evals, chains.num_evals)
    assert together.settings["pace"] == "lockstep" and chains.settings["pace"] == "flat"
    assert together.settings["ticks"] > chains.settings["ticks"] * 1.1
    assert chains.settings["lockstep_over_mean_evals"] > 1.1


@contextlib.contextmanager
def ctrl_c(enabled: bool, description: str) -> Iterator[Any]:
    """A progress bar that stands for a person who presses Ctrl-C in the middle of the draws."""
    del enabled, description
    yield lambda fraction, message: fraction > 0.8 and signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_an_interrupted_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chains: Chains) -> None:
    path = tmp_path / "run.ckpt"
    options: dict[str, Any] = {"checkpoint": path, "checkpoint_seconds": 0.0, "pace": "flat"}
    with monkeypatch.context() as patch:
        patch.setattr(watch, "bar", ctrl_c)
        with pytest.raises(Interrupted, match="draws .*\n.*goes on from there"):
            sample(GibbsianPolarSlice(), **options)
    before = path.read_bytes()
    resumed = sample(GibbsianPolarSlice(), **options)
    assert path.read_bytes() != before
    np.testing.assert_array_equal(resumed.draws["theta"], chains.draws["theta"])
    np.testing.assert_array_equal(resumed.acceptance, chains.acceptance)
    assert resumed.settings["warmup_evals"] == chains.settings["warmup_evals"]
    again = sample(GibbsianPolarSlice(), **options)
    np.testing.assert_array_equal(again.draws["theta"], chains.draws["theta"])
    for other in ({"seed": 1}, {"thin": 2}, {"num_draws": 20}):
        with pytest.raises(CheckpointError, match="another run"):
            sample(GibbsianPolarSlice(), **(options | other))
    with pytest.raises(CheckpointError, match="another run"):
        sample(GibbsianPolarSlice(max_shrinks=9), **options)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError):
        sample(GibbsianPolarSlice(), **options)


@pytest.mark.slow
def test_what_it_prints(chains: Chains) -> None:
    text = str(chains)
    assert "GibbsianPolarSlice, 40 draws x 32 chains" in text
    for label in ("R-hat", "ESS", "evaluations", "caps", "status        OK", "warm-up"):
        assert label in text
    assert chains.r_hat.value < 1.1 and chains.r_hat.name.startswith("theta[")
    assert 300 < chains.ess_bulk.value < 32 * 40 * 1.5
    assert "<table>" in chains._repr_html_()
    table = chains.summary()
    assert list(table.index) == ["theta[0]", "theta[1]", "theta[2]"]
    tree = chains.to_arviz()
    assert dict(tree["posterior"]["theta"].sizes) == {"chain": 32, "draw": 40, "theta_dim_0": 3}
    assert {"acceptance_rate", "num_evals", "cap_reached"} <= set(tree["sample_stats"].data_vars)


def test_chains_that_disagree_are_said_to() -> None:
    """Two modes far apart: no chain of a random walk crosses, and the report says so."""

    def wells(x: jax.Array) -> jax.Array:
        return -0.5 * jnp.sum((jnp.abs(x) - 30.0) ** 2)

    class Capped(RandomWalk):
        """Says of every step that a loop stopped at its bound."""

        def step(self, key: Any, state: Any, density: Any, params: Any) -> Any:
            state, info = super().step(key, state, density, params)
            return state, eqx.tree_at(lambda i: i.cap_reached, info, jnp.ones((), jnp.int32))

    starts = np.where(np.arange(8) % 2, 30.0, -30.0)[:, None]
    result = sample(Capped(), wells, num_chains=8, num_warmup=0, initial=starts, thin=3)
    assert result.r_hat.value > 1.5 and "DISAGREE" in str(result)
    assert result.status == Status.LOOP_CAP_REACHED and "960 of 960 transitions" in str(result)


@pytest.mark.slow
def test_ways_to_start(x64: None) -> None:
    def log_density(x: jax.Array) -> jax.Array:
        return jnp.where(jnp.all(x > -1.0), -0.5 * jnp.sum(x**2), -jnp.inf)

    options: dict[str, Any] = {"num_draws": 4, "num_warmup": 0, "num_chains": 4}
    result = sample(RandomWalk(), log_density, initial=[0.5, 0.5], **options)
    assert result.draws["theta"].shape == (4, 4, 2) and np.all(result.draws["theta"] > -1)
    assert result.draws["theta"].dtype == np.float64
    named = {"theta": np.ones((4, 3))}
    assert sample(RandomWalk(), MODEL.target, initial=named, **options).num_draws == 4
    # Of the base's draws half are outside: chains start at others.
    root = smcinfer.posterior(dist.Normal(0.0, 1.0), lambda x: jnp.sqrt(x))
    result = sample(RandomWalk(), root, **options)
    assert result.status == Status.NON_FINITE_POTENTIAL and np.all(result.draws["theta"] > 0)


def square(x: jax.Array) -> jax.Array:
    return -jnp.sum(x**2)


def crooked(x: jax.Array) -> jax.Array:
    """Finite everywhere; its gradient at zero is not."""
    return -jnp.sum(jnp.sqrt(x * x))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"num_chains": 0}, ArgumentError, "num_chains"),
        ({"num_chains": "4"}, ArgumentError, "num_chains is not a whole number"),
        ({"num_draws": 1e3}, ArgumentError, "num_draws=1000"),
        ({"thin": True}, ArgumentError, "thin is not a whole number"),
        ({"checkpoint_seconds": -1}, ArgumentError, "checkpoint_seconds"),
        ({"num_draws": 0}, ArgumentError, "num_draws"),
        ({"num_warmup": -1}, ArgumentError, "num_warmup"),
        ({"thin": 0}, ArgumentError, "thin"),
        ({"pace": "fast"}, ArgumentError, "pace"),
        ({"kernel": "hcm"}, ArgumentError, "unknown kernel"),
        ({"target": "hmc"}, ArgumentError, "target comes before"),
        ({"target": 3.0}, TargetError, "target is of no kind"),
        ({"target": square}, ArgumentError, "where to start"),
        ({"target": square, "initial": 0}, ArgumentError, "dimension"),
        ({"target": square, "initial": np.zeros((3, 2))}, ArgumentError, "wrong shape"),
        ({"initial": np.zeros(5)}, ArgumentError, "wrong shape"),
        ({"initial": "zero"}, ArgumentError, "no numbers"),
        ({"initial": {"wrong": np.zeros((32, 3))}}, ArgumentError, "initial names 'wrong'"),
        ({"initial": {"theta": np.zeros(3)}}, ArgumentError, r"initial\['theta'\] has the wrong shape"),
        ({"initial": {"theta": ["a"] * 32}}, ArgumentError, r"initial\['theta'\] holds no numbers"),
        ({"initial": {}}, ArgumentError, "initial is empty"),
        ({"target": lambda x: x, "initial": 2}, TargetError, "scalar"),
        ({"target": lambda x: jnp.log(jnp.sum(x)), "initial": [-1.0, 0.0]}, TargetError, "no density"),
        ({"target": crooked, "initial": [0.0, 1.0], "kernel": HMC()}, TargetError, "gradient is not finite"),
        ({"target": square, "initial": 1, "kernel": GibbsianPolarSlice()}, ArgumentError, "2 dimensions"),
        ({"checkpoint": "/nowhere/at/all"}, ArgumentError, "cannot write"),
    ],
)
def test_errors_come_before_work(changes: dict[str, Any], error: type[Exception], said: str) -> None:
    with unchecked(), pytest.raises(error, match=said):
        sample(**changes)


def test_a_base_whose_covariance_is_no_covariance() -> None:
    factor = jnp.array([[1.0, 0.0], [2.0, -1.0]])
    law = dist.MultivariateNormal(jnp.zeros(2), scale_tril=factor, validate_args=False)
    target = smcinfer.posterior(law, square)
    with pytest.raises(TargetError, match="not positive definite"):
        sample(target=target)
