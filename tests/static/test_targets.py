"""Static targets: the base is a normalised density with exact draws, the potential is what is left."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.scipy.special import logsumexp

from smcinfer.ground.errors import ArgumentError, SmcinferError, TargetError
from smcinfer.static import laplace_reference, log_density, posterior
from smcinfer.static.contract import check_callable
from smcinfer.static.on_reals import to_finite
from smcinfer.static.prior import Prior
from tests.density_tools import base_draws, each, log_grid_integral
from tests.statistics import assert_ks, assert_mean_one_log

SCALAR_PRIORS = {
    "normal": lambda: dist.Normal(1.0, 2.0),
    "student": lambda: dist.StudentT(3.0, 0.5, 2.0),
    "gamma": lambda: dist.Gamma(2.0, 1.5),
    "half_cauchy": lambda: dist.HalfCauchy(2.0),
    "log_normal": lambda: dist.LogNormal(0.3, 0.7),
    "uniform": lambda: dist.Uniform(-1.0, 3.0),
    "beta": lambda: dist.Beta(2.0, 3.0),
    "truncated": lambda: dist.TruncatedNormal(0.0, 1.0, low=0.5),
    "affine": lambda: dist.TransformedDistribution(dist.Normal(0.0, 1.0), dist.transforms.AffineTransform(2.0, 3.0)),
}


@pytest.mark.parametrize("name", SCALAR_PRIORS)
def test_base_is_normalised_on_the_unconstrained_line(name, x64):
    target = posterior(SCALAR_PRIORS[name](), lambda theta: 0.0 * theta)
    assert log_grid_integral(target.log_base, 1, 300.0, 200_000) == pytest.approx(0.0, abs=2e-3)


def test_base_of_a_simplex_is_normalised(x64):
    target = posterior(dist.Dirichlet(jnp.array([2.0, 1.0, 1.5])), lambda theta: theta[0])
    assert target.dim == 2
    assert log_grid_integral(target.log_base, 2, 20.0, 800) == pytest.approx(0.0, abs=1e-3)


def test_a_base_without_its_jacobian_is_not_normalised(x64):
    law = dist.Gamma(2.0, 1.5)
    with pytest.raises(AssertionError):
        integral = log_grid_integral(lambda x: law.log_prob(jnp.exp(x[0])), 1, 300.0, 200_000)
        assert integral == pytest.approx(0.0, abs=2e-3)


@pytest.mark.dealt
@pytest.mark.parametrize("name", ["normal", "gamma", "half_cauchy", "uniform", "beta"])
def test_base_draws_follow_the_prior(name):
    law = SCALAR_PRIORS[name]()
    target = posterior(law, lambda theta: theta)
    draws = each(target.constrain, base_draws(target, 0, 4000))["theta"]
    assert_ks(np.asarray(draws), lambda value: np.asarray(law.cdf(jnp.asarray(value, jnp.float32))))


@pytest.mark.slow
def test_vectors_values_and_names_go_round(precision):
    prior = {
        "scale": dist.HalfNormal(1.0).expand([2]),
        "nested": {"weights": dist.Dirichlet(jnp.ones(3)), "shift": dist.Normal(jnp.zeros((2, 2)), 1.0)},
    }
    target = posterior(prior, lambda theta: theta["scale"].sum() + theta["nested"]["shift"].sum())
    x = base_draws(target, 1, 50)
    assert x.shape == (50, target.dim) == (50, 2 + 4 + 2) and str(x.dtype) == precision
    values = each(target.constrain, x)
    shapes = {name: value.shape[1:] for name, value in values.items()}
    assert shapes == {"scale": (2,), "nested.weights": (3,), "nested.shift": (2, 2)}
    np.testing.assert_allclose(each(target.unconstrain, values), x, atol=1e-4)
    assert each(target.log_prob, x).dtype == x.dtype


def test_bare_prior_is_named_theta_and_keeps_its_shape():
    target = posterior(dist.Normal(0.0, 1.0).expand([3]).to_event(1), lambda theta: -(theta @ theta))
    assert {name: value.shape for name, value in target.constrain(jnp.zeros(3)).items()} == {"theta": (3,)}


@pytest.mark.slow
def test_gaussian_bases_are_recognised_where_they_are():
    covariance = jnp.array([[2.0, 0.6], [0.6, 1.0]])
    prior = {
        "a": dist.Normal(jnp.array([1.0, 2.0]), 3.0).to_event(1),
        "b": dist.MultivariateNormal(jnp.array([-1.0, 0.5]), covariance).expand([2]),
        "c": dist.LogNormal(0.2, 0.4),
    }
    target = posterior(prior, lambda theta: theta["c"])
    gaussian = dist.MultivariateNormal(target.base_mean, scale_tril=target.base_scale)
    x = base_draws(target, 2, 5)
    np.testing.assert_allclose(each(target.log_base, x), gaussian.log_prob(x), rtol=1e-5)


@pytest.mark.parametrize("name", ["student", "gamma", "uniform", "truncated"])
def test_other_bases_are_not_called_gaussian(name):
    assert posterior(SCALAR_PRIORS[name](), lambda theta: theta).base_mean is None


def test_terms_sum_to_the_potential(precision):
    data = {"x": np.arange(6.0), "y": np.array([0.1, 1.2, 1.9, 3.2, 4.1, 5.3])}

    def log_likelihood(theta, datum):
        return dist.Normal(theta * datum["x"], 1.0).log_prob(datum["y"])

    target = posterior(dist.Normal(0.0, 2.0), log_likelihood, data)
    x = jnp.array([0.7])
    terms = target.log_terms(x, jnp.arange(6))
    assert target.num_data == 6 and str(terms.dtype) == precision
    np.testing.assert_allclose(terms.sum(), target.log_potential(x), rtol=1e-5)
    np.testing.assert_allclose(target.log_terms(x, jnp.array([4, 1])), terms[jnp.array([4, 1])], rtol=1e-6)


def test_the_tempered_density_scales_the_potential_only():
    target = posterior(dist.Normal(0.0, 1.0), lambda theta: -3.0 * theta**2)
    x = jnp.array([0.5])
    half = target.density(0.5)(x)
    np.testing.assert_allclose(half, target.log_base(x) + 0.5 * target.log_potential(x), rtol=1e-6)
    np.testing.assert_allclose(target.density(1.0)(x), target.log_prob(x), rtol=1e-6)


def test_new_data_do_not_compile_again():
    traces = []

    def log_likelihood(theta, datum):
        traces.append(None)
        return dist.Normal(theta, 1.0).log_prob(datum)

    evaluate = eqx.filter_jit(lambda target, x: target.log_prob(x))
    for seed in range(3):
        data = np.random.default_rng(seed).normal(size=4)
        target = posterior(dist.Normal(0.0, 1.0), log_likelihood, data)
        before = len(traces)
        evaluate(target, jnp.zeros(1))
        traced_by_call = len(traces) - before
        assert traced_by_call == (1 if seed == 0 else 0)


@pytest.mark.slow
def test_log_density_normalises_to_the_integral():
    # A Gaussian integral in two dimensions, one of them on the positive half line.
    def fn(theta):
        return -0.5 * (theta["a"] - 1.0) ** 2 - 0.5 * theta["b"] ** 2 / 4.0

    target = log_density(fn, {"a": dist.StudentT(4.0, 0.0, 2.0), "b": dist.HalfCauchy(2.0)})
    x = base_draws(target, 3, 100_000)
    estimates = logsumexp(each(target.log_potential, x).reshape(100, -1), axis=1) - np.log(1000)
    exact = 0.5 * np.log(2 * np.pi) + np.log(0.5) + 0.5 * np.log(2 * np.pi * 4.0)
    assert_mean_one_log(estimates, exact)
    with pytest.raises(AssertionError):
        assert_mean_one_log(estimates, exact + np.log(2.0))


def test_draws_at_the_edge_stay_finite(precision):
    dtype = jnp.dtype(precision)
    edge = to_finite(jnp.log(jnp.array([0.0, 1.0], dtype)))
    assert bool(jnp.isfinite(edge).all()) and edge.dtype == dtype
    assert float(jnp.exp(edge[0])) > 0.0
    assert jnp.isnan(to_finite(jnp.array([jnp.nan]))[0])


BAD_POSTERIORS = {
    "vector": (lambda: posterior(dist.Normal(0, 1).expand([569]), lambda theta: theta), r"\.sum\(\)"),
    "tuple": (lambda: posterior(dist.Normal(0, 1), lambda theta: (theta, theta)), "returned a tuple"),
    "boolean": (lambda: posterior(dist.Normal(0, 1), lambda theta: theta > 0), "dtype bool"),
    "raises": (lambda: posterior(dist.Normal(0, 1), lambda theta: theta["a"]), "log_likelihood raised"),
    "branches": (lambda: posterior(dist.Normal(0, 1), lambda theta: 1.0 if theta > 0 else 0.0), "jnp.where"),
    "no function": (lambda: check_callable("log_likelihood", 3.0), "log_likelihood is not callable"),
    "no prior": (lambda: posterior({"a": 3.0}, lambda theta: 0.0), "'a' is not a distribution"),
    "empty": (lambda: posterior({}, lambda theta: 0.0), "prior is empty"),
    "discrete": (lambda: posterior({"n": dist.Poisson(2.0)}, lambda theta: 0.0), "'n' is discrete"),
    "point mass": (lambda: posterior(dist.Delta(2.0), lambda theta: 0.0), "point mass"),
    "improper": (
        lambda: posterior(dist.ImproperUniform(dist.constraints.real, (), ()), lambda theta: 0.0),
        "log_density",
    ),
    "no bijection": (lambda: posterior(dist.ProjectedNormal(jnp.ones(3)), lambda theta: 0.0), "no known map"),
    "ragged data": (
        lambda: posterior(dist.Normal(0, 1), lambda theta, d: theta, {"a": np.ones(3), "b": np.ones(2)}),
        "leading axis",
    ),
    "scalar data": (lambda: posterior(dist.Normal(0, 1), lambda theta, d: theta, 2.0), "leading axis"),
    "no data": (lambda: posterior(dist.Normal(0, 1), lambda theta, d: theta, np.ones(0)), "empty"),
    "text data": (lambda: posterior(dist.Normal(0, 1), lambda theta, d: theta, ["a"]), "read as arrays"),
    "forgot data": (lambda: posterior(dist.Normal(0, 1), lambda theta, d: theta), "log_likelihood raised TypeError"),
    "log_density": (lambda: log_density(lambda theta: theta, dist.Normal(0, 1).expand([2])), "fn returned shape"),
}


@pytest.mark.parametrize("name", BAD_POSTERIORS)
def test_mistakes_are_told_before_any_run(name):
    build, message = BAD_POSTERIORS[name]
    with pytest.raises(SmcinferError, match=message):
        build()


def test_the_laplace_reference_of_a_gaussian_is_that_gaussian_made_wider():
    mean, covariance = jnp.array([3.0, -200.0]), jnp.array([[4.0, 30.0], [30.0, 900.0]])
    law = laplace_reference(dist.MultivariateNormal(mean, covariance).log_prob, 2, inflation=2.0)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(law.covariance_matrix, 4.0 * covariance, rtol=1e-3)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: x[0], "no mode|no strict maximum"),
        (lambda x: -(x[0] ** 2) + 0.0 * x[1], "no strict maximum"),
        (lambda x: jnp.log(x[0]) - x[0] ** 2 - x[1] ** 2, "not finite"),
    ],
    ids=["unbounded", "flat direction", "outside the support"],
)
def test_the_laplace_reference_refuses_what_has_no_mode(fn, message):
    with pytest.raises(TargetError, match=message):
        laplace_reference(fn, 2)


def test_the_laplace_reference_refuses_to_shrink():
    with pytest.raises(ArgumentError, match="inflation"):
        laplace_reference(lambda x: -x @ x, 2, inflation=0.5)


def test_a_prior_is_built_of_distributions_in_the_order_of_their_names():
    prior = Prior.of({"b": dist.Normal(0.0, 1.0), "a": dist.Gamma(1.0, 1.0).expand([2])})
    assert prior.names == ("a", "b") and prior.shapes == ((2,), ()) and prior.dim == 3
