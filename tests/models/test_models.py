"""Ready models: their evidence and posterior are what they say, in more than one way."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from jax.scipy.special import logsumexp

from smcinfer.models import conjugate, eight_schools, logistic_regression
from smcinfer.static import from_numpyro, laplace_reference
from tests.statistics import assert_mean_one_log, z_threshold

NUM_REPLICATES = 100


def importance_log_z(log_weight, draws):
    """Log Z estimates, one a replicate, from draws of a proposal and their log weights."""
    log_weights = jax.jit(jax.vmap(log_weight))(draws).reshape(NUM_REPLICATES, -1)
    return logsumexp(log_weights, axis=1) - np.log(log_weights.shape[1])


def from_base(target, seed, size):
    """Log Z estimates by importance sampling from the base."""
    draws = jax.jit(lambda key: target.sample_base(key, NUM_REPLICATES * size))(jax.random.key(seed))
    return importance_log_z(target.log_potential, draws)


@pytest.mark.dealt
@pytest.mark.parametrize("name", conjugate.EXAMPLES)
def test_conjugate_evidence(name):
    exact = conjugate.EXAMPLES[name]()
    estimates = from_base(exact.target, 0, 2000)
    assert_mean_one_log(estimates, exact.log_z)
    with pytest.raises(AssertionError):
        assert_mean_one_log(estimates, exact.log_z + 0.3)


@pytest.mark.dealt
@pytest.mark.parametrize("name", [name for name in conjugate.EXAMPLES if name != "linear_regression_unknown_noise"])
def test_conjugate_posterior_is_joint_over_evidence(name, x64):
    exact = conjugate.EXAMPLES[name]()
    x = jax.jit(lambda key: exact.target.sample_base(key, 10))(jax.random.key(1))
    theta = jax.jit(jax.vmap(exact.target.constrain))(x)["theta"]
    # The Jacobian of theta cancels between prior and posterior: compare the two updates.
    prior = {
        "gaussian_mean": dist.Normal(0.0, 2.0),
        "multivariate_gaussian": dist.MultivariateNormal(jnp.zeros(2), jnp.array([[4.0, 1.0], [1.0, 2.0]])),
        "linear_regression": dist.Normal(0.0, 1.0).expand([3]).to_event(1),
        "beta_binomial": dist.Beta(2.0, 2.0),
        "gamma_poisson": dist.Gamma(2.0, 0.5),
    }[name]
    update = jax.jit(jax.vmap(exact.target.log_potential))(x) - exact.log_z
    claimed = jax.jit(lambda theta: exact.posterior.log_prob(theta) - prior.log_prob(theta))(theta)
    np.testing.assert_allclose(claimed, update, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_posterior_of_a_regression_with_unknown_noise(x64):
    exact = conjugate.EXAMPLES["linear_regression_unknown_noise"]()
    beta, variance = exact.posterior["beta"], exact.posterior["variance"]
    rate_over_shape = variance.rate / variance.concentration
    scale = beta.scale_tril / jnp.sqrt(rate_over_shape)
    log_prob = jax.jit(lambda x: exact.target.log_prob(x))
    for noise_variance in (0.05, 0.4, 3.0):
        point = beta.loc + jnp.array([0.2, -0.1])
        given_noise = dist.MultivariateNormal(beta.loc, scale_tril=scale * jnp.sqrt(noise_variance))
        expected = variance.log_prob(noise_variance) + given_noise.log_prob(point) + exact.log_z
        x = exact.target.unconstrain({"variance": jnp.asarray(noise_variance), "beta": point})
        # On the vectors the variance is a logarithm, whose Jacobian is the variance itself.
        np.testing.assert_allclose(log_prob(x), expected + jnp.log(noise_variance), rtol=1e-8)


def test_breast_cancer_data_are_standardised():
    design, labels = logistic_regression.breast_cancer_data()
    assert design.shape == (569, 31) and set(np.unique(labels)) == {0.0, 1.0}
    np.testing.assert_array_equal(design[:, 0], 1.0)
    np.testing.assert_allclose(design[:, 1:].mean(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(design[:, 1:].std(axis=0), 1.0, rtol=1e-10)


@pytest.mark.slow
def test_logistic_likelihood_and_its_numpyro_twin(precision):
    target = logistic_regression.breast_cancer()
    design, labels = logistic_regression.breast_cancer_data()
    twin = from_numpyro(logistic_regression.model, design, labels)
    x = target.sample_base(jax.random.key(0), 16)
    logits = design @ np.asarray(x, np.float64).T
    expected = -np.logaddexp(0.0, np.where(labels[:, None] == 1.0, -logits, logits)).sum(axis=0)
    rtol = 1e-5 if precision == "float32" else 1e-12
    values = jax.jit(jax.vmap(target.log_potential))(x)
    np.testing.assert_allclose(values, expected, rtol=rtol)
    np.testing.assert_allclose(jax.jit(jax.vmap(twin.log_prob))(x), jax.jit(jax.vmap(target.log_prob))(x), rtol=rtol)
    np.testing.assert_allclose(twin.base_scale, target.base_scale)
    assert target.constrain(x[0])["beta"].shape == twin.constrain(x[0])["beta"].shape == (31,)


def adapted_proposal(target, num_rounds, size):
    """A Student t whose moments come from rounds of importance sampling, weights flattened to keep many."""
    gaussian = laplace_reference(target.log_prob, target.dim, inflation=1.2)
    mean, factor = gaussian.mean, gaussian.scale_tril

    @jax.jit
    def weigh(key, mean, factor):
        proposal = dist.MultivariateStudentT(7.0, mean, factor)
        x = proposal.sample(key, (size,))
        return x, jax.vmap(target.log_prob)(x) - proposal.log_prob(x)

    for seed in range(num_rounds):
        x, log_weights = weigh(jax.random.key(seed), mean, factor)
        powers = jnp.linspace(0.0, 1.0, 51)
        flattened = jax.nn.softmax(powers[:, None] * log_weights, axis=1)
        enough = jnp.sum(1.0 / jnp.sum(flattened**2, axis=1) > size / 15)
        weights = flattened[enough - 1]
        mean = weights @ x
        factor = jnp.linalg.cholesky(((x - mean) * weights[:, None]).T @ (x - mean))
    return dist.MultivariateStudentT(7.0, mean, factor)


@pytest.mark.slow
def test_logistic_evidence_is_the_documented_one(x64):
    target = logistic_regression.breast_cancer()
    proposal = adapted_proposal(target, num_rounds=4, size=30_000)
    draws = proposal.sample(jax.random.key(10), (NUM_REPLICATES * 400,))
    ratios = np.exp(importance_log_z(lambda x: target.log_prob(x) - proposal.log_prob(x), draws))
    estimate = np.log(ratios.mean())
    own_error = ratios.std(ddof=1) / ratios.mean() / np.sqrt(NUM_REPLICATES)
    assert own_error < 0.04
    z = (estimate - logistic_regression.REFERENCE_LOG_Z) / np.hypot(own_error, logistic_regression.REFERENCE_LOG_Z_SE)
    assert abs(z) < z_threshold(), f"log Z {estimate:.3f} +- {own_error:.3f}, z = {z:.1f}"


@pytest.mark.parametrize("is_centred", [False, True], ids=["noncentred", "centred"])
def test_eight_schools_evidence(is_centred):
    target = eight_schools.eight_schools(is_centred=is_centred)
    estimates = from_base(target, 2, 1000)
    assert_mean_one_log(estimates, eight_schools.log_evidence())
    with pytest.raises(AssertionError):
        assert_mean_one_log(estimates, eight_schools.log_evidence() + 0.05)


@pytest.mark.slow
def test_both_forms_of_eight_schools_are_one_model(x64):
    centred, noncentred = (eight_schools.eight_schools(is_centred=flag) for flag in (True, False))
    values = noncentred.constrain(noncentred.sample_base(jax.random.key(3), 1)[0])
    x, y = noncentred.unconstrain(values), centred.unconstrain(values)
    np.testing.assert_allclose(noncentred.log_potential(x), centred.log_potential(y), rtol=1e-10)
    # The eight effects are scaled by tau, whose logarithm is a coordinate.
    np.testing.assert_allclose(noncentred.log_base(x) - centred.log_base(y), 8 * jnp.log(values["tau"]), rtol=1e-8)


def test_the_evidence_of_one_school_is_a_plain_integral():
    def integrand(tau):
        return scipy.stats.norm(0.0, np.sqrt(100.0 + 25.0 + tau**2)).pdf(12.0) * scipy.stats.halfcauchy(0, 5.0).pdf(tau)

    taus = np.geomspace(1e-6, 1e6, 200_001)
    expected = np.log(np.trapezoid(integrand(taus) * taus, np.log(taus)))
    assert eight_schools.log_evidence([10.0], [12.0]) == pytest.approx(expected, abs=1e-5)
