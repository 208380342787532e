"""PyMC models as targets: the same density, the same names, log Z against closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.static.pymc_model import from_pymc
from tests.density_tools import base_draws, each
from tests.signatures import unchecked
from tests.static.test_mixed import FEW, exact
from tests.static.test_mixed import Y as MIXED_Y
from tests.statistics import assert_ks, assert_mean, assert_mean_one_log

pm = pytest.importorskip("pymc")
pytestmark = pytest.mark.filterwarnings("ignore")

Y = np.array([1.2, -0.3, 0.8])


def schools() -> Any:
    """A model with a transform, dims, data, a Deterministic and a Potential."""
    with pm.Model(coords={"school": ["a", "b", "c"]}) as model:
        sd = pm.Data("sd", [1.0, 2.0, 1.5], dims="school")
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfNormal("tau", 2.0)
        theta = pm.Normal("theta", mu, tau, dims="school")
        pm.Deterministic("doubled", 2.0 * theta, dims="school")
        pm.Potential("pull", -0.1 * theta.sum() ** 2)
        pm.Normal("y", theta, sd, observed=Y, dims="school")
    return model


def conjugate() -> Any:
    """y_i ~ N(mean, 1), mean ~ N(0, 2)."""
    with pm.Model() as model:
        mean = pm.Normal("mean", 0.0, 2.0)
        pm.Normal("y", mean, 1.0, observed=Y)
    return model


def exact_log_z() -> float:
    covariance = np.eye(3) + 4.0
    return float(-0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1] - 0.5 * Y @ np.linalg.solve(covariance, Y))


def test_the_density_is_that_of_pymc(precision: str) -> None:
    model = schools()
    target = from_pymc(model)
    assert target.dim == 5
    logp, x = model.compile_logp(), np.random.default_rng(0).normal(size=(6, 5))
    points = [{"mu": row[0], "tau_log__": row[1], "theta": row[2:]} for row in x]
    wanted = [float(logp(point)) for point in points]
    tolerance = 1e-5 if precision == "float32" else 1e-10
    vectors = jnp.asarray(x)
    np.testing.assert_allclose(each(target.log_prob, vectors), wanted, rtol=tolerance)
    values = each(target.constrain, vectors)
    assert {name: value.shape[1:] for name, value in values.items()} == {
        "mu": (), "tau": (), "theta": (3,), "doubled": (3,)
    }  # fmt: skip
    np.testing.assert_allclose(values["tau"], np.exp(x[:, 1]), rtol=1e-5)
    np.testing.assert_allclose(values["doubled"], 2 * x[:, 2:], rtol=1e-5)
    np.testing.assert_allclose(each(target.unconstrain, values), x, atol=1e-4)


def test_draws_of_the_base_follow_its_density() -> None:
    target = from_pymc(schools())
    draws = np.asarray(base_draws(target, 0, 2000))
    assert_ks(draws[:, 0] / 5.0, lambda x: np.asarray(jax.scipy.stats.norm.cdf(x)), num_comparisons=2)
    whitened = (draws[:, 2] - draws[:, 0]) / np.exp(draws[:, 1])
    assert_ks(whitened, lambda x: np.asarray(jax.scipy.stats.norm.cdf(x)), num_comparisons=2)
    again = np.asarray(base_draws(target, 0, 2000))
    np.testing.assert_array_equal(draws, again)
    assert not np.array_equal(draws, np.asarray(base_draws(target, 1, 2000)))


def test_log_z_is_exact_from_the_prior_and_from_the_mode() -> None:
    path = smcinfer.Tempering([0.1, 0.4, 1.0], moves=smcinfer.Moves.exactly(2))
    for reference in (None, "laplace"):
        target = from_pymc(conjugate(), reference=reference)
        result = smcinfer.sample(
            jax.random.key(0), target, num_particles=32, num_runs=200, method=path, kernel="random_walk", progress=False
        )
        assert_mean_one_log(result.log_z_runs, exact_log_z(), num_comparisons=2)
    with pytest.raises(AssertionError):
        assert_mean_one_log(result.log_z_runs, exact_log_z() + 0.3)


def test_exports_have_its_dims_data_and_predictions() -> None:
    from tests.results.test_groups import made

    shapes = {"mu": (4, 100), "tau": (4, 100), "theta": (4, 100, 3), "doubled": (4, 100, 3)}
    particles = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    tree = made(from_pymc(schools()), particles).to_arviz(groups="all")
    for name in ("posterior/theta", "posterior/doubled", "log_likelihood/y", "posterior_predictive/y"):
        assert tree[name].dims == ("chain", "draw", "school"), name
        assert tree[name].coords["school"].values.tolist() == ["a", "b", "c"]
    sd = np.array([1.0, 2.0, 1.5])
    exact = -0.5 * ((Y - 1.0) / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(tree["log_likelihood/y"].values[0, 0], exact, rtol=1e-5)
    np.testing.assert_array_equal(tree["observed_data/y"].values, Y)
    np.testing.assert_array_equal(tree["constant_data/sd"].values, sd)
    errors = (tree["posterior_predictive/y"].values - 1.0) / sd
    assert_ks(errors.reshape(-1), lambda x: np.asarray(jax.scipy.stats.norm.cdf(x)))
    assert "theta" in tree["prior"] and tree["prior_predictive/y"].shape == (4, 100, 3)


def test_draws_of_pymc_are_a_reference() -> None:
    rng = np.random.default_rng(0)
    draws = {"mu": rng.normal(size=200), "tau": np.exp(rng.normal(size=200)), "theta": rng.normal(size=(200, 3))}
    target = from_pymc(schools(), reference=smcinfer.reference_from(draws))
    x = jnp.zeros(5)
    np.testing.assert_allclose(target.log_prob(x), from_pymc(schools()).log_prob(x), rtol=1e-5)


def discrete() -> None:
    pm.Normal("y", pm.Bernoulli("which", 0.5), 1.0, observed=Y)


def flat() -> None:
    pm.Normal("y", pm.Flat("mean"), 1.0, observed=Y)


def ordered() -> None:
    mean = pm.Normal("mean", 0.0, 1.0, shape=2, transform=pm.distributions.transforms.ordered, initval=[-1.0, 1.0])
    pm.Normal("y", mean.sum(), 1.0, observed=Y)


REFUSED: dict[str, tuple[Any, str]] = {
    "discrete": (discrete, "discrete free variables: which(.|\n)*mixed_from_pymc(.|\n)*marginalize"),
    "flat": (flat, 'raised NotImplementedError(.|\n)*reference="laplace"'),
    "ordered": (ordered, "not where its density is(.|\n)*laplace"),
    "nothing free": (lambda: pm.Normal("y", 0.0, 1.0, observed=Y), "no free variable"),
    "nothing observed": (lambda: pm.Normal("x", 0.0, 1.0), "observes nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_without_a_density_or_a_start_are_refused(name: str) -> None:
    build, words = REFUSED[name]
    with pm.Model() as model:
        build()
    with pytest.raises(TargetError, match=words):
        from_pymc(model)


def labelled() -> Any:
    """Labels in a row, a switch, a count and a mean; one real that has a transform."""
    with pm.Model(coords={"point": range(3)}) as model:
        mean = pm.Normal("mean", 0.0, 1.0)
        label = pm.Categorical("label", [0.5, 0.3, 0.2], dims="point")
        wide = pm.Bernoulli("wide", 0.3)
        pm.HalfNormal("scale", 1.0)
        pm.Deterministic("shift", pm.math.stack([0.0, 2.0, -1.0])[label], dims="point")
        pm.Normal("y", mean + model["shift"], 0.5 + wide, observed=MIXED_Y, dims="point")
    return model


def test_discrete_variables_are_summed_over() -> None:
    log_z, ones, mean = exact()
    target = smcinfer.mixed_from_pymc(labelled(), kernel="random_walk", moves=FEW)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=24, num_runs=300, progress=False)
    assert_mean_one_log(result.log_z_runs, log_z, num_comparisons=3)
    weights = np.exp(result.log_z_runs - log_z)[:, None] * np.exp(result.log_weights)
    labels = np.sum(weights[..., None] * (result.particles["label"] == 1), axis=1)
    assert_mean(labels, ones, num_comparisons=3)
    assert_mean(np.sum(weights * result.particles["mean"], axis=1), mean, num_comparisons=3)
    with pytest.raises(AssertionError):
        assert_mean_one_log(result.log_z_runs, log_z + 0.3)
    np.testing.assert_allclose(result.particles["shift"], np.array([0.0, 2.0, -1.0])[result.particles["label"]])
    tree = result.to_arviz(groups=["log_likelihood", "posterior_predictive"])
    assert tree["log_likelihood/y"].dims == ("chain", "draw", "point")


def test_values_of_discrete_variables() -> None:
    with pm.Model() as model:
        pm.Binomial("successes", 3, 0.5)
        pm.DiscreteUniform("when", -1, 2, shape=2)
        pm.Normal("x", observed=Y)
        pm.Normal("mean")
    graph = smcinfer.mixed_from_pymc(model).model
    np.testing.assert_array_equal(graph.values, [[0, 1, 2, 3], [-1, 0, 1, 2], [-1, 0, 1, 2]])


def no_reals() -> None:
    pm.Normal("y", pm.Bernoulli("which", 0.5), 1.0, observed=Y)


def no_labels() -> None:
    pm.Normal("y", pm.Normal("mean"), 1.0, observed=Y)


def counts() -> None:
    pm.Normal("y", pm.Poisson("n", 2.0) + pm.Normal("mean"), 1.0, observed=Y)


def changing() -> None:
    trials = pm.Binomial("n", 3, 0.5)
    pm.Normal("y", pm.Binomial("k", trials, 0.5) + pm.Normal("mean"), 1.0, observed=Y)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (no_reals, "no real latent site"),
        (no_labels, "no discrete latent site(.|\n)*from_pymc"),
        (counts, "infinitely many values(.|\n)*Poisson"),
        (changing, "'k' has infinitely many values, or a number(.|\n)*fixed bounds"),
    ],
)
def test_discrete_variables_that_do_not_fit_are_refused(build: Any, words: str) -> None:
    with pm.Model() as model:
        build()
    with pytest.raises(TargetError, match=words):
        smcinfer.mixed_from_pymc(model)


def test_a_flat_prior_starts_at_the_mode() -> None:
    with pm.Model() as model:
        flat()
    target = from_pymc(model, reference="laplace")
    draws = base_draws(target, 0, 500)
    log_z = jax.scipy.special.logsumexp(each(target.log_potential, draws)) - np.log(500)
    exact = -1.5 * np.log(2 * np.pi) - 0.5 * np.sum((Y - Y.mean()) ** 2) + 0.5 * np.log(2 * np.pi / 3)
    assert float(log_z) == pytest.approx(exact, abs=0.3)


def test_wrong_calls() -> None:
    with unchecked():
        with pytest.raises(ArgumentError, match="no PyMC model"):
            from_pymc(3)
        with pytest.raises(ArgumentError, match="reference is of no known kind"):
            from_pymc(conjugate(), reference="mode")
