"""State-space models: what they record, what may be missing, what is refused, and how they are drawn."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.core.nouns import Guided, TwistInduced
from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError, SmcinferError
from smcinfer.models.linear_gaussian import LinearGaussian, example, linear_gaussian
from smcinfer.plots import plot_filter, plot_track, save_all
from smcinfer.results.summary import weighted_quantiles
from smcinfer.run.runner import run
from smcinfer.state_space import Joint, StateSpace, as_law, simulate, state_space
from smcinfer.state_space.summaries import moments, quantiles
from tests.statistics import assert_ks, assert_mean, assert_mean_one_log
from tests.synthetic import make_result

LEVELS = (0.1, 0.5, 0.9)
RUNS = 400


def level_and_season() -> tuple[StateSpace, LinearGaussian, np.ndarray]:
    """Two hidden scalars seen through their sum: once with a dict for a state, once as an exact vector model."""
    data = np.sin(np.arange(9) / 2.0)[:, None]
    exact = linear_gaussian(
        [0.0, 1.0], np.diag([1.0, 0.25]), np.diag([0.9, 0.5]), np.diag([0.16, 0.09]), [[1, 1]], [0.25]
    )
    model = state_space(
        {"level": dist.Normal(0.0, 1.0), "season": dist.Normal(jnp.ones(1), 0.5)},
        lambda t, x: {"level": dist.Normal(0.9 * x["level"], 0.4), "season": dist.Normal(0.5 * x["season"], 0.3)},
        lambda t, x: {"sum": dist.Normal(x["level"] + x["season"], 0.5)},
        {"sum": data},
        look_ahead=lambda t, x, y: -0.3 * (y["sum"] - x["level"])[0] ** 2,
        twist=lambda t, x: -0.2 * x["level"] ** 2,
        quantiles=LEVELS,
    )
    return model, exact, data


@pytest.mark.slow
def test_states_and_data_may_be_trees() -> None:
    model, exact, data = level_and_season()
    result = smcinfer.sample(jax.random.key(0), model, num_particles=32, num_runs=RUNS, history="full", progress=False)
    assert_mean_one_log(result.log_z_runs, exact.posterior(data).log_z)
    with pytest.raises(AssertionError):
        assert_mean_one_log(result.log_z_runs, exact.posterior(data).log_z + 0.3)
    assert {name: value.shape for name, value in result.particles.items()} == {
        "level": (RUNS, 32),
        "season": (RUNS, 32, 1),
    }
    assert "p(x_T | y_0:T)" in str(result)
    # What the history says of one step is what the recorded particles say, the twist taken out of their weights.
    t = 4
    weights = np.exp(result.history["log_weights"][0, t] - result.history["particles.log_twist"][0, t])
    values = result.history["particles.state.season"][0, t, :, 0]
    mean = np.average(values, weights=weights)
    np.testing.assert_allclose(result.history["filtered_mean.season"][0, t, 0], mean, rtol=1e-4)
    sd = np.sqrt(np.average((values - mean) ** 2, weights=weights))
    np.testing.assert_allclose(result.history["filtered_sd.season"][0, t, 0], sd, rtol=1e-4)
    expected = weighted_quantiles(values, weights, LEVELS)
    np.testing.assert_allclose(result.history["filtered_quantiles.season"][0, t, :, 0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_missing_data_are_updates_that_kalman_skips(precision: str) -> None:
    model = example()
    _, data = model.simulate(jax.random.key(3), 8)
    data = np.array(data)
    data[2] = math.nan
    data[[4, 6], [0, 1]] = math.nan
    exact = model.posterior(data)
    guided = model.state_space(data, "auxiliary", missing="skip")
    done = run(jax.random.key(1), guided, 48, num_runs=RUNS)
    assert done.log_z.dtype == precision
    assert_mean_one_log(done.log_z, exact.log_z)
    # Unbiased at every step: E[Z_hat_t m_hat_t] = Z_t m_t, whether step t saw anything or not.
    ratios = np.exp(np.cumsum(done.history["log_z_increment"], axis=1) - np.cumsum(exact.log_z_increments))
    assert_mean(ratios[..., None] * done.history["filtered_mean"], exact.mean)
    for wrong in (np.nan_to_num(data), np.where(np.isnan(data).any(axis=1, keepdims=True), math.nan, data)):
        with pytest.raises(AssertionError):
            assert_mean_one_log(done.log_z, model.posterior(wrong).log_z)


@pytest.mark.slow
def test_counts_are_drawn_by_keys_of_the_kind_that_they_need() -> None:
    """Poisson draws ask for JAX's own kind of key; log Z is a sum over all paths of counts up to 40."""
    data = np.array([2.0, 3.0, 1.0])
    counts = jnp.arange(41.0)
    forward = dist.Poisson(3.0).log_prob(counts)
    for y in data:
        forward = forward + dist.Normal(counts, 1.0).log_prob(y)
        steps = dist.Poisson(0.5 * counts[:, None] + 1.0).log_prob(counts[None, :])
        log_z = jax.nn.logsumexp(forward)
        forward = jax.nn.logsumexp(forward[:, None] + steps, axis=0)
    model = state_space(
        dist.Poisson(3.0), lambda t, x: dist.Poisson(0.5 * x + 1.0), lambda t, x: dist.Normal(x, 1.0), data
    )
    done = run(jax.random.key(8), model, 64, num_runs=RUNS)
    assert_mean_one_log(done.log_z, float(log_z))


def test_the_potential_of_what_is_missing() -> None:
    x, t = jnp.array([0.3, -0.2]), jnp.asarray(1)
    data = np.array([[0.0, 1.0], [math.nan, 2.0], [math.nan, math.nan]])
    initial = dist.Normal(jnp.zeros(2), 1.0)
    stay = lambda t, x: dist.Normal(x, 1.0)  # noqa: E731
    model = state_space(initial, stay, lambda t, x: dist.Normal(x, 0.5).to_event(1), data, missing="skip")
    np.testing.assert_allclose(model.potential(t, x), dist.Normal(-0.2, 0.5).log_prob(2.0), rtol=1e-6)
    assert model.potential(t + 1, x) == 0.0
    # A gradient of what is missing is zero, not NaN.
    assert jnp.isfinite(jax.grad(lambda x: model.potential(t, x) + model.potential(t + 1, x))(x)).all()
    dependent = lambda t, x: dist.MultivariateStudentT(5.0, x, jnp.eye(2))  # noqa: E731
    with pytest.raises(SmcinferError, match="its coordinates are dependent"):
        state_space(initial, stay, dependent, data, missing="skip")
    whole = state_space(initial, stay, dependent, data[[0, 2]], missing="skip")
    assert whole.potential(t, x) == 0.0 and whole.potential(t - 1, x) < 0.0


def walk(**changes: Any) -> StateSpace:
    """A scalar random walk, with parts replaced."""
    parts: dict[str, Any] = {
        "initial": dist.Normal(0.0, 1.0),
        "transition": lambda t, x: dist.Normal(x, 1.0),
        "observation": lambda t, x: dist.Normal(x, 0.5),
        "data": np.zeros(4),
    } | changes
    return state_space(**parts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transition": lambda t, x: x + 1.0}, "transition returned no distribution(.|\n)*array of shape"),
        ({"transition": lambda t, x: {}}, "transition returned no distribution"),
        ({"transition": lambda t, x: dist.Normal(x * jnp.ones(2), 1.0)}, "different states"),
        ({"transition": lambda t, x: dist.Poisson(jnp.exp(x))}, "different states"),
        ({"transition": lambda t, x: dist.Normal(x["level"], 1.0)}, "transition raised"),
        ({"initial": 0.0}, "initial returned no distribution"),
        ({"observation": lambda t, x: x}, "observation returned no distribution"),
        ({"observation": lambda t, x: dist.Normal(x[0], 1.0)}, "observation raised"),
        ({"observation": lambda t, x: {"y": dist.Normal(x, 1.0)}}, "differ in structure"),
        ({"data": np.zeros((4, 2))}, "differ in shape"),
        ({"data": np.float64(0.0)}, "leading axis"),
        ({"data": {"a": np.zeros(4), "b": np.zeros(3)}}, "leading axis"),
        ({"data": {}}, "empty"),
        ({"data": np.array([0.0, 1.0, np.nan, np.nan])}, "first at t = 2"),
        ({"data": {"a": np.zeros(4), "b": np.array([[0.0, 0.0], [0.0, np.nan]] * 2)}}, r"in data, 'b'(.|\n)*\(1, 1\)"),
        ({"data": np.array([0.0, np.inf])}, "outside the support"),
        ({"observation": lambda t, x: dist.Poisson(jnp.exp(x)), "data": np.array([3, -1])}, "t = 1"),
        ({"observation": lambda t, x: dist.Categorical(x * jnp.ones(3)), "data": np.array([0, 3])}, "upper_bound=2"),
        ({"missing": "drop"}, 'refuse" | "skip'),
        ({"quantiles": (0.5, 1.5)}, "a level of quantiles is out of range"),
        ({"quantiles": ()}, "levels of probability"),
        ({"proposal": lambda t, x, y: x + y}, "proposal returned no distribution"),
        ({"look_ahead": lambda t, x, y: jnp.ones(2)}, "look_ahead did not return a scalar"),
        ({"twist": lambda t, x: jnp.ones(2)}, "twist did not return a scalar"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SmcinferError, match=message):
        walk(**changes)


def test_a_support_that_depends_on_the_state_is_left_to_the_run() -> None:
    assert walk(observation=lambda t, x: dist.Uniform(x - 1.0, x + 1.0), data=np.full(3, 50.0)).num_steps == 2


def test_a_model_may_be_made_inside_a_compiled_function() -> None:
    @jax.jit
    def first_potential(scale: jax.Array, data: jax.Array) -> jax.Array:
        model = walk(observation=lambda t, x: dist.Normal(x, scale), data=data)
        return model.potential(jnp.asarray(0), jnp.asarray(0.0))

    expected = dist.Normal(0.0, 2.0).log_prob(1.0)
    np.testing.assert_allclose(first_potential(jnp.asarray(2.0), jnp.ones(3)), expected, rtol=1e-6)


def test_which_proposal_is_taken() -> None:
    guide = lambda t, x, y: dist.Normal((x + y) / 2, 1.0)  # noqa: E731
    guided = walk(proposal=guide, data=np.arange(4.0)).proposal
    assert isinstance(guided, Guided)
    assert guided.guide(jnp.asarray(3), jnp.asarray(1.0)).loc == 2.0
    start = walk(initial_proposal=dist.Normal(1.0, 1.0)).proposal
    x, log_w = start.initial(jax.random.key(0))
    np.testing.assert_allclose(log_w, dist.Normal(0.0, 1.0).log_prob(x) - dist.Normal(1.0, 1.0).log_prob(x), rtol=1e-5)
    assert start.log_weight(jnp.asarray(1), x, x + 0.3) == 0.0

    class Table(smcinfer.Twist):
        def __call__(self, t, state):  # noqa: ANN001, ANN204
            return jnp.zeros(())

        def next(self, t, state):  # noqa: ANN001, ANN201
            return jnp.zeros(2)

    table = {"initial": dist.Categorical(jnp.ones(2) / 2), "transition": lambda t, x: dist.Categorical(jnp.ones(2) / 2)}
    assert isinstance(walk(**table, twist=Table()).proposal, TwistInduced)


def test_a_guide_steps_aside_where_data_are_missing() -> None:
    guide = lambda t, x, y: dist.Normal(x + y, 2.0)  # noqa: E731
    data = np.array([0.0, math.nan, 5.0])
    proposal = walk(proposal=guide, data=data, missing="skip").proposal
    x = jnp.zeros(2000)
    blind, log_w = jax.jit(lambda key: proposal.propose(key, jnp.asarray(1), x, 2000))(jax.random.key(0))
    assert_ks(blind, dist.Normal(0.0, 1.0).cdf)
    assert (log_w == 0).all() and proposal.log_weight(jnp.asarray(1), x[0], x[0]) == 0.0
    seen, log_w = jax.jit(lambda key: proposal.propose(key, jnp.asarray(2), x, 2000))(jax.random.key(0))
    assert_ks(seen, dist.Normal(5.0, 2.0).cdf)
    ratio = dist.Normal(0.0, 1.0).log_prob(seen) - dist.Normal(5.0, 2.0).log_prob(seen)
    np.testing.assert_allclose(log_w, ratio, rtol=1e-4)


@pytest.mark.slow
def test_joint_laws() -> None:
    law = as_law({"a": dist.Normal(jnp.zeros(2), 1.0), "b": dist.Gamma(2.0, 1.0)}, "law")
    assert isinstance(law, Joint)
    draws = law.sample(jax.random.key(0), (2000,))
    assert draws["a"].shape == (2000, 2) and draws["b"].shape == (2000,)
    assert_ks(draws["b"], lambda x: np.asarray(dist.Gamma(2.0, 1.0).cdf(x)))
    one = jax.tree.map(lambda leaf: leaf[0], draws)
    expected = dist.Normal(0.0, 1.0).log_prob(one["a"]).sum() + dist.Gamma(2.0, 1.0).log_prob(one["b"])
    np.testing.assert_allclose(law.log_prob(one), expected, rtol=1e-6)


def test_simulated_paths_follow_the_model() -> None:
    """Increments, initial values and residuals of many paths are the noises they were made of."""
    walks = jax.jit(
        jax.vmap(lambda key: simulate(key, dist.Normal(1.0, 2.0), lambda t, x: dist.Normal(x, 0.1 * t), _noisy, 3))
    )
    path, data = walks(jax.random.split(jax.random.key(0), 2000))
    assert path.shape == data.shape == (2000, 4)
    assert_ks((path[:, 0] - 1.0) / 2.0, dist.Normal(0.0, 1.0).cdf)
    assert_ks((path[:, 3] - path[:, 2]) / 0.3, dist.Normal(0.0, 1.0).cdf)
    assert_ks((data[:, 2] - path[:, 2]) / 3.0, dist.Normal(0.0, 1.0).cdf)
    with pytest.raises(ArgumentError, match="num_steps"):
        simulate(jax.random.key(0), dist.Normal(0.0, 1.0), _noisy, _noisy, -1)


def _noisy(t: Any, x: Any) -> dist.Distribution:
    return dist.Normal(x, t + 1.0)


@pytest.mark.slow
def test_summaries_of_weighted_particles(precision: str) -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(50, 2)), rng.dirichlet(np.ones(50))
    # A particle of weight zero counts for nothing, whatever it holds.
    weights[3] = 0.0
    log_weights = jnp.log(jnp.asarray(weights / weights.sum(), precision))
    broken = jnp.asarray(values, precision).at[3].set(jnp.nan)
    mean, sd = moments({"x": broken}, log_weights)
    expected = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(mean["x"], expected, rtol=1e-4)
    np.testing.assert_allclose(
        sd["x"], np.sqrt(np.average((values - expected) ** 2, axis=0, weights=weights)), rtol=1e-4
    )
    found = quantiles({"x": broken}, log_weights, LEVELS)["x"]
    for column in range(2):
        exact = weighted_quantiles(values[:, column], weights, LEVELS)
        np.testing.assert_allclose(found[:, column], exact, rtol=1e-3, atol=1e-4)
    counts, _ = moments(jnp.arange(50), log_weights)
    assert counts.dtype == precision


@pytest.mark.slow
def test_a_run_that_cannot_tell_its_error_says_so() -> None:
    model = example()
    _, data = model.simulate(jax.random.key(1), 60)
    target = model.state_space(data, "bootstrap")
    alone = smcinfer.sample(jax.random.key(0), target, num_particles=8, num_runs=1, progress=False)
    assert alone.status & Status.GENEALOGY_COALESCED and math.isnan(alone.log_z_se)
    assert "cannot tell its own variance" in str(alone)


BANDS = {
    "log_z_increment": np.full((4, 7), -1.0),
    "filtered_mean.x": np.linspace(0, 1, 4)[:, None, None] + np.zeros((4, 7, 2)),
    "filtered_sd.x": np.ones((4, 7, 2)),
    "filtered_quantiles.x": np.tile(np.array([-1.0, 0.0, 2.0])[:, None], (4, 7, 1, 2)),
}


def test_figures_of_a_filter(tmp_path: Path) -> None:
    base = {"num_steps": np.full(4, 6), "history": BANDS}
    result = make_result(**base, settings={"quantiles": [0.1, 0.5, 0.9]})
    figure = plot_filter(result, truth=np.zeros((7, 2)), data=np.zeros(7))
    assert [axes.get_ylabel() for axes in figure.axes] == ["x[0]", "x[1]", "data y"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), 0.5)
    assert figure.axes[0].collections[0].get_paths()[0].get_extents().ymax == pytest.approx(2.0)
    # Without quantiles the band is two standard deviations, between runs included.
    plain = plot_filter(make_result(**base), max_scalars=1)
    spread = np.sqrt(1.0 + np.linspace(0, 1, 4).var())
    assert plain.axes[0].collections[0].get_paths()[0].get_extents().ymax == pytest.approx(0.5 + 2 * spread)
    plot_track(result, truth=np.zeros((7, 2)), observer=np.zeros((7, 2))).savefig(tmp_path / "track.png")
    with pytest.raises(ArgumentError, match="another length"):
        plot_filter(result, truth=np.zeros((6, 2)))
    with pytest.raises(ArgumentError, match="no such scalars"):
        plot_track(result, scalars=(0, 2))
    with pytest.raises(ArgumentError, match="filtered_mean"):
        plot_filter(make_result())


@pytest.mark.slow
def test_all_figures_of_a_filter(tmp_path: Path) -> None:
    model, _, _ = level_and_season()
    result = smcinfer.sample(jax.random.key(0), model, num_particles=64, progress=False)
    assert "filter" in {path.stem for path in save_all(result, tmp_path)}
