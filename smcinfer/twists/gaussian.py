r"""Gaussian laws tilted by what a twist says: the closed form that quadratic twists have, and the proposal made of it.

.. math::
    \int N(x; m, LL^\top)\, e^{-\frac12 x^\top FF^\top x + b^\top x + c}\, dx
        = \exp\!\Big(c + b^\top m - \tfrac12 |F^\top m|^2 - \tfrac12 \log\det M + \tfrac12 |R^{-1} L^\top g|^2\Big),

with :math:`M = I + L^\top FF^\top L = RR^\top` and :math:`g = b - FF^\top m`; the tilted law is
:math:`N(m + L M^{-1} L^\top g,\; L M^{-1} L^\top)`. No covariance is inverted but M, whose eigenvalues are at least one.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from numpyro.distributions import Distribution, Independent, MultivariateNormal, Normal

from smcinfer.core.nouns import Process, Proposal, Time
from smcinfer.ground.arrays import Array, Float, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.twists.learned import LearnedTwist


class Gaussian(eqx.Module):
    """A normal law of a vector, or of a number taken for a vector of one.

    Attributes:
        mean: Float["d"].
        root: Float["d d"], a square root of the covariance, R R^T.
    """

    mean: Float[Array, " d"]
    root: Float[Array, "d d"]

    def point(self, noise: Float[Array, " d"]) -> Float[Array, " d"]:
        """Where standard normal noise lands."""
        return self.mean + self.root @ noise


def as_gaussian(law: Distribution) -> Gaussian:
    """The normal law that a transition is.

    Raises:
        TargetError: for any other law: twists of this kind are for Gaussian transitions.
    """
    if isinstance(law, MultivariateNormal):
        return Gaussian(law.loc, jnp.broadcast_to(law.scale_tril, (*law.loc.shape, law.loc.shape[-1])))
    base: Any = law.base_dist if isinstance(law, Independent) else law
    if not isinstance(base, Normal):
        raise TargetError(
            "the transition is not Gaussian",
            expected="dist.Normal (of a number or a vector) or dist.MultivariateNormal",
            got=type(law).__name__,
            hint="quadratic and network twists are for Gaussian transitions",
        )
    mean, scale = jnp.broadcast_arrays(base.loc, base.scale)
    return Gaussian(mean.reshape(-1), jnp.diag(scale.reshape(-1)))


def tilt(law: Gaussian, factor: Array, shift: Array, constant: Array) -> tuple[Gaussian, Scalar]:
    """The law times exp of a quadratic, normalised, and the log of its normaliser (module equation).

    Args:
        law: the normal law.
        factor: Float["d d"], F.
        shift: Float["d"], b.
        constant: Float[""], c, nats.
    """
    inner = factor.T @ law.root
    root = cholesky(jnp.eye(law.mean.shape[0], dtype=law.mean.dtype) + inner.T @ inner)
    from_mean = factor.T @ law.mean
    pull = solve(root, law.root.T @ (shift - factor @ from_mean))
    log_mean = (
        constant + shift @ law.mean - 0.5 * from_mean @ from_mean - jnp.sum(jnp.log(jnp.diag(root))) + 0.5 * pull @ pull
    )
    # L M^{-1} L^T = (L R^{-T}) (L R^{-T})^T.
    spread = solve(root, law.root.T).T
    return Gaussian(law.mean + spread @ pull, spread), log_mean


def cholesky(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Lower root; of one number without a call to LAPACK, which costs more than all the rest of a step."""
    return jnp.sqrt(matrix) if matrix.shape[-1] == 1 else jnp.linalg.cholesky(matrix)


def solve(root: Float[Array, "d d"], right: Array) -> Array:
    """R^{-1} times a vector or matrix, R lower triangular."""
    return right / root[0, 0] if root.shape[-1] == 1 else solve_triangular(root, right, lower=True)


class GaussianTwist(LearnedTwist):
    """A learned twist on a process with Gaussian transitions that proposes from a Gaussian."""

    def look(self, law: Distribution, state: PyTree[Any]) -> Gaussian:
        """The transition's mean and root."""
        del state
        return as_gaussian(law)

    @abc.abstractmethod
    def law(self, t: Time, seen: Gaussian) -> Gaussian:
        """The law that x_t is drawn from."""

    @abc.abstractmethod
    def log_weight(self, t: Time, seen: Gaussian, x: Array) -> Scalar:
        """log p0 / q of a given x_t, nats."""

    def proposal(self, process: Process) -> Proposal:
        """The proposal that draws x_t from `law`, with log C_t as its look-ahead."""
        return GaussianInduced(process, self)


class GaussianInduced(Proposal):
    """Draw from the Gaussian that a twist induces, log C_t known before the draw.

    Properly weighted for: the transition.

    Attributes:
        process: the base law, with Gaussian transitions.
        twist: the twist.
    """

    process: Process
    twist: GaussianTwist
    includes_potential: bool = eqx.field(static=True, default=False)

    def _seen(self, t: Time, state: PyTree[Any]) -> Gaussian:
        return self.twist.look(self.process.transition(t, state), state)

    def __call__(self, key: KeyArray, t: Time, state: PyTree[Any]) -> tuple[Array, Scalar]:
        """A draw and its log weight."""
        return self._draw(t, self._seen(t, state), jax.random.normal(key, jnp.shape(state)))

    def _draw(self, t: Time, seen: Gaussian, noise: Array) -> tuple[Array, Scalar]:
        x = self.twist.law(t, seen).point(noise.reshape(-1)).reshape(noise.shape)
        return x, self.twist.log_weight(t, seen, x)

    def look_ahead(self, t: Time, state: PyTree[Any]) -> Scalar:
        """log C_t of the state before the step, nats."""
        return self.twist.log_mean(t, self._seen(t, state))

    def log_weight(self, t: Time, state: PyTree[Any], x: Array) -> Scalar:
        """log p0 / q of a given x_t."""
        return self.twist.log_weight(t, self._seen(t, state), x)

    def initial(self, key: KeyArray) -> tuple[Array, Scalar] | None:
        """A draw of x_0 and its log weight."""
        law = self.process.initial()
        if law is None:
            return None
        noise = jax.random.normal(key, law.shape())
        return self._draw(jnp.zeros((), jnp.int32), self.twist.look(law, None), noise)

    def initial_log_weight(self, x: Array) -> Scalar:
        """log p0 / q of a given x_0."""
        law = self.process.initial()
        if law is None:
            return jnp.zeros(())
        return self.twist.log_weight(jnp.zeros((), jnp.int32), self.twist.look(law, None), x)

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """One batched draw of noise for all particles."""
        del size
        noise = jax.random.normal(key, jnp.shape(states))
        return jax.vmap(lambda state, noise: self._draw(t, self._seen(t, state), noise))(states, noise)
