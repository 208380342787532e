r"""The linear regressions of posteriordb, as numpyro models.

All have one likelihood, :math:`y \sim N(X\beta, \sigma^2 I)`, in which the data enter through the QR
factors of :math:`[X\ y]` only: thousands of rows become one more than there are columns, exactly,

.. math:: \|y - X\beta\|^2 = \|R_{:,:p}\,\beta - R_{:,p}\|^2

A flat prior is written as an improper one: those models start from a reference.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpy.typing import ArrayLike, NDArray

Data = dict[str, Any]
Array = NDArray[np.float64]

HALF_CAUCHY_SCALE = 2.5


def flat(name: str, num: int) -> Any:
    """A vector with a flat prior on the real line."""
    return numpyro.sample(name, dist.ImproperUniform(dist.constraints.real, (), (num,)))


def flat_positive(name: str) -> Any:
    """A scalar with a flat prior on the positive half line."""
    return numpyro.sample(name, dist.ImproperUniform(dist.constraints.positive, (), ()))


def normal_vector(name: str, scale: float, num: int) -> Any:
    """A vector of independent centred Gaussians, sampled as one site of a numpyro model.

    Args:
        name: of the site.
        scale: standard deviation of each entry.
        num: length of the vector.
    """
    return numpyro.sample(name, dist.Normal(0.0, scale).expand([num]).to_event(1))


def observe_regression(design: ArrayLike, y: ArrayLike, beta: Any, sigma: Any) -> None:
    """The Gaussian likelihood of a linear regression, through the QR factors of design and response.

    Args:
        design: (n, p), the matrix X.
        y: (n,), responses.
        beta: Float["p"], coefficients.
        sigma: Float[""], standard deviation of the noise.
    """
    factor = np.linalg.qr(np.column_stack([design, y]).astype(np.float64), mode="r")
    residual = jnp.asarray(factor[:, :-1]) @ beta - jnp.asarray(factor[:, -1])
    num_data = np.shape(y)[0]
    log_likelihood = -0.5 * num_data * np.log(2 * np.pi) - num_data * jnp.log(sigma)
    numpyro.factor("log_likelihood", log_likelihood - 0.5 * jnp.sum((residual / sigma) ** 2))


def ark(data: Data) -> None:
    """Autoregression of order K on the first T - K windows, as a regression on lags."""
    order, y = data["K"], data["y"]
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = normal_vector("beta", 10.0, order)
    sigma = numpyro.sample("sigma", dist.HalfCauchy(HALF_CAUCHY_SCALE))
    observe_regression(lags(y, order), y[order:], jnp.concatenate([alpha[None], beta]), sigma)


def lags(y: Array, order: int) -> Array:
    """A column of ones, then the series one step back, two steps back, and so on."""
    back = [y[order - k : len(y) - k] for k in range(1, order + 1)]
    return np.column_stack([np.ones(len(y) - order), *back])


def blr(data: Data) -> None:
    """Bayesian linear regression with wide priors."""
    beta = normal_vector("beta", 10.0, data["D"])
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    observe_regression(data["X"], data["y"], beta, sigma)


def kilpisjarvi(data: Data) -> None:
    """Summer temperatures on the year: uncentred, so intercept and slope are nearly collinear."""
    alpha = numpyro.sample("alpha", dist.Normal(data["pmualpha"], data["psalpha"]))
    beta = numpyro.sample("beta", dist.Normal(data["pmubeta"], data["psbeta"]))
    sigma = flat_positive("sigma")
    design = np.column_stack([np.ones(data["N"]), data["x"]])
    observe_regression(design, data["y"], jnp.stack([alpha, beta]), sigma)


def logearn_height(data: Data) -> None:
    """Log earnings on height, flat priors."""
    beta, sigma = flat("beta", 2), flat_positive("sigma")
    observe_regression(np.column_stack([np.ones(data["N"]), data["height"]]), np.log(data["earn"]), beta, sigma)


def nes(data: Data) -> None:
    """Party identification on nine columns, age as a factor; flat priors."""
    beta, sigma = flat("beta", 9), flat_positive("sigma")
    observe_regression(nes_design(data), data["partyid7"], beta, sigma)


def nes_design(data: Data) -> Array:
    """Intercept, ideology, race, three age groups, education, gender, income."""
    ages = [data["age_discrete"] == group for group in (2, 3, 4)]
    columns = [data["real_ideo"], data["race_adj"], *ages, data["educ1"], data["gender"], data["income"]]
    return np.column_stack([np.ones(data["N"]), *columns]).astype(np.float64)


def kidscore_momhs(data: Data) -> None:
    """Children's test score on whether the mother finished high school."""
    _kidscore(data, [data["mom_hs"]])


def kidscore_momhsiq(data: Data) -> None:
    """Children's test score on the mother's high school and IQ."""
    _kidscore(data, [data["mom_hs"], data["mom_iq"]])


def kidscore_interaction(data: Data) -> None:
    """Children's test score on the mother's high school, IQ and their product."""
    _kidscore(data, [data["mom_hs"], data["mom_iq"], data["mom_hs"] * data["mom_iq"]])


def _kidscore(data: Data, columns: list[ArrayLike]) -> None:
    beta = flat("beta", 1 + len(columns))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(HALF_CAUCHY_SCALE))
    observe_regression(np.column_stack([np.ones(data["N"]), *columns]), data["kid_score"], beta, sigma)


def diamonds(data: Data) -> None:
    """Log prices of diamonds on 24 centred predictors with Student t priors on intercept and noise."""
    design = data["X"][:, 1:]
    coefficients = normal_vector("b", 1.0, design.shape[1])
    intercept = numpyro.sample("Intercept", dist.StudentT(3.0, 8.0, 10.0))
    sigma = numpyro.sample("sigma", dist.FoldedDistribution(dist.StudentT(3.0, 0.0, 10.0)))
    centred = np.column_stack([design - design.mean(axis=0), np.ones(len(design))])
    observe_regression(centred, data["Y"], jnp.concatenate([coefficients, intercept[None]]), sigma)
