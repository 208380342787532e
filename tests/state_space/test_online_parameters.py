"""Parameters learned while data come: the numbers of the samplers that have all data, exact evidence, and files."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import smcinfer
from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError, CheckpointError, TargetError
from smcinfer.state_space import state_space
from smcinfer.state_space.parameters.parametric import Parametric, parametric
from smcinfer.static.methods import DataAnnealing
from smcinfer.static.target import StaticTarget
from tests.statistics import assert_mean_one_log

DATA = np.array([0.3, -0.2, 0.9, 1.4, 0.8, 1.1, 0.2], np.float32)
PRIOR = dist.Normal(0.6, 0.5)


def walk(data: Any = None, **options: Any) -> Parametric:
    """A walk of unknown persistence."""
    build = lambda a: state_space(  # noqa: E731
        dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(a * x, 0.5), lambda t, x: dist.Normal(x, 0.7), data, **options
    )
    return parametric(PRIOR, build)


def coin(data: Any, sd: float = 1.0) -> StaticTarget:
    """A mean of normal data."""
    return smcinfer.posterior(dist.Normal(0.0, 2.0), lambda theta, y: dist.Normal(theta, sd).log_prob(y), data=data)


def evidence(data: Any) -> float:
    covariance = np.eye(len(data)) + 4.0
    return scipy.stats.multivariate_normal(np.zeros(len(data)), covariance).logpdf(data)


@pytest.fixture(scope="module")
def filters() -> Parametric:
    return walk()


@pytest.mark.slow
def test_smc2_online_is_smc2_bit_for_bit(filters: Parametric, tmp_path: Path) -> None:
    options: Any = {"num_particles": 16, "num_runs": 2, "resample_below": 0.9}
    whole = smcinfer.smc2(jax.random.key(1), walk(DATA), num_inner=8, **options, progress=False)
    method = smcinfer.NestedFilters(num_inner=8)
    made = smcinfer.online(jax.random.key(1), filters, method=method, **options)
    increments = []
    for t, y in enumerate(DATA):
        made.update(y)
        increments.append(made.log_z_increment)
        if t == 3:
            file = made.save(tmp_path / "parameters.nc")
    assert whole.history["moved"].sum() > 0
    np.testing.assert_array_equal(made.log_z_runs, np.asarray(whole.log_z_runs, np.float64))
    np.testing.assert_array_equal(made.state.particles["theta"], whole.particles["theta"])
    np.testing.assert_array_equal(made.result().log_weights, whole.log_weights)
    assert made.result().status_runs.tolist() == whole.status_runs.tolist()
    assert sum(increments) == pytest.approx(made.log_z, abs=1e-4)
    assert 0 < made.sd["theta"] < 0.6 and "after step 6" in repr(made)
    coming = made.predict(3, num_draws=400)
    assert set(coming.states) == {"theta", "x"} and coming.first == 7
    # Parameters stay what they are, and are those of the posterior.
    np.testing.assert_array_equal(coming.states["theta"][:, 0], coming.states["theta"][:, 2])
    assert coming.states["theta"][:, 0].mean() == pytest.approx(made.mean["theta"], abs=0.1)
    np.testing.assert_array_equal(made.predict(3, num_draws=400).observations["y"], coming.observations["y"])
    resumed = smcinfer.load(file).resume(filters, method=method)
    for y in DATA[4:]:
        resumed.update(y)
    np.testing.assert_array_equal(resumed.log_z_runs, made.log_z_runs)
    np.testing.assert_array_equal(resumed.quantile([0.1, 0.9])["theta"], made.quantile([0.1, 0.9])["theta"])
    with pytest.raises(CheckpointError, match="another model"):
        smcinfer.load(file).resume(filters, method=smcinfer.NestedFilters(num_inner=9))


@pytest.mark.slow
def test_parameters_of_data_follow_the_conjugate_posterior(precision: str) -> None:
    """The first two data are the target's; the room for rows is doubled on the way."""
    data = np.asarray(np.random.default_rng(0).normal(1.0, 1.0, 20), precision)
    made = smcinfer.online(jax.random.key(0), coin(data[:2]), num_particles=128, num_runs=20, kernel="random_walk")
    assert made.t == 1
    for y in data[2:]:
        made.update(y)
    assert_mean_one_log(made.log_z_runs - evidence(data))
    with pytest.raises(AssertionError):
        assert_mean_one_log(made.log_z_runs - evidence(data[:-1]))
    variance = 1 / (1 / 4 + 20)
    assert made.mean["theta"] == pytest.approx(variance * data.sum(), abs=0.02)
    assert made.sd["theta"] == pytest.approx(variance**0.5, abs=0.02)
    assert made.state.particles["theta"].shape == (20, 128)
    # A path along data to come is never at its end, and that is nothing to report.
    assert not made.result().status & Status.SCHEDULE_UNFINISHED
    with pytest.raises(TargetError, match="not drawn by a likelihood"):
        made.predict(2)


@pytest.mark.slow
def test_parameters_of_data_are_those_of_data_annealing() -> None:
    whole = smcinfer.sample(
        jax.random.key(2),
        coin(DATA),
        num_particles=64,
        num_runs=2,
        method="data_annealing",
        kernel="random_walk",
        progress=False,
    )
    made = smcinfer.online(jax.random.key(2), coin(DATA), num_particles=64, num_runs=2, kernel="random_walk")
    np.testing.assert_allclose(made.log_z_runs, whole.log_z_runs, atol=1e-4)


def test_what_cannot_be_learned_online_is_refused(filters: Parametric) -> None:
    key = jax.random.key(0)
    with pytest.raises(TargetError, match="no data(.|\n)*online"):
        smcinfer.smc2(key, filters, num_particles=4, progress=False)
    with pytest.raises(TargetError, match="looks at data to come"):
        smcinfer.online(key, walk(twist=lambda t, x: -(x**2)))
    with pytest.raises(TargetError, match="one by one"):
        smcinfer.online(key, smcinfer.posterior(dist.Normal(0.0, 1.0), lambda x: -(x**2)))
    with pytest.raises(ArgumentError, match="batch_size=1"):
        smcinfer.online(key, coin(DATA), method=DataAnnealing(batch_size=2))
    with pytest.raises(ArgumentError, match="NestedFilters"):
        smcinfer.online(key, filters, method=DataAnnealing())
    with pytest.raises(ArgumentError, match="lag=0"):
        smcinfer.online(key, filters, lag=2)
    with pytest.raises(ArgumentError, match="cloud=None"):
        cloud = smcinfer.Cloud(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
        smcinfer.online(key, filters, cloud=cloud)
    made = smcinfer.online(key, filters, num_particles=4)
    with pytest.raises(ArgumentError, match="nothing was observed"):
        _ = made.mean
    with pytest.raises(ArgumentError, match="wrong shape"):
        made.update([0.1, 0.2])
    assert made.t == -1
