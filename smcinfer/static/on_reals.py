r"""The law of a prior's unconstrained value, drawn and weighed without going through the constrained one.

A draw of a vague prior rounds to the edge of its support: ``Gamma(0.001, 0.001)`` is zero in float32 for nine draws of ten,
and its logarithm, which is what kernels move, is then lost. The law of the logarithm itself has no such edge:

.. math:: X \sim \text{Gamma}(a, b): \quad
    p(\log X = x) = \frac{b^a}{\Gamma(a)} \exp(a x - b e^x), \qquad
    \log X = \log G_{a+1} + \tfrac1a \log U - \log b

and so for Beta and Dirichlet, which are made of Gammas, for InverseGamma, Weibull, and whatever was made by the map itself
(LogNormal). Other laws are drawn where they live and carried over; `lost_share` says how many draws that loses.

Source: Marsaglia & Tsang (2000), section 6, for the logarithm of a Gamma.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from numpyro.distributions import constraints
from numpyro.distributions.transforms import (
    AffineTransform,
    ExpTransform,
    IdentityTransform,
    IndependentTransform,
    SigmoidTransform,
    StickBreakingTransform,
)

from smcinfer.ground.arrays import Array, Float, KeyArray

CHECKED_DRAWS = 4096
"""Draws by which `lost_share` is found."""

LOST_LIMIT = 5e-4
"""Share of draws that may lie at the edge: that of rounding on a grid, not of a law that does not fit into it."""

# Of location and scale alone: whatever their parameters, a draw meets an edge as rarely as a uniform number meets zero.
_WELL_INSIDE = (
    dist.Normal,
    dist.MultivariateNormal,
    dist.Cauchy,
    dist.Laplace,
    dist.Logistic,
    dist.Gumbel,
    dist.Uniform,
    dist.Exponential,
    dist.HalfNormal,
    dist.HalfCauchy,
)


class LogGamma(dist.Distribution):
    """Law of log X for X ~ Gamma(concentration, rate)."""

    support: Any = constraints.real

    def __init__(self, concentration: Any, rate: Any) -> None:
        self.concentration, self.rate = _alike(concentration, rate)
        super().__init__(batch_shape=self.rate.shape)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``sample_shape + batch_shape``."""
        shape = sample_shape + self.batch_shape
        return jax.random.loggamma(key, self.concentration, shape, self.rate.dtype) - jnp.log(self.rate)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log density of ``value``, nats."""
        scaled = value + jnp.log(self.rate)
        return self.concentration * scaled - jnp.exp(scaled) - gammaln(self.concentration)


class LogWeibull(dist.Distribution):
    """Law of log X for X ~ Weibull(scale, concentration): a Gumbel law turned over."""

    support: Any = constraints.real

    def __init__(self, scale: Any, concentration: Any) -> None:
        self.scale, self.concentration = _alike(scale, concentration)
        super().__init__(batch_shape=self.scale.shape)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``sample_shape + batch_shape``."""
        noise = jax.random.gumbel(key, sample_shape + self.batch_shape, self.scale.dtype)
        return jnp.log(self.scale) - noise / self.concentration

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log density of ``value``, nats."""
        scaled = self.concentration * (value - jnp.log(self.scale))
        return jnp.log(self.concentration) + scaled - jnp.exp(scaled)


class LogitBeta(dist.Distribution):
    """Law of log X - log(1 - X) for X ~ Beta(a, b): the difference of two logarithms of Gammas."""

    support: Any = constraints.real

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = _alike(a, b)
        super().__init__(batch_shape=self.a.shape)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``sample_shape + batch_shape``."""
        both = jnp.stack([self.a, self.b], axis=-1)
        logs = jax.random.loggamma(key, both, sample_shape + both.shape, both.dtype)
        return logs[..., 0] - logs[..., 1]

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log density of ``value``, nats."""
        log_beta = gammaln(self.a) + gammaln(self.b) - gammaln(self.a + self.b)
        return self.a * jax.nn.log_sigmoid(value) + self.b * jax.nn.log_sigmoid(-value) - log_beta


class SticksOfDirichlet(dist.Distribution):
    """Law of a Dirichlet draw's balanced stick-breaking coordinates: a stick is Beta(c_k, c_{k+1} + ... + c_K)."""

    support: Any = constraints.real_vector

    def __init__(self, concentration: Any) -> None:
        self.concentration = jnp.asarray(concentration, jnp.result_type(float))
        *batch, length = self.concentration.shape
        super().__init__(batch_shape=tuple(batch), event_shape=(length - 1,))

    @property
    def _shift(self) -> Array:
        """What the balanced map adds to a stick's logit, so that zero is the middle of the simplex."""
        (sticks,) = self.event_shape
        return jnp.log(sticks - jnp.arange(sticks, dtype=self.concentration.dtype))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``sample_shape + batch_shape + event_shape``."""
        c = self.concentration
        logs = jax.random.loggamma(key, c, sample_shape + c.shape, c.dtype)
        rest = jax.lax.cumlogsumexp(logs, axis=logs.ndim - 1, reverse=True)
        return logs[..., :-1] - rest[..., 1:] + self._shift

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log density of ``value``, nats."""
        rest = jnp.flip(jnp.cumsum(jnp.flip(self.concentration, -1), axis=-1), -1)
        return LogitBeta(self.concentration[..., :-1], rest[..., 1:]).log_prob(value - self._shift).sum(-1)


class Carried(dist.Distribution):
    """A law carried to the reals by a map: drawn where it lives, weighed with the log Jacobian.

    Args:
        law: any law with a density.
        bijection: from the reals to where it lives.
    """

    support: Any = constraints.real

    def __init__(self, law: dist.Distribution, bijection: Any) -> None:
        self.law, self.bijection = law, bijection
        whole = tuple(bijection.inverse_shape(law.shape()))
        super().__init__(batch_shape=law.batch_shape, event_shape=whole[len(law.batch_shape) :])

    def raw(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``sample_shape + batch_shape + event_shape``, not finite where they lie at an edge."""
        drawn: Any = self.law.sample(key, sample_shape)
        return jnp.asarray(self.bijection.inv(drawn), jnp.result_type(float))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws as of `raw`, those at an edge brought back."""
        return to_finite(self.raw(key, sample_shape))

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log density of ``value``, nats, of shape ``batch_shape``."""
        there = self.bijection(value)
        log_det = self.bijection.log_abs_det_jacobian(value, there)
        axes = tuple(range(jnp.ndim(log_det) - self._num_event(jnp.ndim(value), log_det), jnp.ndim(log_det)))
        return jnp.asarray(self.law.log_prob(there)) + jnp.sum(log_det, axis=axes)

    def _num_event(self, ndim: int, log_det: Any) -> int:
        """Axes of the log Jacobian that belong to the event: the map has summed over some already."""
        return len(self.event_shape) - (ndim - jnp.ndim(log_det))


def on_reals(law: dist.Distribution, bijection: Any = None) -> dist.Distribution:
    """The law of the unconstrained value of a draw.

    Args:
        law: a law with a density, on a space that `numpyro.distributions.biject_to` knows.
        bijection: the map to ``law``'s space; the registered one where ``None``.

    Returns:
        A law on real arrays with the batch shape of ``law``: exact at any distance for the families of this module, a
        `Carried` one for others.
    """
    bijection = dist.biject_to(law.support) if bijection is None else bijection
    known = _known(law, bijection)
    return Carried(law, bijection) if known is None else known


def lost_share(law: dist.Distribution, key: KeyArray) -> float:
    """The share of a law's draws that lie at the edge of its support and have no unconstrained value: zero for exact ones."""
    carried = on_reals(law)
    if not isinstance(carried, Carried) or is_well_inside(law):
        return 0.0
    drawn = np.asarray(carried.raw(key, (CHECKED_DRAWS,))).reshape(CHECKED_DRAWS, -1)
    return float(np.mean(~np.isfinite(drawn).all(axis=1)))


def is_well_inside(law: dist.Distribution) -> bool:
    """Whether draws of this family are lost at an edge as rarely as a uniform number is zero, whatever its parameters."""
    return isinstance(strip(law), _WELL_INSIDE)


def to_finite(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Unconstrained draws in the default dtype, with infinities brought back.

    A draw that rounded to the edge of its support maps to infinity; it is put at the furthest point whose exponential is
    still a normal number. Fit for a draw in a million: `lost_share` refuses laws that need it more often.
    """
    dtype = jnp.result_type(float)
    edge = -math.log(2.0 * float(jnp.finfo(dtype).tiny))
    return jnp.nan_to_num(x.astype(dtype), nan=jnp.nan, posinf=edge, neginf=-edge)


def inner_bijection(law: dist.Distribution) -> Any:
    """The elementwise map from the reals to a law's space, reinterpreted axes stripped."""
    return _elementwise(dist.biject_to(law.support))


def _elementwise(bijection: Any) -> Any:
    while isinstance(bijection, IndependentTransform):
        bijection = bijection.base_transform
    return bijection


def strip(law: Any) -> Any:
    """The law of the elements that ``expand`` and ``to_event`` had put together."""
    while isinstance(law, dist.Independent | dist.ExpandedDistribution):
        law = law.base_dist
    return law


def _known(law: dist.Distribution, bijection: Any) -> dist.Distribution | None:
    """The exact law on the reals of a family that has one; ``None`` for others."""
    if isinstance(law, dist.Independent):
        inner = _known(law.base_dist, _elementwise(bijection))
        return None if inner is None else inner.to_event(law.reinterpreted_batch_ndims)
    if isinstance(law, dist.ExpandedDistribution):
        inner = _known(law.base_dist, _elementwise(bijection))
        return None if inner is None else inner.expand(law.batch_shape)
    bijection = _elementwise(bijection)
    if isinstance(bijection, ExpTransform):
        return _known_logarithm(law)
    if isinstance(bijection, SigmoidTransform) and isinstance(law, dist.Beta):
        return LogitBeta(law.concentration1, law.concentration0)
    if isinstance(bijection, StickBreakingTransform) and isinstance(law, dist.Dirichlet):
        return SticksOfDirichlet(law.concentration)
    return None


def _known_logarithm(law: Any) -> dist.Distribution | None:
    if isinstance(law, dist.Gamma):
        return LogGamma(law.concentration, law.rate)
    if isinstance(law, dist.InverseGamma):
        return dist.TransformedDistribution(LogGamma(law.concentration, law.rate), AffineTransform(0.0, -1.0))
    if isinstance(law, dist.Weibull):
        return LogWeibull(law.scale, law.concentration)
    if isinstance(law, dist.TransformedDistribution) and isinstance(law.transforms[-1], ExpTransform):
        *before, _ = law.transforms
        base = dist.TransformedDistribution(law.base_dist, before) if before else law.base_dist
        return base if isinstance(inner_bijection(base), IdentityTransform) else None
    return None


def _alike(*parameters: Any) -> tuple[Array, ...]:
    """Parameters in the precision that is on, of one shape."""
    return tuple(jnp.broadcast_arrays(*[jnp.asarray(value, jnp.result_type(float)) for value in parameters]))
