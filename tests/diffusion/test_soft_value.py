"""Soft values of diffusions are learned by the one learner of twists: what it makes of them, and what it refuses."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer import diffusion, twists
from smcinfer.ground.errors import TargetError
from smcinfer.run.runner import run
from smcinfer.twists.objectives.regression import Ahead, LinearExponential, _ahead
from tests.exact_diffusion import STD, end_of, log_power, log_tilt, normal_model
from tests.statistics import assert_mean_one_log

VP = diffusion.VariancePreserving()
CURVATURE, CENTRE, STEPS, RUNS = 1.5, -0.5, 6, 400
MODEL = normal_model(VP)


def reward(x: jax.Array) -> jax.Array:
    return -CURVATURE * (x[0] - CENTRE) ** 2


def plain() -> diffusion.Alignment:
    return diffusion.alignment(MODEL, reward, num_steps=STEPS, look="none")


def learn(target: Any, num_steps: int, **options: Any) -> twists.Learned:
    start = diffusion.soft_value(jax.random.key(0), target, width=32, num_paths=256)
    objective = options.pop("objective", LinearExponential(2048))
    return twists.learn(
        jax.random.key(1), target, objective, twist=start, num_steps=num_steps, progress=False, **options
    )


def log_z_of(target: Any, num_particles: int = 16, num_runs: int = RUNS) -> np.ndarray:
    return np.asarray(run(jax.random.key(1), target, num_particles, num_runs=num_runs, history="none").log_z)


def test_paths_of_the_base_law_know_what_they_earn() -> None:
    """At every place before the end, the one reward of the path; its mean is Z."""
    target = plain()
    value = diffusion.soft_value(jax.random.key(0), target, width=8, num_paths=64)
    ahead: Ahead = _ahead(jax.random.key(0), target, value, 4096)
    assert ahead.seen.shape == (STEPS, 4096, 1) and ahead.t.tolist() == list(range(STEPS))
    np.testing.assert_allclose(ahead.to_come, jnp.broadcast_to(ahead.to_come[-1], ahead.to_come.shape), rtol=1e-5)
    exact = log_tilt(*end_of(target.process), CURVATURE, CENTRE)
    assert_mean_one_log(ahead.to_come[0], exact)
    assert abs(float(value.level) - exact) < 1.0
    np.testing.assert_allclose(value.log_mean(jnp.asarray(3), jnp.ones(1)), value(jnp.ones(1), target.process.times[2]))


@pytest.mark.slow
def test_a_cut_training_goes_on_where_it_was(tmp_path: Path) -> None:
    """One record and one checkpoint for every kind of twist; attached, the value leaves log Z where it is."""
    options: dict[str, Any] = {"validate": False, "check_every": 30}
    whole = learn(plain(), 60, **options)
    assert isinstance(whole, twists.Learned) and len(whole.losses) == 60 and "SoftValue" in str(whole)
    assert whole.losses[-20:].mean() < whole.losses[:20].mean()
    file = tmp_path / "value"
    learn(plain(), 60, checkpoint=file, **options)
    again = learn(plain(), 60, checkpoint=file, **options)
    np.testing.assert_array_equal(again.losses, whole.losses)
    assert again.twist(jnp.ones(1), jnp.asarray(0.5)) == whole.twist(jnp.ones(1), jnp.asarray(0.5))
    np.testing.assert_array_equal(whole.twist.times, plain().process.times)
    exact = log_tilt(*end_of(plain().process), CURVATURE, CENTRE)
    assert_mean_one_log(log_z_of(whole.attach(plain())), exact)


def test_other_objectives_are_refused() -> None:
    with pytest.raises(TargetError, match="linex"):
        learn(plain(), 10, objective="ctl")


@pytest.mark.slow
def test_a_learned_soft_value_lowers_the_variance() -> None:
    found = learn(plain(), 1500, validate=False)
    twisted = diffusion.alignment(
        MODEL, reward, num_steps=STEPS, look=found.twist, proposal=diffusion.GradientOf(found.twist)
    )
    spread = {}
    for name, target in {"plain": plain(), "twisted": twisted, "attached": found.attach(plain())}.items():
        log_z = log_z_of(target)
        assert_mean_one_log(log_z, log_tilt(*end_of(plain().process), CURVATURE, CENTRE))
        spread[name] = log_z.std()
    assert spread["twisted"] < 0.5 * spread["plain"] and spread["attached"] < 0.5 * spread["plain"]
    # What it foresees on the way is what is earned, to a tenth.
    ahead: Ahead = _ahead(jax.random.key(2), plain(), found.twist, 20_000)
    foreseen = jax.vmap(lambda x: found.twist(x, plain().process.times[2]))(ahead.seen[2])
    assert abs(np.mean(np.exp(foreseen)) / np.mean(np.exp(ahead.to_come[2])) - 1.0) < 0.1


@pytest.mark.slow
def test_a_learned_control_of_a_corrector() -> None:
    """A drift along a learned value keeps log Z and steadies it."""
    options: dict[str, Any] = {"num_steps": 100, "data_std": STD}
    model = diffusion.power(MODEL, 2.0, **options)
    found = learn(model, 1000, validate=False).twist
    helped = diffusion.power(MODEL, 2.0, twist=found, control=diffusion.GradientOf(found), **options)
    plain, better = (log_z_of(target, 64, 200) for target in (model, helped))
    # Weights at noise z = 1 have heavy tails: the mean asks for many particles, the spread is that of few.
    assert_mean_one_log(log_z_of(helped, 4000, 8), log_power(2.0, STD**2), bias=0.07)
    assert better.std() < 0.7 * plain.std()
