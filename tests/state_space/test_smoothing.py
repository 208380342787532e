"""Every smoother against the exact law of paths given all data."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.plots import plot_smoothed
from smcinfer.results.smoothed import Smoothed
from smcinfer.run.runner import run
from smcinfer.state_space import StateSpace, state_space
from smcinfer.state_space.smoothing.backward import marginals
from smcinfer.state_space.smoothing.genealogy import fixed_lag, trace
from smcinfer.state_space.smoothing.smooth import METHODS, smooth
from tests import exact_models, exact_paths
from tests.core.test_conditional import FoldedChain
from tests.signatures import unchecked
from tests.statistics import assert_mean, assert_weighted_mean, assert_within

STEPS = 12
RUNS = 16


@pytest.mark.dealt
@pytest.mark.parametrize("method", METHODS)
def test_means_and_spreads_are_those_of_the_exact_smoother(method: str) -> None:
    mean, covariance = exact_paths.walk_posterior(STEPS)
    options = {"lag": STEPS} if method == "fixed_lag" else {}
    found = smooth(
        jax.random.key(1), exact_paths.walk(STEPS, "guided"), method=method, num_particles=200, num_runs=RUNS, **options
    )
    sd = np.sqrt(np.diag(covariance))[:, None]
    offset = (found.values["x"].astype(np.float64) - mean[:, None]) / sd
    for statistic, expected in ((offset, 0.0), (offset**2, 1.0), (offset < -1.2816, 0.1), (offset < 1.2816, 0.9)):
        assert_smoothed(found, exact_paths.walk_log_z(STEPS), statistic, expected)
    # What the record says is what its weighted points say.
    tenth, ninetieth = found.quantile([0.1, 0.9])
    assert np.all(tenth < found.mean()) and np.all(found.mean() < ninetieth) and found.sd().shape == mean.shape
    assert method in str(found) and found.joint == (method in ("backward", "genealogy"))


def assert_smoothed(found: Smoothed, log_z: float, values: np.ndarray, expected: Any) -> None:
    """Smoothing expectations times Z_hat are unbiased, run by run: ``values`` are f of every point, (R, steps, M, ...)."""
    weights = np.exp(found.log_weights[:, : values.shape[1]])[(..., *[None] * (values.ndim - 3))]
    assert_weighted_mean(found.log_z_runs, log_z, (weights * values).sum(axis=2), expected)


@pytest.mark.slow
def test_paths_have_the_exact_correlation_of_neighbours(precision: str) -> None:
    mean, covariance = exact_paths.walk_posterior(STEPS)
    found = smooth(jax.random.key(2), exact_paths.walk(STEPS), num_particles=64, num_runs=RUNS)
    assert found.values["x"].dtype == precision
    offset = found.values["x"].astype(np.float64) - mean[:, None]
    neighbours = offset * np.roll(offset, -1, axis=1)
    assert_smoothed(found, exact_paths.walk_log_z(STEPS), neighbours[:, :-1], np.diag(covariance, 1))
    tree = found.to_arviz(num_draws=50)
    assert dict(tree["posterior"]["x"].sizes) == {"chain": RUNS, "draw": 50, "time": STEPS + 1}
    figure = plot_smoothed(found, truth=np.zeros(STEPS + 1), data=exact_paths.walk_data(STEPS))
    assert len(figure.axes) == 2 and len(figure.axes[0].lines) == 2
    with pytest.raises(ArgumentError, match="length"):
        plot_smoothed(found, truth=np.zeros(3))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["backward", "ffbs"])
def test_twisted_discrete_chain(method: str) -> None:
    model = exact_models.hmm("twisted")
    found = smooth(jax.random.key(3), model, method=method, num_particles=128, num_runs=RUNS, num_draws=None)
    is_state = found.values["x"][..., None] == np.arange(exact_models.NUM_STATES)
    assert_smoothed(found, exact_models.hmm_log_z(), is_state, exact_paths.hmm_marginals())


@pytest.mark.slow
def test_forgetting_to_take_the_twist_out_is_caught() -> None:
    model = exact_models.hmm("twisted_weights")
    done = run(jax.random.key(4), model, 128, num_runs=RUNS, history="full")
    particles, log_weights = jax.tree.map(jnp.asarray, (done.history["particles"], done.history["log_weights"]))
    chances = jax.jit(jax.vmap(lambda particles, log_weights: _chances(model, particles, log_weights)))
    exact, log_z = exact_paths.hmm_marginals(), exact_models.hmm_log_z()
    assert_weighted_mean(done.log_z, log_z, chances(particles, log_weights), exact)
    forgetful = dataclasses.replace(particles, log_twist=jnp.zeros_like(particles.log_twist))
    with pytest.raises(AssertionError):
        assert_weighted_mean(done.log_z, log_z, chances(forgetful, log_weights), exact)


def _chances(model: Any, particles: Any, log_weights: jax.Array) -> jax.Array:
    """Smoothed P(x_t = k) of one run."""
    weights = jnp.exp(marginals(model, particles, log_weights))
    return jnp.sum(weights[..., None] * (particles.state[..., None] == jnp.arange(exact_models.NUM_STATES)), axis=1)


@pytest.mark.slow
def test_blocks_do_not_change_the_marginals(monkeypatch: pytest.MonkeyPatch) -> None:
    history = run(jax.random.key(4), exact_paths.walk(5), 50, history="full").history
    particles, log_weights = jax.tree.map(
        lambda leaf: jnp.asarray(leaf[0]), (history["particles"], history["log_weights"])
    )
    whole = marginals(exact_paths.walk(5), particles, log_weights)
    # By module, not by dotted name: `smcinfer.state_space` is the function that makes a model.
    monkeypatch.setattr(sys.modules[marginals.__module__], "BLOCK_ENTRIES", 50 * 7)
    np.testing.assert_allclose(marginals(exact_paths.walk(5), particles, log_weights), whole, atol=1e-4)


def test_genealogies_by_hand() -> None:
    ancestors = jnp.asarray([[0, 1, 2], [0, 0, 2], [1, 2, 2], [0, 0, 1]])
    np.testing.assert_array_equal(trace(ancestors, jnp.arange(3)), [[0, 0, 2], [1, 1, 2], [0, 0, 1], [0, 1, 2]])
    log_weights = jnp.log(jnp.asarray([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2], [0.3, 0.3, 0.4]]))
    chosen, weights = fixed_lag(ancestors, log_weights, 1)
    np.testing.assert_array_equal(chosen, [[0, 0, 2], [1, 2, 2], [0, 0, 1], [0, 1, 2]])
    np.testing.assert_allclose(weights, log_weights[jnp.asarray([1, 2, 3, 3])])
    np.testing.assert_array_equal(fixed_lag(ancestors, log_weights, 99)[0], trace(ancestors, jnp.arange(3)))


@pytest.mark.slow
def test_a_short_lag_is_biased_and_a_genealogy_coalesces() -> None:
    mean, _ = exact_paths.walk_posterior(STEPS)
    model = exact_paths.walk(STEPS)
    short = smooth(jax.random.key(5), model, method="fixed_lag", lag=1, num_particles=512, num_runs=RUNS)
    with pytest.raises(AssertionError):
        assert_mean(np.einsum("rtm,rtm->rt", np.exp(short.log_weights), short.values["x"]), mean)
    traced = smooth(jax.random.key(5), model, method="genealogy", num_particles=64, num_runs=RUNS)
    assert traced.distinct()[:, 0].mean() < 40 and traced.distinct()[:, -1].min() > 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sideways"}, "method"),
        ({"num_draws": 5, "method": "ffbs"}, "num_draws"),
        ({"lag": 3}, "lag"),
        ({"method": "fixed_lag", "lag": 1000}, "lag is out of range(.|\n)*1 to 3"),
        ({"method": "fixed_lag", "lag": 2.0}, "lag is not a whole number"),
        ({"num_draws": 0}, "num_draws"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with unchecked(), pytest.raises(ArgumentError, match=message):
        smooth(jax.random.key(0), exact_paths.walk(3), **options)


@pytest.mark.slow
def test_methods_that_need_a_density_and_draws_that_need_paths() -> None:
    folded = exact_models.compose(FoldedChain(), exact_models.emission, num_steps=5)
    with pytest.raises(TargetError, match="transition density"):
        smooth(jax.random.key(0), folded)
    found = smooth(jax.random.key(0), folded, method="fixed_lag", num_particles=16, num_runs=2, lag=2)
    with pytest.raises(ArgumentError, match="paths"):
        found.draws(0, 10)
    with pytest.raises(ArgumentError, match="unknown state"):
        found.mean("speed")


SINE_DATA = 0.3 * np.array([0.1, 0.4, 1.1, 1.5, 2.2, 2.4])
SINE_FIRST = -0.0145
"""E[p_0 | y] by weighing 400,000 simulated paths: to 0.001."""


def sine(move: Callable[[Any], Any]) -> StateSpace:
    """A place that follows from place and speed before it, and a speed that drifts."""
    return state_space(
        {"p": dist.Normal(0.0, 0.5), "v": dist.Normal(0.0, 1.0)},
        lambda t, x: {"p": move(1.1 * jnp.sin(x["p"]) + 0.3 * jnp.exp(-(x["v"] ** 2))), "v": dist.Normal(x["v"], 0.3)},
        lambda t, x: dist.Normal(x["p"], 0.4),
        SINE_DATA,
    )


POINT_MASSES: dict[str, Callable[[Any], Any]] = {
    "plain": dist.Delta,
    "shifted": lambda p: dist.TransformedDistribution(dist.Delta(p), [dist.transforms.AffineTransform(0.0, 1.0)]),
    "in a mixture": lambda p: dist.MixtureGeneral(
        dist.Categorical(jnp.array([0.5, 0.5])), [dist.Delta(p), dist.Normal(p, 0.1)], support=dist.constraints.real
    ),
}


@pytest.mark.parametrize("method", ["backward", "ffbs"])
@pytest.mark.parametrize("name", POINT_MASSES)
def test_a_state_that_follows_from_the_one_before_is_not_smoothed_by_a_density(method: str, name: str) -> None:
    with pytest.raises(TargetError, match="no density: 'p' of the state(.|\n)*genealogy(.|\n)*noise that drives"):
        smooth(jax.random.key(0), sine(POINT_MASSES[name]), method=method)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["genealogy", "fixed_lag"])
def test_a_state_that_follows_from_the_one_before_is_smoothed_by_its_parents(method: str) -> None:
    lag = {"lag": 5} if method == "fixed_lag" else {}
    found = smooth(jax.random.key(0), sine(dist.Delta), method=method, num_particles=4000, num_runs=RUNS, **lag)
    assert_within(found.mean("p")[0], SINE_FIRST, found.mean_se("p")[0], bias=0.001)
    assert found.mean_se("p")[0] < 0.004 and found.status == 0


@pytest.mark.slow
def test_a_transition_of_scale_zero_is_found_by_what_its_density_misses() -> None:
    with pytest.raises(TargetError, match="misses the filter's own moves"):
        smooth(jax.random.key(0), sine(lambda p: dist.Normal(p, 0.0 * jnp.abs(p))), num_particles=64, num_runs=2)
