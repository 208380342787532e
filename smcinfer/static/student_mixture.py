r"""A mixture of Student laws fitted to draws: a base with exact draws, a density, and tails heavier than a Gaussian's.

.. math:: q(x) = \sum_k \pi_k\, t_\nu(x;\, m_k,\, L_k L_k^T), \qquad \nu = 5

The components are those of a Gaussian mixture, their number that of the least BIC. A target's tails are rarely heavier than
those of five degrees of freedom, and the covariance of a component is 5/3 of what was fitted.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp

from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar

DEGREES = 5.0
NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SURELY_TRIED = 4
"""Numbers of components, and those up to which all are tried; then others while the last is the best so far."""

DRAWS_A_PARAMETER = 3
"""Draws that a parameter of a mixture needs, or there are fewer components."""


class StudentMixture(eqx.Module):
    """The law of the module.

    Attributes:
        log_shares: Float["k"], log of the weights of the components.
        means: Float["k dim"].
        factors: Float["k dim dim"], lower Cholesky factors of the scales.
    """

    log_shares: Float[Array, " k"]
    means: Float[Array, "k dim"]
    factors: Float[Array, "k dim dim"]

    @classmethod
    def fit(cls, vectors: Float[np.ndarray, "n dim"], num_components: int | None = None) -> "StudentMixture":
        """The mixture of some vectors; the same vectors give the same mixture.

        Args:
            vectors: Float["n dim"], finite.
            num_components: how many; that of the least BIC, of `NUMBERS`, where ``None``.
        """
        # Only a fit needs it, and it takes a second to import.
        from sklearn.mixture import GaussianMixture

        count, dim = vectors.shape
        centre, spread = vectors.mean(axis=0), vectors.std(axis=0)
        spread = np.where(spread > 0, spread, np.maximum(np.abs(centre), 1.0) * 1e-3)
        whitened = (vectors - centre) / spread
        parameters = 1 + dim + dim * (dim + 1) // 2
        most = max(1, count // (DRAWS_A_PARAMETER * parameters))
        numbers = [k for k in NUMBERS if k <= most] if num_components is None else [num_components]
        tried: list[tuple[float, int, GaussianMixture]] = []
        for k in numbers:
            if k > SURELY_TRIED and min(tried)[1] < tried[-1][1]:
                break
            fit = GaussianMixture(k, reg_covar=1e-4, random_state=0).fit(whitened)
            tried.append((fit.bic(whitened), k, fit))
        best = min(tried)[2]
        sizes = best.weights_ * count
        # Few draws tell less of how coordinates go together than of each alone.
        trust = (sizes / (sizes + dim))[:, None, None]
        covariances = trust * best.covariances_ + (1 - trust) * best.covariances_ * np.eye(dim)
        factors = spread[:, None] * np.linalg.cholesky(covariances)
        dtype = jnp.result_type(float)
        return cls(
            jnp.asarray(np.log(best.weights_), dtype),
            jnp.asarray(centre + spread * best.means_, dtype),
            jnp.asarray(factors, dtype),
        )

    def log_density(self, x: Float[Array, " dim"]) -> Scalar:
        """log q at a point, nats."""
        dim = x.shape[0]
        constant = gammaln((DEGREES + dim) / 2) - math.lgamma(DEGREES / 2) - 0.5 * dim * math.log(DEGREES * math.pi)

        def one(mean: Array, factor: Array) -> Array:
            z = jax.scipy.linalg.solve_triangular(factor, x - mean, lower=True)
            return -0.5 * (DEGREES + dim) * jnp.log1p(z @ z / DEGREES) - jnp.sum(jnp.log(jnp.diag(factor)))

        return (constant + logsumexp(self.log_shares + jax.vmap(one)(self.means, self.factors))).astype(x.dtype)

    def sample(self, key: KeyArray, n: int) -> Float[Array, "n dim"]:
        """Exact draws.

        Args:
            key: one random key.
            n: how many.
        """
        which, noise, scale = jax.random.split(key, 3)
        dtype, dim = self.means.dtype, self.means.shape[1]
        chosen = jax.random.categorical(which, self.log_shares, shape=(n,))
        z = jax.random.normal(noise, (n, dim), dtype)
        chi2 = 2.0 * jax.random.gamma(scale, DEGREES / 2, (n, 1), dtype)
        return self.means[chosen] + jnp.einsum("nij,nj->ni", self.factors[chosen], z * jnp.sqrt(DEGREES / chi2))
