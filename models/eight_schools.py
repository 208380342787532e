r"""Eight schools: a small hierarchical model with a funnel, centred and not.

.. math:: \mu \sim N(0, 5^2), \quad \tau \sim C^+(5), \quad \theta_j \sim N(\mu, \tau^2), \quad
          y_j \sim N(\theta_j, \sigma_j^2)
"""

from typing import Any

import numpy as np
import numpyro
import numpyro.distributions as dist
import scipy.integrate
import scipy.stats

from smcinfer.static import StaticTarget, from_numpyro

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
"""Estimated treatment effect of each school (Rubin 1981)."""

STANDARD_ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def centred(standard_errors: Any = STANDARD_ERRORS, effects: Any = EFFECTS) -> None:
    """The model as it is written down: the scale tau narrows what theta may be."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(standard_errors)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("effect", dist.Normal(theta, standard_errors), obs=effects)


def noncentred(standard_errors: Any = STANDARD_ERRORS, effects: Any = EFFECTS) -> None:
    """The same model with standardised school effects ``theta_trans``, which takes the funnel away."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(standard_errors)):
        standardised = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * standardised)
        numpyro.sample("effect", dist.Normal(theta, standard_errors), obs=effects)


def eight_schools(*, is_centred: bool = False) -> StaticTarget:
    """The posterior, draws named ``mu``, ``tau`` and ``theta``; both forms have the same evidence."""
    return from_numpyro(centred if is_centred else noncentred)


def log_evidence(standard_errors: Any = STANDARD_ERRORS, effects: Any = EFFECTS) -> float:
    r"""Exact log evidence, nats: :math:`\theta` and :math:`\mu` integrate in closed form, tau by quadrature.

    .. math:: Z = \int_0^\infty C^+(\tau; 5)\, N(y; 0, \mathrm{diag}(\sigma_j^2 + \tau^2) + 5^2 1 1^\top)\, d\tau
    """
    errors, effects = np.asarray(standard_errors, np.float64), np.asarray(effects, np.float64)

    def integrand(angle: float) -> float:
        # tau = 5 tan(angle) makes the half-Cauchy uniform on a quarter turn.
        tau = 5.0 * np.tan(angle)
        covariance = np.diag(errors**2 + tau**2) + 25.0
        return scipy.stats.multivariate_normal(np.zeros(len(errors)), covariance).pdf(effects) * 2 / np.pi

    value, _ = scipy.integrate.quad(integrand, 0.0, np.pi / 2 - 1e-9, epsabs=0.0, epsrel=1e-10, limit=500)
    return float(np.log(value))
