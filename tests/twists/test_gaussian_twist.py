"""Gaussian filters as look-aheads and proposals: exact where they are, and unbiased where they are a guess."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.special import logsumexp

import smcinfer
from smcinfer import twists
from smcinfer.ground.errors import ArgumentError
from smcinfer.models import linear_gaussian
from smcinfer.run.runner import run
from smcinfer.state_space import StateSpace, state_space
from smcinfer.state_space.gaussian import gaussian_guide
from tests.signatures import unchecked
from tests.statistics import assert_mean_one_log

DATA = np.array([0.4, -0.6, 0.9, np.nan, 1.6, 0.8])


def transition(t: Any, x: Any) -> Any:
    return dist.Normal(0.5 * x + jnp.sin(x), 0.5)


def observation(t: Any, x: Any) -> Any:
    return dist.Normal(x + 0.1 * x**2, 0.4)


def bent(**options: Any) -> StateSpace:
    return state_space(dist.Normal(0.0, 1.0), transition, observation, DATA, missing="skip", **options)


def exact() -> float:
    """log Z by sums over a grid."""
    x, step = np.linspace(-6.0, 6.0, 1201, retstep=True)
    normal = lambda z, sd: -0.5 * (z / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)  # noqa: E731
    seen = lambda y: 0.0 if np.isnan(y) else normal(y - x - 0.1 * x**2, 0.4)  # noqa: E731
    moves = normal(x[:, None] - (0.5 * x + np.sin(x))[None, :], 0.5) + np.log(step)
    law = normal(x, 1.0) + seen(DATA[0])
    for y in DATA[1:]:
        law = logsumexp(moves + law[None, :], axis=1) + seen(y)
    return float(logsumexp(law) + np.log(step))


@pytest.mark.slow
def test_the_twist_of_a_linear_model_leaves_no_variance(x64: None) -> None:
    truth = linear_gaussian.example()
    data = np.array(truth.simulate(jax.random.key(5), 9)[1])
    data[3], data[6, 0] = np.nan, np.nan
    model = truth.state_space(data, "bootstrap", missing="skip")
    twisted = twists.attach(model, twists.gaussian_twist(model, method="kalman"))
    found = run(jax.random.key(0), twisted, 8, num_runs=4)
    np.testing.assert_allclose(found.log_z, truth.posterior(data).log_z, atol=1e-7)
    # Without the future the runs differ.
    assert np.ptp(run(jax.random.key(0), model, 8, num_runs=4).log_z) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["twist", "unscented twist", "guide"])
def test_gaussian_guesses_keep_z_hat_unbiased(kind: str) -> None:
    model = bent(proposal=gaussian_guide(transition, observation)) if kind == "guide" else bent()
    if kind != "guide":
        method = "unscented" if kind.startswith("unscented") else "extended"
        model = twists.attach(model, twists.gaussian_twist(model, method=method))
    errors = np.asarray(run(jax.random.key(0), model, 8, num_runs=1000).log_z) - exact()
    assert_mean_one_log(errors)
    plain = np.asarray(run(jax.random.key(0), bent(), 8, num_runs=1000).log_z) - exact()
    assert errors.std() < 0.8 * plain.std()
    with pytest.raises(AssertionError):
        assert_mean_one_log(errors + 0.2)


def test_wrong_calls() -> None:
    with pytest.raises(ArgumentError, match="method"):
        twists.gaussian_twist(bent(), method="square")
    with unchecked(), pytest.raises(ArgumentError, match="model"):
        twists.gaussian_twist(3.0)  # pyright: ignore
    with pytest.raises(smcinfer.TargetError, match="not linear"):
        twists.gaussian_twist(bent(), method="kalman")
