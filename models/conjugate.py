"""Conjugate models: targets whose evidence and posterior are known exactly.

What a sampler says can be compared with what is true. The evidence is computed in float64 on the host.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import scipy.stats
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, gammaln

from smcinfer.static import StaticTarget, from_numpyro, posterior

Vector = NDArray[np.float64]


class Conjugate(eqx.Module):
    """A target with its answers.

    Attributes:
        target: what to sample.
        log_z: exact log evidence, nats.
        posterior: exact posterior of ``theta``; a dict of the marginals where the draws have several names.
    """

    target: StaticTarget
    log_z: float = eqx.field(static=True)
    posterior: dist.Distribution | dict[str, dist.Distribution]


def gaussian_mean(data: ArrayLike, *, loc: float = 0.0, scale: float = 1.0, noise: float = 1.0) -> Conjugate:
    r"""Unknown mean of a Gaussian of known scale.

    .. math:: \theta \sim N(m, s^2), \quad y_i \sim N(\theta, \sigma^2)

    Args:
        data: (n,), observations.
        loc, scale: prior mean and standard deviation.
        noise: standard deviation of one observation.
    """
    y = np.asarray(data, np.float64)
    precision = 1 / scale**2 + len(y) / noise**2
    mean = (loc / scale**2 + y.sum() / noise**2) / precision
    covariance = noise**2 * np.eye(len(y)) + scale**2
    log_z = scipy.stats.multivariate_normal(np.full(len(y), loc), covariance).logpdf(y)
    target = posterior(dist.Normal(loc, scale), lambda theta, datum: dist.Normal(theta, noise).log_prob(datum), y)
    return Conjugate(target, float(log_z), dist.Normal(mean, precision**-0.5))


def multivariate_gaussian(
    data: ArrayLike, *, loc: ArrayLike, covariance: ArrayLike, noise_covariance: ArrayLike
) -> Conjugate:
    r"""Unknown mean of a Gaussian of known covariance, in several dimensions.

    .. math:: \theta \sim N(m, S), \quad y_i \sim N(\theta, \Sigma)

    Args:
        data: (n, d), observations.
        loc: (d,), prior mean.
        covariance: (d, d), of the prior.
        noise_covariance: (d, d), of one observation.
    """
    y, m, s, noise = (np.asarray(part, np.float64) for part in (data, loc, covariance, noise_covariance))
    num_data = len(y)
    precision = np.linalg.inv(s) + num_data * np.linalg.inv(noise)
    post = np.linalg.inv(precision)
    mean = post @ (np.linalg.solve(s, m) + np.linalg.solve(noise, y.sum(0)))
    joint = np.kron(np.eye(num_data), noise) + np.kron(np.ones((num_data, num_data)), s)
    log_z = scipy.stats.multivariate_normal(np.tile(m, num_data), joint).logpdf(y.reshape(-1))
    likelihood_scale = jnp.asarray(np.linalg.cholesky(noise))

    def log_likelihood(theta: Any, datum: Any) -> Any:
        return dist.MultivariateNormal(theta, scale_tril=likelihood_scale).log_prob(datum)

    prior = dist.MultivariateNormal(jnp.asarray(m), scale_tril=jnp.asarray(np.linalg.cholesky(s)))
    exact = dist.MultivariateNormal(jnp.asarray(mean), scale_tril=jnp.asarray(np.linalg.cholesky(post)))
    return Conjugate(posterior(prior, log_likelihood, y), float(log_z), exact)


def linear_regression(design: ArrayLike, y: ArrayLike, *, scale: float = 1.0, noise: float = 1.0) -> Conjugate:
    r"""Linear regression with known noise.

    .. math:: \theta \sim N(0, s^2 I), \quad y \sim N(X \theta, \sigma^2 I)

    Args:
        design: (n, d), the matrix X.
        y: (n,), responses.
        scale: prior standard deviation of every coefficient.
        noise: standard deviation of one response.
    """
    x, y = np.asarray(design, np.float64), np.asarray(y, np.float64)
    num_data, dim = x.shape
    post = np.linalg.inv(np.eye(dim) / scale**2 + x.T @ x / noise**2)
    mean = post @ x.T @ y / noise**2
    covariance = noise**2 * np.eye(num_data) + scale**2 * x @ x.T
    log_z = scipy.stats.multivariate_normal(np.zeros(num_data), covariance).logpdf(y)

    def log_likelihood(theta: Any, datum: Any) -> Any:
        row, response = datum
        return dist.Normal(row @ theta, noise).log_prob(response)

    prior = dist.Normal(0.0, scale).expand([dim]).to_event(1)
    exact = dist.MultivariateNormal(jnp.asarray(mean), scale_tril=jnp.asarray(np.linalg.cholesky(post)))
    return Conjugate(posterior(prior, log_likelihood, (x, y)), float(log_z), exact)


def linear_regression_unknown_noise(
    design: ArrayLike, y: ArrayLike, *, scale: float = 1.0, shape: float = 2.0, rate: float = 1.0
) -> Conjugate:
    r"""Linear regression with unknown noise: the normal-inverse-gamma model.

    .. math:: \sigma^2 \sim \mathrm{InvGamma}(a, b), \quad \beta \sim N(0, s^2 \sigma^2 I), \quad
              y \sim N(X \beta, \sigma^2 I)

    The marginal posteriors are a multivariate Student t of ``beta`` and an inverse gamma of ``variance``.

    Args:
        design: (n, d), the matrix X.
        y: (n,), responses.
        scale: prior standard deviation of a coefficient, in units of the noise.
        shape, rate: of the prior of the noise variance.
    """
    x, y = np.asarray(design, np.float64), np.asarray(y, np.float64)
    num_data, dim = x.shape
    precision = np.eye(dim) / scale**2 + x.T @ x
    post = np.linalg.inv(precision)
    mean = post @ x.T @ y
    post_shape = shape + num_data / 2
    post_rate = rate + 0.5 * (y @ y - mean @ precision @ mean)
    log_z = (
        -0.5 * num_data * np.log(2 * np.pi)
        - 0.5 * np.linalg.slogdet(precision)[1]
        - dim * np.log(scale)
        + shape * np.log(rate)
        - post_shape * np.log(post_rate)
        + gammaln(post_shape)
        - gammaln(shape)
    )

    def model(x: Any, y: Any) -> None:
        variance = numpyro.sample("variance", dist.InverseGamma(shape, rate))
        noise = jnp.sqrt(variance)
        beta = numpyro.sample("beta", dist.Normal(0.0, scale * noise).expand([dim]).to_event(1))
        numpyro.sample("y", dist.Normal(x @ beta, noise), obs=y)

    factor = jnp.asarray(np.linalg.cholesky(post_rate / post_shape * post))
    exact: dict[str, dist.Distribution] = {
        "variance": dist.InverseGamma(post_shape, post_rate),
        "beta": dist.MultivariateStudentT(2 * post_shape, jnp.asarray(mean), factor),
    }
    return Conjugate(from_numpyro(model, jnp.asarray(x), jnp.asarray(y)), float(log_z), exact)


def beta_binomial(counts: ArrayLike, trials: ArrayLike, *, a: float = 1.0, b: float = 1.0) -> Conjugate:
    r"""Unknown success probability.

    .. math:: \theta \sim \mathrm{Beta}(a, b), \quad y_i \sim \mathrm{Binomial}(n_i, \theta)

    Args:
        counts: (n,), successes.
        trials: (n,), tries.
        a, b: of the prior.
    """
    y, n = np.asarray(counts, np.float64), np.asarray(trials, np.float64)
    choose = gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1)
    post_a, post_b = a + y.sum(), b + (n - y).sum()
    log_z = choose.sum() + betaln(post_a, post_b) - betaln(a, b)

    def log_likelihood(theta: Any, datum: Any) -> Any:
        successes, tries = datum
        return dist.Binomial(tries, probs=theta).log_prob(successes)

    target = posterior(dist.Beta(a, b), log_likelihood, (np.asarray(counts), np.asarray(trials)))
    return Conjugate(target, float(log_z), dist.Beta(post_a, post_b))


def gamma_poisson(counts: ArrayLike, *, shape: float = 1.0, rate: float = 1.0) -> Conjugate:
    r"""Unknown rate of counts.

    .. math:: \theta \sim \mathrm{Gamma}(a, b), \quad y_i \sim \mathrm{Poisson}(\theta)

    Args:
        counts: (n,), counts.
        shape, rate: of the prior.
    """
    y = np.asarray(counts, np.float64)
    post_shape, post_rate = shape + y.sum(), rate + len(y)
    log_z = shape * np.log(rate) - post_shape * np.log(post_rate) + gammaln(post_shape) - gammaln(shape)
    log_z -= gammaln(y + 1).sum()
    target = posterior(
        dist.Gamma(shape, rate), lambda theta, datum: dist.Poisson(theta).log_prob(datum), np.asarray(counts)
    )
    return Conjugate(target, float(log_z), dist.Gamma(post_shape, post_rate))


def _regression_data(num_data: int, dim: int) -> tuple[Vector, Vector]:
    """A fixed design of cosines, and responses that are not quite linear in it."""
    grid = (np.arange(num_data) + 0.5) / num_data
    design = np.cos(np.pi * grid[:, None] * np.arange(dim)[None, :])
    return design, design @ np.linspace(1.0, -0.5, dim) + 0.3 * np.sin(37.0 * grid)


EXAMPLES: dict[str, Callable[[], Conjugate]] = {
    "gaussian_mean": lambda: gaussian_mean([0.8, 1.9, 1.1, 2.4, 0.3], scale=2.0),
    "multivariate_gaussian": lambda: multivariate_gaussian(
        [[1.0, -0.5], [1.6, 0.2], [0.7, -1.1]],
        loc=[0.0, 0.0],
        covariance=[[4.0, 1.0], [1.0, 2.0]],
        noise_covariance=[[1.0, -0.4], [-0.4, 0.5]],
    ),
    "linear_regression": lambda: linear_regression(*_regression_data(8, 3), scale=1.0, noise=0.8),
    "linear_regression_unknown_noise": lambda: linear_regression_unknown_noise(*_regression_data(8, 2)),
    "beta_binomial": lambda: beta_binomial([3, 7, 5], [10, 12, 9], a=2.0, b=2.0),
    "gamma_poisson": lambda: gamma_poisson([4, 2, 6, 3], shape=2.0, rate=0.5),
}
"""One small instance of each model, by name."""
