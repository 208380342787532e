"""Logistic regression on the breast-cancer data that scikit-learn carries: a standard hard evidence."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

from smcinfer.ground.arrays import Array, Float
from smcinfer.static import StaticTarget, posterior

PRIOR_SCALE = 5.0

REFERENCE_LOG_Z = -62.787
"""Log evidence of `breast_cancer`, nats: importance sampling from a Student t with 7 degrees of freedom."""

REFERENCE_LOG_Z_SE = 0.010


def breast_cancer_data() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Design (569, 31), an intercept and 30 standardised features, and labels (569,), one for benign."""
    features, labels = load_breast_cancer(return_X_y=True)
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    return np.column_stack([np.ones(len(labels)), standardised]), labels.astype(np.float64)


def breast_cancer() -> StaticTarget:
    r"""The posterior of the 31 coefficients ``beta``, with its terms for data annealing.

    .. math:: \beta \sim N(0, 5^2 I), \qquad \ell(\beta) = \sum_i \log \sigma(s_i x_i^\top \beta),
              \quad s_i = 2 y_i - 1
    """
    design, labels = breast_cancer_data()
    # The sign of the label goes into the row, so that one product and one log-sigmoid do it all.
    signed_rows = (2.0 * labels - 1.0)[:, None] * design

    def log_likelihood(theta: dict[str, Float[Array, " dim"]], row: Float[Array, " dim"]) -> Float[Array, ""]:
        return jax.nn.log_sigmoid(row @ theta["beta"])

    prior = {"beta": dist.Normal(0.0, PRIOR_SCALE).expand([design.shape[1]]).to_event(1)}
    return posterior(prior, log_likelihood, signed_rows)


def model(design: Any, labels: Any) -> None:
    """The same model in numpyro."""
    beta = numpyro.sample("beta", dist.Normal(0.0, PRIOR_SCALE).expand([design.shape[1]]).to_event(1))
    numpyro.sample("label", dist.Bernoulli(logits=jnp.asarray(design) @ beta), obs=labels)
