"""Priors whose draws round to the edge of their support: draws and density agree on the reals, in both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.integrate
from jax.scipy.special import logsumexp

from smcinfer import sample
from smcinfer.ground.errors import TargetError
from smcinfer.static import from_numpyro, log_density, posterior
from smcinfer.static.on_reals import Carried, on_reals
from tests.density_tools import base_draws, each
from tests.statistics import assert_ks, assert_mean_one_log

VAGUE = {
    "gamma": lambda: dist.Gamma(1e-3, 1e-3),
    "chi2": lambda: dist.Chi2(2e-3),
    "inverse gamma": lambda: dist.InverseGamma(1e-3, 1e-3),
    "beta": lambda: dist.Beta(1e-3, 2e-3),
    "dirichlet": lambda: dist.Dirichlet(jnp.array([1e-3, 2e-3])),
    "weibull": lambda: dist.Weibull(2.0, 1e-2),
    "log normal": lambda: dist.LogNormal(1.0, 300.0),
}
FURTHEST = 40_000.0

DATA = np.array([0.8, -1.1, 0.3, 1.9, -0.4])
PRECISION_LOG_Z = -13.847998
BETA_LOG_Z = -10.0875


def heads(theta):
    return 3.0 * jnp.log(theta["p"]) + 2.0 * jnp.log1p(-theta["p"])


def noise(theta):
    return dist.Normal(0.0, theta["tau"] ** -0.5).log_prob(DATA).sum()


def noise_model(y):
    tau = numpyro.sample("tau", dist.Gamma(1e-3, 1e-3))
    numpyro.sample("y", dist.Normal(0.0, tau**-0.5), obs=y)


ISSUE = {
    "beta": (lambda: posterior({"p": dist.Beta(1e-3, 1e-3)}, heads), BETA_LOG_Z),
    "precision": (lambda: posterior({"tau": dist.Gamma(1e-3, 1e-3)}, noise), PRECISION_LOG_Z),
    "numpyro": (lambda: from_numpyro(noise_model, DATA), PRECISION_LOG_Z),
    "reference of a site": (
        lambda: from_numpyro(noise_model, DATA, reference={"tau": dist.Gamma(2e-3, 1e-2)}),
        PRECISION_LOG_Z,
    ),
    "reference of a density": (
        lambda: log_density(
            lambda theta: noise(theta) + dist.Gamma(1e-3, 1e-3).log_prob(theta["tau"]), {"tau": dist.Gamma(2e-3, 1e-2)}
        ),
        PRECISION_LOG_Z,
    ),
}


def distribution_function(log_base):
    """Of the law that a log density on the line says, by a grid that is fine where draws of vague laws end."""
    ends = np.linspace(-60.0, 60.0, 6001)
    grid = np.unique(np.concatenate([np.linspace(-FURTHEST, FURTHEST, 40_001), ends]))
    density = np.exp(np.asarray(each(log_base, jnp.asarray(grid)[:, None]), np.float64))
    below = scipy.integrate.cumulative_trapezoid(density, grid, initial=0.0)
    return below[-1], lambda x: np.interp(x, grid, below)


@pytest.mark.dealt
@pytest.mark.parametrize("name", VAGUE)
def test_draws_follow_a_density_that_is_normalised_on_the_line(name, precision):
    target = posterior(VAGUE[name](), lambda theta: 0.0 * jnp.sum(theta))
    whole, below = distribution_function(target.log_base)
    assert whole == pytest.approx(1.0, abs=2e-3)
    draws = np.asarray(base_draws(target, 0, 4000))[:, 0]
    assert np.abs(draws).max() > 150.0
    assert_ks(draws, below, num_comparisons=len(VAGUE))


def test_draws_put_at_the_edge_are_found_out():
    target = posterior(VAGUE["gamma"](), lambda theta: 0.0 * theta)
    draws = np.clip(np.asarray(base_draws(target, 0, 4000))[:, 0], -87.0, 87.0)
    with pytest.raises(AssertionError):
        assert_ks(draws, distribution_function(target.log_base)[1])


@pytest.mark.dealt
@pytest.mark.parametrize("name", ISSUE)
def test_draws_of_the_base_weighed_by_the_potential_give_the_evidence(name):
    build, exact = ISSUE[name]
    target = build()
    log_weights = each(target.log_potential, base_draws(target, 1, 20_000))
    log_weights = jnp.where(jnp.isnan(log_weights), -jnp.inf, log_weights).reshape(20, -1)
    assert_mean_one_log(logsumexp(log_weights, axis=1) - np.log(1_000), exact, num_comparisons=len(ISSUE))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beta", "precision", "numpyro"])
def test_a_run_from_a_vague_prior_has_the_evidence(name, precision):
    build, exact = ISSUE[name]
    result = sample(jax.random.key(2), build(), num_runs=10, progress=False)
    assert_mean_one_log(result.log_z_runs, exact, num_comparisons=3)


WRAPPED = {
    "expanded": lambda: dist.Gamma(2.0, jnp.array([0.5, 3.0])).expand([3, 2]),
    "event": lambda: dist.Beta(jnp.array([0.5, 3.0]), 2.0).to_event(1),
    "expanded event": lambda: dist.InverseGamma(3.0, jnp.array([0.5, 3.0])).to_event(1).expand([3]),
    "rows": lambda: dist.Dirichlet(jnp.array([1.0, 2.0, 3.0])).expand([4]),
    "log of an event": lambda: dist.LogNormal(jnp.zeros(3), 2.0).to_event(1),
    "weibull": lambda: dist.Weibull(jnp.array([0.5, 3.0]), 1.5),
}


@pytest.mark.dealt
@pytest.mark.parametrize("name", WRAPPED)
def test_laws_on_the_reals_are_those_carried_there(name, x64):
    law = WRAPPED[name]()
    exact, carried = on_reals(law), Carried(law, dist.biject_to(law.support))
    assert not isinstance(exact, Carried)
    assert exact.batch_shape == carried.batch_shape == law.batch_shape and exact.event_shape == carried.event_shape
    x = carried.sample(jax.random.key(0), (20,))
    assert exact.sample(jax.random.key(0), (20,)).shape == x.shape
    np.testing.assert_allclose(exact.log_prob(x), carried.log_prob(x), rtol=1e-9, atol=1e-9)


def hierarchical(y):
    tau = numpyro.sample("tau", dist.Gamma(1e-3, 1e-3))
    theta = numpyro.sample("theta", dist.Normal(0.0, tau**-0.5))
    numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)


TOO_VAGUE = {
    "prior": (lambda: posterior({"nu": dist.StudentT(0.01, 0.0, 1.0)}, lambda theta: 0.0 * theta["nu"]), "prior 'nu'"),
    "reference": (lambda: log_density(lambda theta: -(theta**2), dist.Pareto(1.0, 1e-3)), "Pareto"),
    "site below a vague one": (lambda: from_numpyro(hierarchical, 0.3), "site 'theta'"),
}


@pytest.mark.parametrize("name", TOO_VAGUE)
def test_laws_with_no_exact_form_are_refused_where_their_draws_are_lost(name):
    build, message = TOO_VAGUE[name]
    with pytest.raises(TargetError, match=message) as error:
        build()
    assert "TransformedDistribution" in str(error.value)
