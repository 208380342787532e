"""Independence Metropolis-Hastings: propose from a distribution fitted to the particle cloud."""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels import tuning
from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, TemperedDensity, info
from smcinfer.kernels.metropolis import metropolis


class Independent(Kernel):
    r"""Independence Metropolis-Hastings with a Student-t (or Gaussian) fitted to the cloud.

    .. math:: y = m + L z, \qquad z \sim t_\nu \text{ scaled to unit covariance}, \qquad
        \alpha = \min\{1, \gamma(y) q(x) / (\gamma(x) q(y))\}

    with :math:`m` and :math:`L L^T` the cloud's mean and covariance. One density evaluation a step; an
    accepted draw is independent of where the chain was. Heavy tails keep :math:`\gamma / q` bounded,
    so that no particle gets stuck in a tail: prefer the Student-t. Reversible.

    Args:
        df: degrees of freedom :math:`\nu > 2` of the Student-t, or ``None`` for a Gaussian.
        metric: ``"dense"`` uses the cloud's full covariance, ``"diagonal"`` its variances only.

    Source: Tierney (1994); for particle clouds Chopin (2002), section 4.
    """

    df: float | int | None = eqx.field(default=5.0, static=True)
    metric: str = eqx.field(default="dense", static=True)

    def __check_init__(self) -> None:
        tuning.check_metric(self.metric)
        if self.df is not None and not self.df > 2:
            raise ArgumentError(
                "df is out of range",
                expected="df > 2 (the covariance must exist), or None for a Gaussian",
                got=self.df,
            )

    def parameters(self, dim: int) -> tuning.Cloud:
        """A standard normal's mean and covariance."""
        return tuning.unit_cloud(dim, self.metric)

    def tune(
        self,
        params: tuning.Cloud,
        positions: Float[Array, "n dim"],
        log_weights: Float[Array, " n"],
        acceptance: Scalar,
    ) -> tuning.Cloud:
        """The cloud's mean and covariance; there is no step to tune."""
        del acceptance
        return tuning.fit_cloud(params, positions, log_weights)

    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: tuning.Cloud
    ) -> tuple[KernelState, KernelInfo]:
        """One draw from the fitted distribution and one accept step: one density evaluation."""
        noise_key, mixing_key, accept_key = jax.random.split(key, 3)
        position = state.position
        noise = self._standard_draw(noise_key, mixing_key, position)
        proposed = self.init(params.mean.astype(position.dtype) + params.stretch(noise), density)
        log_correction = self._standard_log_density(params.whiten(position)) - self._standard_log_density(noise)
        state, acceptance = metropolis(accept_key, state, proposed, density, log_correction)
        return state, info(acceptance, 1)

    def _standard_draw(self, noise_key: KeyArray, mixing_key: KeyArray, like: Array) -> Array:
        """A draw with mean zero and unit covariance."""
        noise = jax.random.normal(noise_key, like.shape, like.dtype)
        if self.df is None:
            return noise
        # A normal over the root of a gamma with mean one is a t; (df - 2) / df is one over its variance.
        if float(self.df).is_integer():
            # The same gamma as a sum of squares: no rejection loop for all lanes to wait in.
            precision = jnp.mean(jax.random.normal(mixing_key, (int(self.df),), like.dtype) ** 2)
        else:
            precision = jax.random.gamma(mixing_key, self.df / 2, dtype=like.dtype) / (self.df / 2)
        return noise * jnp.sqrt((self.df - 2) / self.df / precision)

    def _standard_log_density(self, noise: Array) -> Array:
        """Log density of `_standard_draw` up to a constant, nats."""
        squared = jnp.sum(noise**2)
        if self.df is None:
            return -0.5 * squared
        return -0.5 * (self.df + noise.shape[0]) * jnp.log1p(squared / (self.df - 2))
