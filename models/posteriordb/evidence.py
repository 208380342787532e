r"""Exact evidence of the regressions and of eight schools.

Given the noise, the coefficients integrate in closed form; what is left is one integral over the
noise, done by quadrature on its logarithm in float64:

.. math:: Z = \int p(\sigma)\, Z(\sigma)\, d\sigma, \qquad
          Z(\sigma) = \int p(\beta)\, N(y; X\beta, \sigma^2 I)\, d\beta

A flat prior counts as density one, so those values are the log integral of the posterior as written.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.integrate
import scipy.special
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from smcinfer.models import eight_schools as schools
from smcinfer.models.posteriordb import regression

Data = dict[str, Any]
Array = NDArray[np.float64]
LogDensity = Callable[[float], float]


def log_integral(log_integrand: LogDensity, low: float, high: float) -> float:
    """Log of the integral of ``exp(log_integrand)``, peaked anywhere between two bounds, by Simpson's rule.

    A coarse grid finds where the integrand is within 60 nats of its peak; a fine one over that part is summed.

    Args:
        log_integrand: log of what is integrated, at one point, nats.
        low, high: the bounds; what lies beyond them counts for nothing.
    """
    for num in (401, 801):
        grid = np.linspace(low, high, num)
        values = np.array([log_integrand(point) for point in grid])
        near = grid[values > values.max() - 60.0]
        step = grid[1] - grid[0]
        low, high = near[0] - step, near[-1] + step
    peak = values.max()
    return float(peak + np.log(scipy.integrate.simpson(np.exp(values - peak), x=grid)))


def regression_log_evidence(
    design: ArrayLike, y: ArrayLike, log_noise_prior: LogDensity, mean: Array, scale: Array
) -> float:
    """Log evidence of a regression with independent Gaussian priors on its coefficients.

    Args:
        design: (n, p), the matrix X.
        y: (n,), responses.
        log_noise_prior: log density of the noise's standard deviation, nats.
        mean, scale: (p,), of the priors; an infinite scale is a flat prior of density one.
    """
    x, y = np.asarray(design, np.float64), np.asarray(y, np.float64)
    # Coefficients are measured from least squares, so that no large numbers cancel.
    orthogonal, triangle = np.linalg.qr(x)
    least_squares = np.linalg.solve(triangle, orthogonal.T @ y)
    residual = float(np.sum((y - x @ least_squares) ** 2))
    num_data, num_columns = x.shape
    proper = np.isfinite(scale)
    prior_precision = np.diag(np.where(proper, 1.0 / scale**2, 0.0))
    shift = np.where(proper, mean - least_squares, 0.0)
    log_prior = -np.sum(np.log(scale[proper])) - 0.5 * proper.sum() * np.log(2 * np.pi)

    def log_given_noise(sigma: float) -> float:
        # In u = R (beta - least squares) / sigma the likelihood is a standard Gaussian.
        inverse = sigma * np.linalg.inv(triangle)
        precision = np.eye(num_columns) + inverse.T @ prior_precision @ inverse
        pull = inverse.T @ prior_precision @ shift
        exponent = -0.5 * (shift @ prior_precision @ shift - pull @ np.linalg.solve(precision, pull))
        return float(
            log_prior
            + exponent
            - 0.5 * np.linalg.slogdet(precision)[1]
            + 0.5 * num_columns * np.log(2 * np.pi)
            + np.linalg.slogdet(inverse)[1]
            - 0.5 * num_data * np.log(2 * np.pi * sigma**2)
            - 0.5 * residual / sigma**2
        )

    def integrand(log_sigma: float) -> float:
        sigma = float(np.exp(log_sigma))
        return log_given_noise(sigma) + log_noise_prior(sigma) + log_sigma

    centre = 0.5 * np.log(residual / num_data)
    return log_integral(integrand, centre - 5.0, centre + 5.0)


def _half_cauchy(sigma: float) -> float:
    return float(scipy.stats.halfcauchy.logpdf(sigma, scale=regression.HALF_CAUCHY_SCALE))


def _flat(sigma: float) -> float:
    del sigma
    return 0.0


def _wide(num: int, scale: float) -> tuple[Array, Array]:
    return np.zeros(num), np.full(num, scale)


def ark(data: Data) -> float:
    """Log evidence of ``arK``."""
    order, y = data["K"], data["y"]
    return regression_log_evidence(regression.lags(y, order), y[order:], _half_cauchy, *_wide(order + 1, 10.0))


def blr(data: Data) -> float:
    """Log evidence of ``blr``."""
    prior = scipy.stats.halfnorm(scale=10.0)
    return regression_log_evidence(data["X"], data["y"], prior.logpdf, *_wide(data["D"], 10.0))


def kilpisjarvi(data: Data) -> float:
    """Log evidence of ``kilpisjarvi``; the noise's flat prior counts as density one."""
    mean, scale = (np.array([data[f"{kind}alpha"], data[f"{kind}beta"]]) for kind in ("pmu", "ps"))
    design = np.column_stack([np.ones(data["N"]), data["x"]])
    return regression_log_evidence(design, data["y"], _flat, mean, scale)


def logearn_height(data: Data) -> float:
    """Log evidence of ``logearn_height``; flat priors count as density one."""
    design = np.column_stack([np.ones(data["N"]), data["height"]])
    return regression_log_evidence(design, np.log(data["earn"]), _flat, *_wide(2, np.inf))


def nes(data: Data) -> float:
    """Log evidence of ``nes``; flat priors count as density one."""
    return regression_log_evidence(regression.nes_design(data), data["partyid7"], _flat, *_wide(9, np.inf))


def _kidscore(data: Data, *columns: ArrayLike) -> float:
    design = np.column_stack([np.ones(data["N"]), *columns])
    return regression_log_evidence(design, data["kid_score"], _half_cauchy, *_wide(design.shape[1], np.inf))


def kidscore_momhs(data: Data) -> float:
    """Log evidence of ``kidscore_momhs``; flat priors count as density one."""
    return _kidscore(data, data["mom_hs"])


def kidscore_momhsiq(data: Data) -> float:
    """Log evidence of ``kidscore_momhsiq``; flat priors count as density one."""
    return _kidscore(data, data["mom_hs"], data["mom_iq"])


def kidscore_interaction(data: Data) -> float:
    """Log evidence of ``kidscore_interaction``; flat priors count as density one."""
    return _kidscore(data, data["mom_hs"], data["mom_iq"], data["mom_hs"] * data["mom_iq"])


def diamonds(data: Data) -> float:
    r"""Log evidence of ``diamonds``.

    The columns are centred, so the intercept meets the mean response only: its Student t prior :math:`p`
    enters as :math:`\sqrt{2\pi\sigma^2/n}\; E[p(I)]` under :math:`I \sim N(\bar y, \sigma^2/n)`, by Gauss-Hermite.
    """
    design, y = data["X"][:, 1:], data["Y"]
    prior, noise = scipy.stats.t(3, loc=8.0, scale=10.0), scipy.stats.t(3, scale=10.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)

    def log_noise_and_intercept(sigma: float) -> float:
        width = sigma / np.sqrt(len(y))
        intercept = np.log(width * np.sum(weights * prior.pdf(y.mean() + width * nodes)))
        return float(np.log(2.0) + noise.logpdf(sigma) + intercept)

    mean, scale = _wide(design.shape[1], 1.0)
    return regression_log_evidence(design - design.mean(axis=0), y - y.mean(), log_noise_and_intercept, mean, scale)


def eight_schools(data: Data) -> float:
    """Log evidence of ``eight_schools_noncentered``."""
    return schools.log_evidence(data["sigma"], data["y"])
