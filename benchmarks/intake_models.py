"""Eight small models as people write them, each in numpyro and in PyMC with the same law, and log Z of each by quadrature.

The data are the same thirty numbers. The hierarchical model is summed over its groups for the quadrature; what is left of
every model has at most three dimensions.
"""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import smcinfer

X = np.random.default_rng(0).normal(size=30)
EFFECTS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
ERRORS = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
GRID = np.linspace(0, 3, 15)
LEVELS = np.digitize(X + 0.5 * np.sin(7 * X), [-0.5, 0.7])
LIVES, END = np.exp(X), 2.0
TWO_HEAPS = np.concatenate([X[:12] * 0.5 - 2, X[12:] * 0.5 + 2])
WALK = np.convolve(X, 0.7 ** np.arange(10))[:30]
COUNTS = np.where(X > 0.2, np.floor(3 + X), 0).astype(int)
PAIRS = np.stack([X, 0.6 * X + 0.8 * np.roll(X, 1)], axis=1)


def hierarchical() -> None:
    """Eight schools, in plates."""
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfNormal(5))
    with numpyro.plate("school", 8):
        z = numpyro.sample("z", dist.Normal())
        numpyro.sample("y", dist.Normal(mu + tau * z, ERRORS), obs=EFFECTS)


def collapsed() -> None:
    """Eight schools without the schools."""
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfNormal(5))
    numpyro.sample("y", dist.Normal(mu, jnp.sqrt(tau**2 + ERRORS**2)), obs=EFFECTS)


def process() -> None:
    """A Gaussian process on 15 points."""
    scale, length = numpyro.sample("scale", dist.LogNormal()), numpyro.sample("length", dist.LogNormal())
    squares = (GRID[:, None] - GRID) ** 2
    kernel = scale * jnp.exp(-0.5 * squares / length**2) + 0.1 * jnp.eye(15)
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(15), kernel), obs=np.sin(2 * GRID))


def ordinal() -> None:
    """Ordered categories."""
    slope = numpyro.sample("slope", dist.Normal(0, 2))
    first, gap = numpyro.sample("first", dist.Normal(0, 2)), numpyro.sample("gap", dist.HalfNormal(2))
    numpyro.sample("y", dist.OrderedLogistic(slope * X, jnp.stack([first, first + gap])), obs=LEVELS)


def censored() -> None:
    """Lifetimes cut off at two."""
    rate = numpyro.sample("rate", dist.Gamma(2.0, 2.0))
    lives = dist.RightCensoredDistribution(dist.Exponential(rate), censored=(LIVES >= END).astype(float))
    numpyro.sample("y", lives, obs=np.minimum(LIVES, END))


def mixture() -> None:
    """A mixture of two Gaussians, ordered by a gap."""
    low, gap = numpyro.sample("low", dist.Normal(0, 3)), numpyro.sample("gap", dist.Gamma(4.0, 1.0))
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    laws = dist.Normal(jnp.stack([low, low + gap]), 0.7)
    both = dist.MixtureSameFamily(dist.Categorical(jnp.stack([share, 1 - share])), laws)
    numpyro.sample("y", both.expand([30]), obs=TWO_HEAPS)


def autoregressive() -> None:
    """AR(1), the first value from N(0, 1)."""
    rho, sd = numpyro.sample("rho", dist.Uniform(-1, 1)), numpyro.sample("sd", dist.HalfNormal(2))
    numpyro.sample("first", dist.Normal(), obs=WALK[0])
    numpyro.sample("y", dist.Normal(rho * WALK[:-1], sd), obs=WALK[1:])


def inflated() -> None:
    """A zero-inflated Poisson law."""
    gate, rate = numpyro.sample("gate", dist.Beta(1.0, 1.0)), numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    numpyro.sample("y", dist.ZeroInflatedPoisson(gate, rate).expand([30]), obs=COUNTS)


def correlated() -> None:
    """An LKJ prior of a correlation, and two scales."""
    sds = numpyro.sample("sds", dist.HalfNormal().expand([2]).to_event(1))
    factor = numpyro.sample("factor", dist.LKJCholesky(2, 2.0))
    law = dist.MultivariateNormal(jnp.zeros(2), scale_tril=sds[:, None] * factor)
    numpyro.sample("y", law.expand([30]), obs=PAIRS)


NUMPYRO: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (hierarchical, process, ordinal, censored, mixture, autoregressive, inflated, correlated)
}


def in_pymc(name: str) -> Any:
    """The model of that name as a `pymc.Model`."""
    pm, pt = importlib.import_module("pymc"), importlib.import_module("pytensor.tensor")
    with pm.Model(coords={"school": range(8)}) as model:
        match name:
            case "hierarchical":
                mu, tau = pm.Normal("mu", 0, 5), pm.HalfNormal("tau", 5)
                pm.Normal("y", mu + tau * pm.Normal("z", dims="school"), ERRORS, observed=EFFECTS, dims="school")
            case "process":
                scale, length = pm.LogNormal("scale", 0, 1), pm.LogNormal("length", 0, 1)
                field = pm.gp.Marginal(cov_func=scale * pm.gp.cov.ExpQuad(1, ls=length))
                field.marginal_likelihood("y", X=GRID[:, None], y=np.sin(2 * GRID), sigma=0.1**0.5, jitter=0.0)
            case "ordinal":
                slope, first, gap = pm.Normal("slope", 0, 2), pm.Normal("first", 0, 2), pm.HalfNormal("gap", 2)
                cuts = pt.stack([first, first + gap])
                pm.OrderedLogistic("y", eta=slope * X, cutpoints=cuts, compute_p=False, observed=LEVELS)
            case "censored":
                lives = pm.Exponential.dist(pm.Gamma("rate", 2, 2))
                pm.Censored("y", lives, lower=None, upper=END, observed=np.minimum(LIVES, END))
            case "mixture":
                low, gap, share = pm.Normal("low", 0, 3), pm.Gamma("gap", 4, 1), pm.Beta("share", 2, 2)
                laws = pm.Normal.dist(pt.stack([low, low + gap]), 0.7)
                pm.Mixture("y", w=pt.stack([share, 1 - share]), comp_dists=laws, observed=TWO_HEAPS)
            case "autoregressive":
                rho, sd = pm.Uniform("rho", -1, 1), pm.HalfNormal("sd", 2)
                pm.AR("y", rho=pt.stack([rho]), sigma=sd, init_dist=pm.Normal.dist(0, 1, shape=1), observed=WALK)
            case "inflated":
                gate, rate = pm.Beta("gate", 1, 1), pm.Gamma("rate", 2, 1)
                pm.ZeroInflatedPoisson("y", psi=1 - gate, mu=rate, observed=COUNTS)
            case "correlated":
                factor, _, _ = pm.LKJCholeskyCov("factor", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(1, shape=2))
                pm.MvNormal("y", np.zeros(2), chol=factor, observed=PAIRS)
    return model


def exact_log_z(name: str, draws: dict[str, Any], num_points: int = 61) -> float:
    """log Z by the trapezoidal rule on the reals, eight standard deviations to each side of the posterior's draws.

    Args:
        name: of the model.
        draws: of its posterior in numpyro, leading axis.
        num_points: along each axis.
    """
    target = smcinfer.from_numpyro(collapsed if name == "hierarchical" else NUMPYRO[name])
    found = target.unconstrain
    assert found is not None, "a numpyro model has its way back"
    named = {site: jnp.asarray(value) for site, value in draws.items() if not (name == "hierarchical" and site == "z")}
    x = np.asarray(jax.vmap(found)(named), np.float64)
    spread = np.linalg.cholesky(np.atleast_2d(np.cov(x, rowvar=False)))
    axes = np.meshgrid(*[np.linspace(-8, 8, num_points)] * target.dim, indexing="ij")
    points = x.mean(axis=0) + np.stack([axis.ravel() for axis in axes], axis=1) @ spread.T
    evaluate = jax.jit(lambda rows: jax.lax.map(target.log_prob, rows, batch_size=4096))
    logs = np.asarray(evaluate(jnp.asarray(points)), np.float64)
    cell = target.dim * np.log(16 / (num_points - 1)) + np.log(np.diag(spread)).sum()
    top = np.nanmax(logs)
    return float(top + np.log(np.nansum(np.exp(logs - top))) + cell)
