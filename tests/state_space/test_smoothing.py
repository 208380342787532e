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
from smcinfer.state_space import StateSpace, state_space
from smcinfer.state_space.smoothing.backward import marginals
from smcinfer.state_space.smoothing.genealogy import fixed_lag, trace
from smcinfer.state_space.smoothing.smooth import METHODS, smooth
from tests import exact_models, exact_paths
from tests.core.test_conditional import FoldedChain
from tests.signatures import unchecked
from tests.statistics import assert_mean

STEPS = 12
RUNS = 16


@pytest.mark.parametrize("method", METHODS)
def test_means_and_spreads_are_those_of_the_exact_smoother(method: str) -> None:
    mean, covariance = exact_paths.walk_posterior(STEPS)
    options = {"lag": STEPS} if method == "fixed_lag" else {}
    found = smooth(
        jax.random.key(1), exact_paths.walk(STEPS, "guided"), method=method, num_particles=200, num_runs=RUNS, **options
    )
    # Ratio estimates have a bias of order 1/N: a hundredth of a standard deviation is allowed for it.
    error = found.mean() - mean
    assert np.all(np.abs(error) < 5 * found.mean_se() + 0.01 * np.sqrt(np.diag(covariance)))
    np.testing.assert_allclose(found.sd(), np.sqrt(np.diag(covariance)), rtol=0.08)
    normal = mean[None] + np.array([[-1.2816], [1.2816]]) * np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found.quantile([0.1, 0.9]), normal, atol=0.08)
    assert method in str(found) and found.joint == (method in ("backward", "genealogy"))


@pytest.mark.slow
def test_paths_have_the_exact_correlation_of_neighbours(precision: str) -> None:
    _, covariance = exact_paths.walk_posterior(STEPS)
    found = smooth(jax.random.key(2), exact_paths.walk(STEPS), num_particles=256, num_runs=4)
    assert found.values["x"].dtype == precision
    paths = found.draws(0, 2048)["x"].astype(np.float64)
    np.testing.assert_allclose(np.cov(paths.T), covariance, atol=0.03)
    tree = found.to_arviz(num_draws=50)
    assert dict(tree["posterior"]["x"].sizes) == {"chain": 4, "draw": 50, "time": STEPS + 1}
    figure = plot_smoothed(found, truth=np.zeros(STEPS + 1), data=exact_paths.walk_data(STEPS))
    assert len(figure.axes) == 2 and len(figure.axes[0].lines) == 2
    with pytest.raises(ArgumentError, match="length"):
        plot_smoothed(found, truth=np.zeros(3))


@pytest.mark.parametrize("method", ["backward", "ffbs"])
def test_twisted_discrete_chain(method: str) -> None:
    """Unnormalised smoothing expectations are unbiased: Z_hat times the smoothed probabilities, up to O(1/N)."""
    model = exact_models.hmm("twisted")
    found = smooth(jax.random.key(3), model, method=method, num_particles=128, num_runs=RUNS, num_draws=None)
    np.testing.assert_allclose(_frequencies(found), exact_paths.hmm_marginals(), atol=0.03)


def _frequencies(found: Smoothed) -> np.ndarray:
    """Smoothed P(x_t = k)."""
    return np.stack(
        [
            dataclasses.replace(found, values={"x": found.values["x"] == k}).mean()
            for k in range(exact_models.NUM_STATES)
        ],
        -1,
    )


def test_forgetting_to_take_the_twist_out_is_caught() -> None:
    model = exact_models.hmm("twisted_weights")
    done = _history(model)
    right = _chances(marginals(model, done["particles"], done["log_weights"]), done["particles"].state)
    np.testing.assert_allclose(right, exact_paths.hmm_marginals(), atol=0.05)
    particles = dataclasses.replace(done["particles"], log_twist=jnp.zeros_like(done["particles"].log_twist))
    wrong = _chances(marginals(model, particles, done["log_weights"]), particles.state)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(wrong, exact_paths.hmm_marginals(), atol=0.05)


def _chances(log_weights: jax.Array, states: jax.Array) -> np.ndarray:
    return np.stack([(jnp.exp(log_weights) * (states == k)).sum(1) for k in range(exact_models.NUM_STATES)], -1)


def _history(model):  # noqa: ANN001, ANN202
    from smcinfer.run.runner import run

    history = run(jax.random.key(4), model, 1500, history="full").history
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), {k: history[k] for k in ("particles", "log_weights")})


def test_blocks_do_not_change_the_marginals(monkeypatch: pytest.MonkeyPatch) -> None:
    done = jax.tree.map(lambda leaf: leaf[:, :50], _history(exact_paths.walk(5)))
    whole = marginals(exact_paths.walk(5), done["particles"], done["log_weights"])
    # By module, not by dotted name: `smcinfer.state_space` is the function that makes a model.
    monkeypatch.setattr(sys.modules[marginals.__module__], "BLOCK_ENTRIES", 50 * 7)
    np.testing.assert_allclose(marginals(exact_paths.walk(5), done["particles"], done["log_weights"]), whole, atol=1e-4)


def test_genealogies_by_hand() -> None:
    ancestors = jnp.asarray([[0, 1, 2], [0, 0, 2], [1, 2, 2], [0, 0, 1]])
    np.testing.assert_array_equal(trace(ancestors, jnp.arange(3)), [[0, 0, 2], [1, 1, 2], [0, 0, 1], [0, 1, 2]])
    log_weights = jnp.log(jnp.asarray([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2], [0.3, 0.3, 0.4]]))
    chosen, weights = fixed_lag(ancestors, log_weights, 1)
    np.testing.assert_array_equal(chosen, [[0, 0, 2], [1, 2, 2], [0, 0, 1], [0, 1, 2]])
    np.testing.assert_allclose(weights, log_weights[jnp.asarray([1, 2, 3, 3])])
    np.testing.assert_array_equal(fixed_lag(ancestors, log_weights, 99)[0], trace(ancestors, jnp.arange(3)))


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


@pytest.mark.parametrize("method", ["genealogy", "fixed_lag"])
def test_a_state_that_follows_from_the_one_before_is_smoothed_by_its_parents(method: str) -> None:
    lag = {"lag": 5} if method == "fixed_lag" else {}
    found = smooth(jax.random.key(0), sine(dist.Delta), method=method, num_particles=4000, num_runs=RUNS, **lag)
    assert abs(found.mean("p")[0] - SINE_FIRST) < 5 * found.mean_se("p")[0] + 0.001
    assert found.mean_se("p")[0] < 0.004 and found.status == 0


def test_a_transition_of_scale_zero_is_found_by_what_its_density_misses() -> None:
    with pytest.raises(TargetError, match="misses the filter's own moves"):
        smooth(jax.random.key(0), sine(lambda p: dist.Normal(p, 0.0 * jnp.abs(p))), num_particles=64, num_runs=2)
