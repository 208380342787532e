"""Observations that were not made, in every container, of every kind of law: they count for nothing, and the rest as it is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.models.linear_gaussian import linear_gaussian
from smcinfer.run.runner import run
from smcinfer.state_space import StateSpace, state_space
from tests.statistics import assert_mean, assert_mean_one_log

RUNS = 400
T = jnp.asarray

SEEN = np.array([0.3, np.nan, 0.7])
WALK_LOG_Z, WALK_MEAN = -1.960089, 0.611495

FIRST = np.array([0.5, 0.5])
STEP = np.array([[0.9, 0.1], [0.2, 0.8]])
LOOK = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
SYMBOLS = np.array([0.0, np.nan, 2.0, 1.0])
CHAIN_LOG_Z, CHAIN_LAST = -3.816826, 0.647460


def walk(data: Any, missing: str = "skip") -> StateSpace:
    return state_space(
        dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(x, 0.5), lambda t, x: dist.Normal(x, 0.4), data, missing=missing
    )


def chain(data: Any, look: Any = None) -> StateSpace:
    look = look or (lambda x: dist.Categorical(probs=jnp.asarray(LOOK)[x]))
    return state_space(
        dist.Categorical(probs=FIRST),
        lambda t, x: dist.Categorical(probs=jnp.asarray(STEP)[x]),
        lambda t, x: look(x),
        data,
        missing="skip",
    )


def assert_filter(model: StateSpace, log_z: float, last_mean: float) -> None:
    """E[Z_hat] = Z and E[Z_hat m_hat] = Z m, of the last filtering mean."""
    done = run(jax.random.key(1), model, 32, num_runs=RUNS)
    assert_mean_one_log(done.log_z, log_z)
    last = np.asarray(done.history["filtered_mean"])[:, -1]
    assert_mean(np.exp(np.asarray(done.log_z, np.float64) - log_z) * last, last_mean)
    with pytest.raises(AssertionError):
        assert_mean_one_log(done.log_z, log_z + 0.2)


@pytest.mark.slow
def test_a_masked_observation_is_one_that_was_not_made() -> None:
    data = np.ma.array([0.3, -999.0, 0.7], mask=[0, 1, 0])
    exact = linear_gaussian([0.0], [[1.0]], [[1.0]], [[0.25]], [[1.0]], [[0.16]]).posterior(SEEN[:, None])
    assert exact.log_z == pytest.approx(WALK_LOG_Z, abs=1e-6)
    assert float(exact.mean[-1, 0]) == pytest.approx(WALK_MEAN, abs=1e-6)
    assert_filter(walk(data), WALK_LOG_Z, WALK_MEAN)


CONTAINERS = {
    "list": [0.3, None, 0.7],
    "objects": np.array([0.3, None, 0.7], object),
    "nullable": pd.Series([0.3, None, 0.7], dtype="Float64"),
    "masked": np.ma.array([0.3, -999.0, 0.7], mask=[0, 1, 0]),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_makes_the_observations_that_nan_makes(name: str) -> None:
    expected, made = walk(SEEN).observations, walk(CONTAINERS[name]).observations
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), expected, made))
    with pytest.raises(ArgumentError, match='first at t = 1(.|\n)*missing="skip"'):
        walk(CONTAINERS[name], "refuse")


def test_masks_inside_a_tree_and_in_two_dimensions() -> None:
    pairs = np.ma.array([[0.1, -999.0], [-999.0, -999.0], [0.2, 0.3]], mask=[[0, 1], [1, 1], [0, 0]])
    model = state_space(
        dist.Normal(0.0, 1.0),
        lambda t, x: dist.Normal(x, 0.5),
        lambda t, x: {"pair": dist.Normal(x * jnp.ones(2), 0.4).to_event(1), "one": dist.Normal(x, 0.4)},
        {"pair": pairs, "one": np.ma.array([0.3, -999.0, 0.7], mask=[0, 1, 0])},
        missing="skip",
    )
    x = jnp.asarray(0.3)
    log_p = dist.Normal(0.3, 0.4).log_prob
    np.testing.assert_allclose(model.potential(T(0), x), log_p(0.1) + log_p(0.3), rtol=1e-5)
    assert model.potential(T(1), x) == 0.0


def test_a_list_of_numbers_is_a_series() -> None:
    assert walk([0.0, 1.0, 2.0]).num_steps == walk((0, 1, 2)).num_steps == 2


@pytest.mark.slow
def test_a_chain_of_categories_with_a_gap_is_filtered_right() -> None:
    assert_filter(chain(SYMBOLS), CHAIN_LOG_Z, CHAIN_LAST)


def test_the_gap_of_the_chain_by_enumeration() -> None:
    law = FIRST * LOOK[:, 0]
    for symbol in SYMBOLS[1:]:
        law = law @ STEP
        law = law if np.isnan(symbol) else law * LOOK[:, int(symbol)]
    assert np.log(law.sum()) == pytest.approx(CHAIN_LOG_Z, abs=1e-6)
    assert law[1] / law.sum() == pytest.approx(CHAIN_LAST, abs=1e-6)


CATEGORIES = {
    "NaN": SYMBOLS,
    "masked": np.ma.array([0, -999, 2, 1], mask=[0, 1, 0, 0]),
    "nullable": pd.Series([0, None, 2, 1], dtype="Int64"),
    "list": [0, None, 2, 1],
}
LOOKS = {
    "probs": lambda x: dist.Categorical(probs=jnp.asarray(LOOK)[x]),
    "logits": lambda x: dist.Categorical(logits=jnp.log(jnp.asarray(LOOK))[x]),
    "ordered": lambda x: dist.OrderedLogistic(1.0 * x, jnp.array([-1.0, 1.0])),
    "binomial": lambda x: dist.Binomial(2, 0.3 + 0.2 * x),
    "poisson": lambda x: dist.Poisson(1.0 + x),
}


@pytest.mark.parametrize("name", CATEGORIES)
@pytest.mark.parametrize("law", LOOKS)
def test_whole_numbers_of_any_container_are_categories(name: str, law: str) -> None:
    model = chain(CATEGORIES[name], LOOKS[law])
    got = [float(model.potential(T(t), T(1))) for t in range(4)]
    expected = [float(LOOKS[law](T(1)).log_prob(T(y))) for y in (0, 0, 2, 1)]
    expected[1] = 0.0
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_numbers_that_are_not_whole_are_no_categories() -> None:
    with pytest.raises(ArgumentError, match=r"outside the support(.|\n)*0.5 first at t = 2"):
        chain([0.0, 1.0, 0.5])
