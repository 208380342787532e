"""Targets from numpyro models: the joint prior is the base, what is observed is the potential."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from jax.scipy.special import logsumexp
from numpyro.contrib.control_flow import scan

from smcinfer.ground.errors import TargetError
from smcinfer.static import from_numpyro, posterior
from tests.density_tools import base_draws, each, log_grid_integral
from tests.statistics import assert_ks, assert_mean_one_log

EFFECTS = jnp.array([28.0, 8.0, -3.0])


def hierarchical(effects):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", 3):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("effect", dist.Normal(theta, 10.0), obs=effects)
    numpyro.deterministic("spread", theta.max() - theta.min())


@pytest.mark.slow
def test_numpyro_base_is_the_joint_prior_and_potential_the_likelihood(precision):
    target = from_numpyro(hierarchical, EFFECTS)
    x = base_draws(target, 0, 20)
    assert str(x.dtype) == precision and target.base_mean is None and target.num_data == 3
    values = each(target.constrain, x)
    assert values["theta"].shape == (20, 3) and values["spread"].shape == (20,)
    mu, tau, theta = values["mu"], values["tau"], values["theta"]
    prior = dist.Normal(0.0, 5.0).log_prob(mu) + dist.HalfCauchy(5.0).log_prob(tau)
    prior += dist.Normal(mu[:, None], tau[:, None]).log_prob(theta).sum(1) + jnp.log(tau)
    np.testing.assert_allclose(each(target.log_base, x), prior, rtol=1e-4, atol=1e-4)
    likelihood = dist.Normal(theta, 10.0).log_prob(EFFECTS).sum(1)
    np.testing.assert_allclose(each(target.log_potential, x), likelihood, rtol=1e-4)
    terms = each(lambda x: target.log_terms(x, jnp.arange(3)), x)
    np.testing.assert_allclose(terms.sum(1), likelihood, rtol=1e-4)
    np.testing.assert_allclose(each(target.unconstrain, values), x, rtol=1e-4, atol=1e-4)


def test_numpyro_base_draws_follow_the_joint_prior():
    target = from_numpyro(hierarchical, EFFECTS)
    values = each(target.constrain, base_draws(target, 1, 4000))
    assert_ks(np.asarray(values["tau"]), scipy.stats.halfcauchy(scale=5.0).cdf, num_comparisons=2)
    standardised = (values["theta"] - values["mu"][:, None]) / values["tau"][:, None]
    assert_ks(np.asarray(standardised[:, 0]), scipy.stats.norm.cdf, num_comparisons=2)


def moving_support(y):
    top = numpyro.sample("top", dist.Exponential(1.0))
    numpyro.sample("below", dist.Uniform(0.0, top))
    numpyro.factor("tilt", y * top)


def test_a_support_that_depends_on_another_site_is_normalised(x64):
    target = from_numpyro(moving_support, -0.5)
    assert log_grid_integral(target.log_base, 2, 40.0, 1600) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.slow
def test_plates_of_simplices_and_scaled_sites():
    def model(y):
        with numpyro.plate("rows", 2):
            rows = numpyro.sample("rows_", dist.Dirichlet(jnp.ones(3)))
        with numpyro.handlers.scale(scale=2.0):
            noise = numpyro.sample("noise", dist.Gamma(2.0, 1.0))
        mask = jnp.array([True, False])
        with numpyro.handlers.mask(mask=mask):
            numpyro.sample("y", dist.Normal(rows[:, 0], noise), obs=y)

    y = jnp.array([0.3, 9.0])
    target = from_numpyro(model, y)
    assert target.dim == 5 and target.log_terms is None
    x = base_draws(target, 2, 8)
    values = each(target.constrain, x)
    noise = values["noise"]
    gamma = dist.Gamma(2.0, 1.0).log_prob(noise)
    simplex = posterior(dist.Dirichlet(jnp.ones(3)).expand([2]), lambda theta: 0.0 * theta.sum())
    base = each(simplex.log_base, x[:, :4]) + gamma + jnp.log(noise)
    np.testing.assert_allclose(each(target.log_base, x), base, rtol=1e-4, atol=1e-4)
    # The masked datum counts for nothing, the scaled prior twice, its Jacobian once.
    potential = gamma + dist.Normal(values["rows_"][:, 0, 0], noise).log_prob(y[0])
    np.testing.assert_allclose(each(target.log_potential, x), potential, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_latent_sites_inside_a_scan():
    def model(y):
        noise = numpyro.sample("noise", dist.LogNormal(0.0, 1.0))

        def step(last, observed):
            level = numpyro.sample("level", dist.Normal(last, noise))
            width = numpyro.sample("width", dist.Gamma(2.0, noise))
            numpyro.sample("y", dist.Normal(level, width), obs=observed)
            return level, None

        scan(step, 0.0, y, length=4)

    y = jnp.array([0.5, 1.0, 0.2, -0.4])
    target = from_numpyro(model, y)
    x = base_draws(target, 3, 1)[0]
    v = target.constrain(x)
    before = jnp.concatenate([jnp.zeros(1), v["level"][:-1]])
    prior = dist.LogNormal(0.0, 1.0).log_prob(v["noise"]) + jnp.log(v["noise"])
    prior += dist.Normal(before, v["noise"]).log_prob(v["level"]).sum()
    prior += (dist.Gamma(2.0, v["noise"]).log_prob(v["width"]) + jnp.log(v["width"])).sum()
    np.testing.assert_allclose(target.log_base(x), prior, rtol=1e-5)
    np.testing.assert_allclose(
        target.log_potential(x), dist.Normal(v["level"], v["width"]).log_prob(y).sum(), rtol=1e-5
    )
    np.testing.assert_allclose(target.unconstrain(v), x, atol=1e-5)


def test_independent_gaussian_sites_make_a_gaussian_base():
    def independent(y):
        a = numpyro.sample("a", dist.Normal(1.0, 2.0))
        b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        numpyro.sample("y", dist.Normal(a + b.sum(), 1.0), obs=y)

    def chained(y):
        a = numpyro.sample("a", dist.Normal(1.0, 2.0))
        b = numpyro.sample("b", dist.Normal(a, 1.0))
        numpyro.sample("y", dist.Normal(b, 1.0), obs=y)

    target = from_numpyro(independent, 1.5)
    np.testing.assert_allclose(target.base_mean, [1.0, 0.0, 0.0])
    np.testing.assert_allclose(target.base_scale, np.diag([2.0, 1.0, 1.0]))
    assert from_numpyro(chained, 1.5).base_mean is None


X_LINE = np.linspace(-1.0, 1.0, 12)
Y_LINE = 0.5 + 2.0 * X_LINE + 0.3 * np.cos(20.0 * X_LINE)


def flat_line(y):
    slope = numpyro.sample("slope", dist.ImproperUniform(dist.constraints.real, (), (2,)))
    numpyro.sample("y", dist.Normal(slope[0] + slope[1] * X_LINE, 0.5), obs=y)


def flat_line_log_z():
    design = np.column_stack([np.ones(12), X_LINE])
    residual = Y_LINE - design @ np.linalg.lstsq(design, Y_LINE)[0]
    gram = np.linalg.slogdet(design.T @ design / 0.25)[1]
    return scipy.stats.norm(0, 0.5).logpdf(residual).sum() + np.log(2 * np.pi) - 0.5 * gram


@pytest.mark.dealt
@pytest.mark.parametrize(
    "reference",
    [
        "laplace",
        {"slope": dist.Normal(jnp.array([0.5, 2.0]), 1.0).to_event(1)},
        dist.MultivariateStudentT(5.0, jnp.array([0.5, 2.0]), jnp.eye(2)),
    ],
    ids=["laplace", "site", "vector"],
)
def test_an_improper_prior_starts_from_a_reference(reference):
    target = from_numpyro(flat_line, Y_LINE, reference=reference)
    x = base_draws(target, 4, 40_000)
    estimates = logsumexp(each(target.log_potential, x).reshape(100, -1), axis=1) - np.log(400)
    assert_mean_one_log(estimates, flat_line_log_z())
    with pytest.raises(AssertionError):
        assert_mean_one_log(estimates, flat_line_log_z() + 0.2)


def discrete_latent(y):
    k = numpyro.sample("k", dist.Bernoulli(0.5))
    numpyro.sample("y", dist.Normal(k, 1.0), obs=y)


def subsampled(y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", 4, subsample_size=2) as rows:
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y[rows])


def with_param(y):
    numpyro.sample("y", dist.Normal(numpyro.param("loc", 0.0), 1.0), obs=y)


def point_mass(y):
    numpyro.sample("y", dist.Normal(numpyro.sample("loc", dist.Delta(1.0)), 1.0), obs=y)


def masked_latent(y):
    with numpyro.handlers.mask(mask=False):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def nothing_observed(y):
    numpyro.sample("mu", dist.Normal(0.0, 1.0))


def nothing_latent(y):
    numpyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


def broken(y):
    raise KeyError("column")


Y = np.array([0.1, 0.2, 0.3, 0.4])
BAD_MODELS = {
    "discrete": (lambda: from_numpyro(discrete_latent, Y), "discrete latent sites: k"),
    "subsample": (lambda: from_numpyro(subsampled, Y), "subsampled plates: rows"),
    "param": (lambda: from_numpyro(with_param, Y), "neither drawn nor observed: loc"),
    "delta": (lambda: from_numpyro(point_mass, Y), "point masses: loc"),
    "mask": (lambda: from_numpyro(masked_latent, Y), "masked latent sites: mu"),
    "no observation": (lambda: from_numpyro(nothing_observed, Y), "observes nothing"),
    "no latent": (lambda: from_numpyro(nothing_latent, Y), "no latent site"),
    "raises": (lambda: from_numpyro(broken, Y), "the model raised KeyError"),
    "improper": (lambda: from_numpyro(flat_line, Y_LINE), "improper priors.*slope"),
    "unknown site": (lambda: from_numpyro(hierarchical, EFFECTS, reference={"nu": dist.Normal()}), "does not draw"),
    "wrong space": (lambda: from_numpyro(hierarchical, EFFECTS, reference={"tau": dist.Normal()}), "'tau'"),
    "wrong shape": (lambda: from_numpyro(flat_line, Y_LINE, reference={"slope": dist.Normal()}), "'slope'"),
    "wrong length": (lambda: from_numpyro(flat_line, Y_LINE, reference=dist.Normal().expand([3])), "length 2"),
    "wrong kind": (lambda: from_numpyro(flat_line, Y_LINE, reference="prior"), "no known kind"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_models_that_cannot_be_targets_are_refused(name):
    build, message = BAD_MODELS[name]
    with pytest.raises(TargetError, match=message):
        build()
