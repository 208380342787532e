r"""Posteriordb: the models are the database's own, judged by its reference draws.

Draws of a density :math:`\pi` with decaying tails obey Stein's identities, in every coordinate,

.. math:: E[\partial_i \log \pi] = 0, \qquad E[(x_i - c_i)\,\partial_i \log \pi] = -1

which need no normaliser and fail as soon as a prior, a scale or a Jacobian is off.
"""

import functools
import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from jax.scipy.special import logsumexp

from smcinfer.ground.errors import ArgumentError
from smcinfer.models import posteriordb
from smcinfer.models.posteriordb import MODELS, latent, regression
from smcinfer.models.posteriordb.database import gather, read_data, read_draws
from smcinfer.static import from_numpyro
from tests.statistics import assert_mean, assert_mean_one_log

NAMES = [
    "arK-arK",
    "arma-arma11",
    "diamonds-diamonds",
    "earnings-logearn_height",
    "eight_schools-eight_schools_noncentered",
    "gp_pois_regr-gp_pois_regr",
    "hmm_example-hmm_example",
    "kidiq-kidscore_interaction",
    "kidiq-kidscore_momhs",
    "kidiq-kidscore_momhsiq",
    "kilpisjarvi_mod-kilpisjarvi",
    "low_dim_gauss_mix-low_dim_gauss_mix",
    "nes2000-nes",
    "sblrc-blr",
]

FROM_MODE = [name for name in NAMES if MODELS[name.split("-")[1]].from_mode]

# The others run with the slow tests.
QUICK = ["arma-arma11", "diamonds-diamonds", "kilpisjarvi_mod-kilpisjarvi"]

BATCH = 50


def with_the_rest_slow(names):
    """Names as parameters of a test, all but the quick ones marked slow."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture
def folder(shared_data):
    return shared_data / "posteriordb"


@functools.cache
def in_double(folder, name):
    """A posterior and its reference vectors; for tests that run in float64."""
    posterior = posteriordb.load(folder, name)
    return posterior, posterior.reference_vectors()


def stein_residuals(log_prob, vectors):
    """Both identities' left sides less their right, batch means over draws: (batches, 2 dim)."""
    gradients = np.asarray(jax.jit(jax.vmap(jax.vmap(jax.grad(log_prob))))(vectors))
    x = np.asarray(vectors)
    scale = x.std(axis=(0, 1))
    residuals = np.concatenate([gradients * scale, (x - x.mean(axis=(0, 1))) * gradients + 1.0], axis=-1)
    # Draws follow one another along a chain: batches long against their memory are independent.
    return residuals.reshape(-1, BATCH, residuals.shape[-1]).mean(axis=1)


def fitted_proposal(vectors):
    """A Student t at the draws' mean and covariance."""
    x = np.asarray(vectors).reshape(-1, vectors.shape[-1])
    factor = np.linalg.cholesky(1.15 * np.cov(x.T))
    return dist.MultivariateStudentT(7.0, jnp.asarray(x.mean(axis=0)), jnp.asarray(factor))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_model_agrees_with_its_reference_draws(name, folder, x64):
    posterior, vectors = in_double(folder, name)
    draws = posterior.reference_draws()
    assert set(draws) == set(posterior.parameters)
    assert vectors.shape == (10, 1000, posterior.target.dim)
    values = posterior.target.constrain(vectors[3, 7])
    for parameter, recorded in draws.items():
        np.testing.assert_allclose(values[parameter], recorded[3, 7], rtol=1e-5, err_msg=parameter)
    assert_mean(stein_residuals(posterior.target.log_prob, vectors), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", with_the_rest_slow(name for name in NAMES if not name.startswith("gp")))
def test_evidence_by_importance_sampling(name, folder, x64):
    posterior, vectors = in_double(folder, name)
    log_z, error = posterior.log_z()
    proposal = fitted_proposal(vectors)
    x = proposal.sample(jax.random.key(0), (10_000,))
    log_weights = jax.jit(jax.vmap(lambda x: posterior.target.log_prob(x) - proposal.log_prob(x)))(x)
    estimates = logsumexp(log_weights.reshape(100, -1), axis=1) - np.log(100)
    assert error < 1e-3
    assert_mean_one_log(estimates, log_z)
    with pytest.raises(AssertionError):
        assert_mean_one_log(estimates, log_z + 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", with_the_rest_slow(name for name in FROM_MODE if not name.startswith("diamonds")))
def test_references_cover_their_posteriors(name, folder):
    posterior = posteriordb.load(folder, name)
    target = posterior.target
    x = jax.jit(lambda key: target.sample_base(key, 100_000))(jax.random.key(1))
    log_weights = jax.jit(jax.vmap(target.log_potential))(x)
    estimates = logsumexp(log_weights.reshape(50, -1), axis=1) - np.log(2000)
    assert target.base_mean is not None
    # In float32: the density is a sum over some hundred data, rounded at the third decimal, which the bias allows for.
    assert_mean_one_log(estimates, posterior.log_z()[0], bias=1e-2)


def without_noise_prior(data):
    """kidscore_momhs with a flat prior on the noise in place of the half-Cauchy."""
    beta, sigma = regression.flat("beta", 2), regression.flat_positive("sigma")
    design = np.column_stack([np.ones(data["N"]), data["mom_hs"]])
    regression.observe_regression(design, data["kid_score"], beta, sigma)


def with_narrow_means(data):
    """low_dim_gauss_mix with half the scale on the means."""
    mu = numpyro.sample("mu", latent.SortedNormal(1.0, 2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0).expand([2]).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5.0, 5.0))
    weights = dist.Categorical(probs=jnp.stack([theta, 1.0 - theta]))
    numpyro.sample("y", dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), obs=jnp.asarray(data["y"]))


def with_other_first_error(data):
    """arma11 that takes zero, not the mean, for the value before the first."""
    y = jnp.asarray(data["y"])
    mu = numpyro.sample("mu", dist.Normal(0.0, 10.0))
    phi = numpyro.sample("phi", dist.Normal(0.0, 2.0))
    theta = numpyro.sample("theta", dist.Normal(0.0, 2.0))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    before = jnp.concatenate([jnp.zeros(1), y[:-1]])
    _, errors = jax.lax.scan(lambda last, e: (e - theta * last,) * 2, jnp.zeros_like(mu), y - mu - phi * before)
    numpyro.factor("log_likelihood", dist.Normal(0.0, sigma).log_prob(errors).sum())


MUTANTS = {
    "noise prior": ("kidiq-kidscore_momhs", without_noise_prior),
    "mixture prior": ("low_dim_gauss_mix-low_dim_gauss_mix", with_narrow_means),
    "first error": ("arma-arma11", with_other_first_error),
}


@pytest.mark.dealt
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_changed_model_is_found_out(mutant, folder, x64):
    name, model = MUTANTS[mutant]
    posterior, vectors = in_double(folder, name)
    changed = from_numpyro(model, posterior.data, reference="laplace")
    with pytest.raises(AssertionError, match="mean differs"):
        assert_mean(stein_residuals(changed.log_prob, vectors), 0.0)


@pytest.mark.slow
def test_a_lost_jacobian_is_found_out(folder, x64):
    posterior, vectors = in_double(folder, "sblrc-blr")
    assert posterior.target.constrain(jnp.zeros(6))["sigma"] == 1.0
    with pytest.raises(AssertionError, match="mean differs"):
        log_prob = posterior.target.log_prob
        assert_mean(stein_residuals(lambda x: log_prob(x) - x[5], vectors), 0.0)


@pytest.mark.slow
def test_process_evidence_agrees_with_the_process_on_its_own_scale(folder, x64):
    # Given its length and height the process is near Gaussian: an inner importance sampler from the
    # Laplace approximation, an outer one from a Student t fitted to the draws.
    posterior, _ = in_double(folder, "gp_pois_regr-gp_pois_regr")
    data, draws = posterior.data, posterior.reference_draws()
    counts = jnp.asarray(data["k"], float)
    num = data["N"]
    scales = np.log(np.stack([draws["rho"], draws["alpha"]], axis=-1))
    proposal = fitted_proposal(scales)

    def log_weight(log_scales, noise):
        rho, alpha = jnp.exp(log_scales)
        factor = latent.process_factor(data["x"], rho, alpha)

        def log_joint(whitened):
            f = factor @ whitened
            return dist.Normal(0.0, 1.0).log_prob(whitened).sum() + dist.Poisson(jnp.exp(f)).log_prob(counts).sum()

        def newton(whitened, _):
            step = jnp.linalg.solve(-jax.hessian(log_joint)(whitened), jax.grad(log_joint)(whitened))
            return whitened + step * jnp.minimum(1.0, 2.0 / jnp.max(jnp.abs(step))), None

        mode, _ = jax.lax.scan(newton, jnp.zeros(num), None, length=40)
        precision = jnp.linalg.cholesky(-jax.hessian(log_joint)(mode))
        inner = mode + jax.scipy.linalg.solve_triangular(precision.T, noise.T, lower=False).T
        log_inner = dist.Normal(0.0, 1.0).log_prob(noise).sum(1) + jnp.log(jnp.diag(precision)).sum()
        likelihood = logsumexp(jax.vmap(log_joint)(inner) - log_inner) - jnp.log(noise.shape[0])
        prior = dist.Gamma(25.0, 4.0).log_prob(rho) + dist.HalfNormal(2.0).log_prob(alpha) + log_scales.sum()
        return likelihood + prior - proposal.log_prob(log_scales)

    key_scales, key_noise = jax.random.split(jax.random.key(0))
    outer = proposal.sample(key_scales, (2000,))
    log_weights = jax.jit(jax.vmap(log_weight))(outer, jax.random.normal(key_noise, (2000, 8, num)))
    log_z, error = posterior.log_z()
    assert error < 5e-3
    assert_mean_one_log(log_weights, log_z)
    with pytest.raises(AssertionError):
        assert_mean_one_log(log_weights, log_z + 0.1)


@pytest.mark.slow
def test_process_in_single_precision_stays_finite(folder):
    posterior = posteriordb.load(folder, "gp_pois_regr-gp_pois_regr")
    x = jax.jit(lambda key: posterior.target.sample_base(key, 2000))(jax.random.key(2))
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(posterior.target.log_prob)))(x)
    assert bool(jnp.isfinite(values).all()) and bool(jnp.isfinite(gradients).all())


def test_a_sorted_normal_is_normalised_and_sorted(x64):
    law = latent.SortedNormal(2.0, 2)
    edges = np.linspace(-20.0, 20.0, 801)
    first, second = np.meshgrid(edges, edges, indexing="ij")
    density = np.where(first < second, np.exp(law.log_prob(jnp.stack([first, second], -1))), 0.0)
    # Half a cell's weight on the diagonal, where the order changes.
    density = np.where(first == second, 0.5 * np.exp(law.log_prob(jnp.stack([first, second], -1))), density)
    assert density.sum() * (edges[1] - edges[0]) ** 2 == pytest.approx(1.0, abs=1e-3)
    draws = law.sample(jax.random.key(0), (100,))
    assert bool((draws[:, 0] < draws[:, 1]).all())


def test_qr_likelihood_is_the_plain_one(x64):
    rng = np.random.default_rng(0)
    design, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    beta, sigma = jnp.array([0.3, -1.0, 2.0]), jnp.asarray(0.7)
    with numpyro.handlers.trace() as trace:
        regression.observe_regression(design, y, beta, sigma)
    site = trace["log_likelihood"]
    plain = dist.Normal(jnp.asarray(design) @ beta, sigma).log_prob(y).sum()
    np.testing.assert_allclose(site["fn"].log_prob(site["value"]), plain, rtol=1e-10)


def test_forward_algorithm_sums_over_every_path(x64):
    y, mu = np.array([0.2, 1.4, 2.2, 0.1]), np.array([0.0, 2.0])
    transition = np.array([[0.8, 0.2], [0.3, 0.7]])
    paths = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    total = 0.0
    for path in paths:
        steps = np.prod(transition[path[:-1], path[1:]])
        total += 0.5 * steps * np.prod(scipy.stats.norm(mu[path], 1.0).pdf(y))
    value = latent.hidden_markov_log_likelihood(jnp.asarray(y), jnp.asarray(mu), jnp.log(transition))
    np.testing.assert_allclose(value, np.log(total), rtol=1e-10)


# Folders


@pytest.mark.slow
def test_the_prior_can_be_asked_for(folder, x64):
    started, _ = in_double(folder, "sblrc-blr")
    from_prior = posteriordb.load(folder, "sblrc-blr", reference={})
    assert started.target.base_mean is not None and from_prior.target.base_mean is None
    x = from_prior.target.sample_base(jax.random.key(0), 1)[0]
    assert from_prior.target.log_prob(x) == pytest.approx(float(started.target.log_prob(x)), rel=1e-10)
    sigma = from_prior.target.constrain(x)["sigma"]
    beta = from_prior.target.constrain(x)["beta"]
    prior = dist.Normal(0.0, 10.0).log_prob(beta).sum() + dist.HalfNormal(10.0).log_prob(sigma) + jnp.log(sigma)
    assert from_prior.target.log_base(x) == pytest.approx(float(prior), rel=1e-10)


def test_every_posterior_of_the_folder_is_written(folder):
    assert posteriordb.names(folder) == sorted(NAMES)


@pytest.fixture
def small_database(tmp_path):
    """A folder with the database's own layout and one posterior in it, one without a model."""
    y = [1.0, 0.5, 0.2, 0.6, 0.3, 0.1, 0.4, 0.2, 0.3, 0.5]
    chain = {"alpha": [0.1, 0.2], "beta[1]": [0.3, 0.4], "beta[2]": [0.5, 0.6], "sigma": [0.7, 0.8]}
    for place in ("posteriors", "data/data", "reference_posteriors/draws/draws"):
        (tmp_path / place).mkdir(parents=True)
    described = {"model_name": "arK", "data_name": "short", "reference_posterior_name": "short-arK"}
    described["dimensions"] = {"alpha": 1, "beta": 2, "sigma": 1}
    (tmp_path / "posteriors" / "short-arK.json").write_text(json.dumps(described))
    other = {**described, "model_name": "unwritten", "reference_posterior_name": None}
    (tmp_path / "posteriors" / "short-unwritten.json").write_text(json.dumps(other))
    bare = {**described, "reference_posterior_name": None}
    (tmp_path / "posteriors" / "short-bare.json").write_text(json.dumps(bare))
    (tmp_path / "data" / "data" / "short.json").write_text(json.dumps({"K": 2, "T": 10, "y": y}))
    draws = tmp_path / "reference_posteriors" / "draws" / "draws" / "short-arK.json.zip"
    with zipfile.ZipFile(draws, "w") as archive:
        archive.writestr("short-arK.json", json.dumps([chain, chain]))
    return tmp_path


def test_the_databases_own_layout_is_read(small_database):
    posterior = posteriordb.load(small_database, "short-arK")
    shapes = {name: value.shape for name, value in posterior.reference_draws().items()}
    assert shapes == {"alpha": (2, 2), "beta": (2, 2, 2), "sigma": (2, 2)}
    assert posterior.target.dim == 4 and posterior.reference_vectors().shape == (2, 2, 4)
    assert posteriordb.names(str(small_database)) == ["short-arK", "short-bare"]
    assert np.isfinite(posterior.log_z()[0])


def test_folder_mistakes_are_told(small_database):
    with pytest.raises(ArgumentError, match="no posteriordb folder"):
        posteriordb.names(small_database / "data")
    with pytest.raises(ArgumentError, match="no such posterior"):
        posteriordb.load(small_database, "short-nothing")
    with pytest.raises(ArgumentError, match="not written"):
        posteriordb.load(small_database, "short-unwritten")
    with pytest.raises(ArgumentError, match="no file for 'absent'"):
        read_data(small_database, "absent")
    with pytest.raises(ArgumentError, match="no file for 'absent'"):
        read_draws(small_database, "absent")
    with pytest.raises(ArgumentError, match="no reference draws"):
        posteriordb.load(small_database, "short-bare").reference_draws()


def test_columns_are_gathered_in_order():
    columns = {"b[1]": np.zeros((2, 3)), "b[2]": np.ones((2, 3)), "c": np.full((2, 3), 2.0)}
    gathered = gather(columns)
    assert gathered["b"].shape == (2, 3, 2) and gathered["c"].shape == (2, 3)
    np.testing.assert_array_equal(gathered["b"][0, 0], [0.0, 1.0])
