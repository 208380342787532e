"""The models of posteriordb with latent structure, as numpyro models.

Each comes with the map from the database's draws, which record transformed parameters, to the sites
of the model.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import scipy.integrate
import scipy.stats
from jax.scipy.special import log_ndtr
from numpyro.distributions import constraints

from smcinfer.models import eight_schools

Data = dict[str, Any]
Draw = dict[str, Any]


class SortedNormal(dist.Distribution):
    r"""The order statistics of independent equal Gaussians: :math:`k! \prod_j N(m_j; 0, s^2)` where sorted."""

    support = constraints.ordered_vector
    arg_constraints = {"scale": constraints.positive}
    pytree_data_fields = ("scale",)

    def __init__(self, scale: float, num: int) -> None:
        self.scale = scale
        super().__init__(event_shape=(num,))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        return jnp.sort(self.scale * jax.random.normal(key, (*sample_shape, *self.event_shape)), axis=-1)

    def log_prob(self, value: Any) -> Any:
        log_factorial = jax.scipy.special.gammaln(self.event_shape[0] + 1.0)
        return log_factorial + dist.Normal(0.0, self.scale).log_prob(value).sum(-1)


def arma11(data: Data) -> None:
    """ARMA(1, 1): each error carries into the next prediction; the error before the first is zero."""
    y = jnp.asarray(data["y"])
    mu = numpyro.sample("mu", dist.Normal(0.0, 10.0))
    phi = numpyro.sample("phi", dist.Normal(0.0, 2.0))
    theta = numpyro.sample("theta", dist.Normal(0.0, 2.0))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    # The first prediction takes the mean for the value before it.
    before = jnp.concatenate([mu[None], y[:-1]])
    _, errors = jax.lax.scan(lambda last, e: (e - theta * last,) * 2, jnp.zeros_like(mu), y - mu - phi * before)
    numpyro.factor("log_likelihood", dist.Normal(0.0, sigma).log_prob(errors).sum())


def hmm_example(data: Data) -> None:
    """Two hidden states with unit-variance Gaussian emissions; the path is summed out."""
    y = jnp.asarray(data["y"])
    rows = [numpyro.sample(f"theta{k}", dist.Dirichlet(jnp.ones(2))) for k in (1, 2)]
    # N(3, 1) x N(10, 1) restricted to 0 < first < second, drawn one after the other: the factor
    # makes up for the second's normaliser, which depends on the first.
    first = numpyro.sample("mu_1", dist.TruncatedNormal(3.0, 1.0, low=0.0))
    second = numpyro.sample("mu_2", dist.TruncatedNormal(10.0, 1.0, low=first))
    numpyro.factor("order", log_ndtr(10.0 - first) - _log_ordered_mass())
    mu = numpyro.deterministic("mu", jnp.stack([first, second]))
    numpyro.factor("log_likelihood", hidden_markov_log_likelihood(y, mu, jnp.log(jnp.stack(rows))))


@cache
def _log_ordered_mass() -> float:
    """Log probability that N(10, 1) exceeds N(3, 1), given that the latter is positive."""
    law = scipy.stats.truncnorm(-3.0, np.inf, loc=3.0)
    return float(np.log(scipy.integrate.quad(lambda m: law.pdf(m) * scipy.stats.norm.sf(m - 10.0), 0.0, 20.0)[0]))


def hidden_markov_log_likelihood(y: Any, mu: Any, log_transition: Any) -> Any:
    """Forward algorithm in logs, unit-variance Gaussian emissions, uniform initial state.

    Args:
        y: Float["steps"], observations.
        mu: Float["states"], emission means.
        log_transition: Float["states states"], row from, column to, nats.
    """
    log_emission = dist.Normal(mu, 1.0).log_prob(y[:, None])

    def step(log_forward: Any, emission: Any) -> tuple[Any, None]:
        return jax.nn.logsumexp(log_forward[:, None] + log_transition, axis=0) + emission, None

    log_forward, _ = jax.lax.scan(step, log_emission[0] - jnp.log(mu.shape[0]), log_emission[1:])
    return jax.nn.logsumexp(log_forward)


def hmm_sites(draw: Draw, data: Data) -> Draw:
    """Sites of `hmm_example` from one draw of the database."""
    del data
    return {**draw, "mu_1": draw["mu"][0], "mu_2": draw["mu"][1]}


def gp_pois_regr(data: Data) -> None:
    """Counts with a Gaussian-process log rate; the process is whitened."""
    rho = numpyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2.0))
    whitened = numpyro.sample("f_tilde", dist.Normal(0.0, 1.0).expand([data["N"]]).to_event(1))
    f = numpyro.deterministic("f", process_factor(data["x"], rho, alpha) @ whitened)
    numpyro.sample("k", dist.Poisson(jnp.exp(f)), obs=data["k"])


def process_factor(x: Any, rho: Any, alpha: Any) -> Any:
    r"""Lower Cholesky factor of a Gaussian process' squared-exponential covariance.

    .. math:: C_{ij} = \alpha^2 \exp\Bigl(-\frac{(x_i - x_j)^2}{2 \rho^2}\Bigr)

    Args:
        x: Float["n"], where the process is looked at.
        rho: length scale, in the units of ``x``.
        alpha: standard deviation of the process.

    Returns:
        Float["n n"], of C with a jitter on its diagonal.
    """
    x = jnp.asarray(x, jnp.result_type(float))
    # The database's jitter, 1e-10, is below what float32 resolves: there it is one part in 1e5 of
    # the variance, a noise of .003 alpha on a log rate known to .1.
    jitter = 1e-10 if x.dtype == jnp.float64 else 1e-5 * alpha**2
    covariance = alpha**2 * jnp.exp(-0.5 * ((x[:, None] - x[None, :]) / rho) ** 2)
    return jnp.linalg.cholesky(covariance + jitter * jnp.eye(x.shape[0]))


def gp_sites(draw: Draw, data: Data) -> Draw:
    """Sites of `gp_pois_regr` from one draw of the database."""
    factor = process_factor(data["x"], draw["rho"], draw["alpha"])
    return {**draw, "f_tilde": jax.scipy.linalg.solve_triangular(factor, draw["f"], lower=True)}


def low_dim_gauss_mix(data: Data) -> None:
    """A mixture of two Gaussians, told apart by the order of their means."""
    mu = numpyro.sample("mu", SortedNormal(2.0, 2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0).expand([2]).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5.0, 5.0))
    weights = dist.Categorical(probs=jnp.stack([theta, 1.0 - theta]))
    numpyro.sample("y", dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), obs=jnp.asarray(data["y"]))


def eight_schools_noncentered(data: Data) -> None:
    """Eight schools, standardised effects."""
    eight_schools.noncentred(data["sigma"], data["y"])


def eight_schools_sites(draw: Draw, data: Data) -> Draw:
    """Sites of `eight_schools_noncentered` from one draw of the database."""
    del data
    return {**draw, "theta_trans": (draw["theta"] - draw["mu"]) / draw["tau"]}
