"""Differential equations between observations, where diffrax is installed: against closed forms and Kalman."""

import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.state_space import state_space
from smcinfer.state_space.differential import Diffused, diffusion, flow
from smcinfer.state_space.known import Now
from tests.statistics import assert_ks, assert_mean_one_log

there = importlib.util.find_spec("diffrax") is not None
needed = pytest.mark.skipif(not there, reason="diffrax is not installed")

TIMES, DATA = [0.0, 0.3, 1.1, 1.2, 2.0], np.array([0.4, 0.1, -0.5, -0.3, 0.6])
BACK, NOISE, SEEN = 0.7, 0.8, 0.5


def ornstein(t: Any, x: Any, now: Any) -> Any:
    decay = jnp.exp(-BACK * now.dt)
    return dist.Normal(decay * x, NOISE * jnp.sqrt((1 - decay**2) / (2 * BACK)))


def model(transition: Any) -> smcinfer.StateSpace:
    return state_space(dist.Normal(0.0, 1.0), transition, lambda t, x, now: dist.Normal(x, SEEN), DATA, times=TIMES)


@needed
def test_a_flow_is_the_solution(x64: None) -> None:
    turn = flow(lambda s, x: jnp.stack([x[1], -x[0]]), rtol=1e-9, atol=1e-9)
    found = turn(jnp.array([1.0, 0.0]), Now(jnp.asarray(2.0), jnp.asarray(0.5), None))
    np.testing.assert_allclose(found, [np.cos(0.5), -np.sin(0.5)], atol=1e-7)
    grown = flow(lambda s, x: s * x)(jnp.asarray(1.0), Now(jnp.asarray(2.0), jnp.asarray(1.0), None))
    assert float(grown) == pytest.approx(np.exp(1.5), rel=1e-4)


@needed
@pytest.mark.slow
def test_a_diffusion_has_the_law_of_ornstein_and_uhlenbeck() -> None:
    law = diffusion(lambda s, x: -BACK * x, lambda s, x: NOISE, substeps=50)(
        jnp.asarray(1), jnp.asarray([1.0, -2.0]), Now(jnp.asarray(1.1), jnp.asarray(0.8), None)
    )
    draws = np.asarray(law.sample(jax.random.key(0), (2000,)))
    exact = ornstein(1, jnp.array([1.0, -2.0]), Now(jnp.asarray(1.1), jnp.asarray(0.8), None))
    for entry in range(2):
        cdf = lambda v, at=entry: np.asarray(dist.Normal(exact.loc[at], exact.scale).cdf(jnp.asarray(v)))  # noqa: E731
        assert_ks(draws[:, entry], cdf, num_comparisons=2)
        with pytest.raises(AssertionError):
            assert_ks(draws[:, entry] + 0.2, cdf)


@needed
@pytest.mark.slow
def test_a_filter_of_a_diffusion_has_kalmans_likelihood() -> None:
    exact = smcinfer.gaussian_filter(model(ornstein)).log_z
    simulated = model(diffusion(lambda s, x: -BACK * x, lambda s, x: NOISE, substeps=20))
    found = smcinfer.run(jax.random.key(0), simulated, 64, num_runs=200)
    # Euler's steps are off by a hundredth.
    assert_mean_one_log(np.asarray(found.log_z) - exact, bias=0.02)
    with pytest.raises(TargetError, match="no density"):
        smcinfer.smooth(jax.random.key(0), simulated, num_particles=8, progress=False)


@needed
def test_what_a_differential_equation_asks_for() -> None:
    with pytest.raises(TargetError, match="needs times"):
        flow(lambda s, x: -x)(jnp.asarray(1.0), Now(None, None, None))
    with pytest.raises(ArgumentError, match="substeps"):
        diffusion(lambda s, x: -x, lambda s, x: 1.0, substeps=0)


@pytest.mark.skipif(there, reason="diffrax is installed")
def test_without_diffrax_the_error_says_what_to_install() -> None:
    with pytest.raises(ArgumentError, match="not installed(.|\n)*differential"):
        flow(lambda s, x: -x)
    assert issubclass(Diffused, dist.Distribution)
