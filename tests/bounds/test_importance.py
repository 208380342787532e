"""Independent draws that finish a run: exact on a conjugate posterior, unbiased, refused where they say nothing."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer import bounds
from smcinfer.bounds.importance import _weigh, tell
from smcinfer.core.status import Status
from smcinfer.results import Result
from smcinfer.static import posterior
from smcinfer.static.draws import reference_from
from tests.statistics import assert_mean_one_log

Y, NOISE = jnp.asarray([1.3, -0.4]), 0.7
LOG_Z = float(dist.Normal(0.0, (1 + NOISE**2) ** 0.5).log_prob(Y).sum())


def target() -> Any:
    prior = dist.Normal(0.0, 1.0).expand([2]).to_event(1)
    return posterior(prior, lambda x: dist.Normal(x, NOISE).log_prob(Y).sum())


def ran(log_z: float = LOG_Z, spread: float = 0.1, count: int = 200) -> Result:
    """Four runs that found the posterior, and this log Z give or take."""
    draws = (
        np.random.default_rng(0).normal(Y / (1 + NOISE**2), (1 + NOISE**-2) ** -0.5, (4, count, 2)).astype(np.float32)
    )
    zero = np.zeros(4, np.int32)
    made: dict[str, Any] = {"particles": {"theta": draws}, "log_weights": np.full((4, count), -np.log(count))}
    made |= {"log_z_runs": log_z + spread * np.asarray([-1.0, 1.0, -0.5, 0.5]), "log_z_variance": np.full(4, spread**2)}
    made |= {"status_runs": zero, "num_steps": zero, "history": {}, "settings": {"led": True}}
    return Result(**made, seconds=0.0, compile_seconds=0.0)


def test_draws_from_a_mixture_finish_a_run(tmp_path) -> None:  # noqa: ANN001
    result = ran()
    done = bounds.finished(jax.random.key(1), target(), result, tolerance=0.01)
    assert done.finish is not None and done.finish.sound and done.finish.num_draws == 4096
    assert abs(done.log_z - LOG_Z) < 4 * done.log_z_se < 0.04 < result.log_z_se
    low, high = done.log_z_interval()
    assert low < LOG_Z < high and "independent draws" in str(done)
    np.testing.assert_array_equal(done.log_z_runs, result.log_z_runs)
    done.save(tmp_path / "done")
    again: Any = smcinfer.load(tmp_path / "done")
    assert again.finish == done.finish


def test_the_weights_of_draws_are_unbiased_whatever_the_fit() -> None:
    """Fitted to draws that are half a unit off; weights that forget what the draws came from are caught."""
    off = ran().particles["theta"] + 0.5
    drawn = target().as_arrays().with_reference(reference_from({"theta": off}, share=0.1))
    assert_mean_one_log(_weigh(jax.random.key(2), drawn), LOG_Z)
    mistaken = dataclasses.replace(drawn, log_potential=target().as_arrays().log_potential)
    with pytest.raises(AssertionError):
        assert_mean_one_log(_weigh(jax.random.key(2), mistaken), LOG_Z)


def test_draws_that_contradict_a_run_or_say_nothing_are_not_joined() -> None:
    missed = bounds.finished(jax.random.key(1), target(), ran(LOG_Z - 2.0, 0.02), tolerance=0.05)
    assert missed.status & Status.PATHS_DISAGREE and abs(missed.log_z - LOG_Z + 2.0) < 0.02
    heavy = tell(np.random.default_rng(0).standard_cauchy(4096) * 2.0)
    assert not heavy.sound and heavy.joined(ran().evidence) == ran().evidence
    nowhere = tell(np.full(10, -np.inf))
    assert nowhere.log_z == -np.inf and not nowhere.sound


@pytest.mark.slow
def test_a_run_goes_on_until_an_error_is_met() -> None:
    """Few particles and their finish are enough; a target that cannot be finished takes more particles."""
    common: dict[str, Any] = {"kernel": "random_walk", "progress": False}
    done = smcinfer.sample(jax.random.key(0), target(), tolerance=0.02, **common)
    assert done.log_z_se <= 0.02 and abs(done.log_z - LOG_Z) < 4 * done.log_z_se and done.num_particles == 128
    assert done.settings["tolerance"] == 0.02 and done.finish is not None
    assert done.settings["num_evals"] == done.num_evals + done.finish.num_draws
    vectors = dataclasses.replace(target(), unconstrain=None)
    more = smcinfer.sample(jax.random.key(0), vectors, tolerance=0.03, num_particles=512, **common)
    assert more.finish is None and more.num_particles == 512 and more.settings["num_evals"] > more.num_evals
