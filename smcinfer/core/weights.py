"""Arithmetic on log weights: normalising, effective sample size, compensated sums.

Everything here takes weights in nats and treats minus infinity as weight zero. A population in
which every weight is zero has log mean weight ``-inf`` and effective sample size zero; none of these
functions returns NaN for it.
"""

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from smcinfer.core.status import Status, raise_bit
from smcinfer.ground.arrays import Array, Float, Int, LogWeights, Scalar
from smcinfer.ground.programs import outlined


def normalise(log_weights: LogWeights) -> tuple[LogWeights, Scalar]:
    r"""Log weights scaled to sum to one, and the log of the sum they had.

    Args:
        log_weights: Float["num_particles"], nats.

    Returns:
        ``(log_weights - log_sum, log_sum)``. Where every weight is zero the first is uniform,
        so that what follows stays finite, and the second is ``-inf``.
    """
    normalised, log_sum, _ = normalise_and_measure(log_weights)
    return normalised, log_sum


@outlined
def normalise_and_measure(log_weights: LogWeights) -> tuple[LogWeights, Scalar, Scalar]:
    """What `normalise` returns and the `ess`, from one pass over the exponentials: what a step of the engine needs.

    Args:
        log_weights: Float["num_particles"], nats.

    Returns:
        Normalised log weights, log of their sum, and the effective sample size in particles.
    """
    largest = jnp.max(log_weights)
    alive = largest > -jnp.inf
    # An infinite or NaN largest passes through as `logsumexp` would have it.
    weights = jnp.exp(log_weights - jnp.where(alive, largest, 0.0))
    total, square = jnp.sum(weights), jnp.sum(weights * weights)
    log_sum = jnp.where(alive, largest + jnp.log(jnp.where(alive, total, 1.0)), -jnp.inf)
    size = jnp.where(alive, total * total / jnp.where(alive, square, 1.0), 0.0)
    normalised = jnp.where(alive, log_weights - jnp.where(alive, log_sum, 0.0), -jnp.log(log_weights.shape[0]))
    return normalised, log_sum, size


class Weighed(eqx.Module):
    """A population's weights after an increment.

    Attributes:
        log_weights: Float["num_particles"], normalised, nats.
        log_increment: Float[""], log of the weighted mean of the increments, nats.
        ess: Float[""], effective sample size, particles.
        status: Int[""], bits of `Status`.
    """

    log_weights: LogWeights
    log_increment: Scalar
    ess: Scalar
    status: Int[Array, ""]


def weigh(log_weights: LogWeights, increments: LogWeights) -> Weighed:
    """Increments put on normalised weights; NaN and plus infinity weigh zero, and the status says so.

    Args:
        log_weights: Float["num_particles"], normalised, nats.
        increments: Float["num_particles"], nats.
    """
    bad = jnp.isnan(increments) | (increments == jnp.inf)
    normalised, log_increment, size = normalise_and_measure(log_weights + jnp.where(bad, -jnp.inf, increments))
    status = raise_bit(jnp.zeros((), jnp.int32), Status.NON_FINITE_POTENTIAL, jnp.any(bad))
    status = raise_bit(status, Status.ALL_WEIGHTS_ZERO, log_increment == -jnp.inf)
    return Weighed(normalised, log_increment, size, status)


def unweighed(log_weights: LogWeights, size: Scalar) -> Weighed:
    """The weights as they are, where nothing is put on them; ``size`` is their effective sample size."""
    return Weighed(log_weights, jnp.zeros((), log_weights.dtype), size, jnp.zeros((), jnp.int32))


def log_mean_exp(log_values: Float[Array, "*batch n"], axis: int = -1) -> Float[Array, "*batch"]:
    """Log of the mean of ``exp(log_values)`` along an axis, in nats."""
    return logsumexp(log_values, axis=axis) - jnp.log(log_values.shape[axis])


def ess(log_weights: LogWeights) -> Scalar:
    r"""Effective sample size :math:`(\sum_i w_i)^2 / \sum_i w_i^2`, in particles.

    Between 1 and ``num_particles``, or 0 where every weight is zero (Kong, Liu & Wong 1994).
    """
    return normalise_and_measure(log_weights)[2]


def conditional_ess(log_weights: LogWeights, log_increments: LogWeights) -> Scalar:
    r"""Conditional effective sample size of an increment on weighted particles, in particles.

    .. math:: N \frac{(\sum_i W_i g_i)^2}{\sum_i W_i g_i^2}

    with :math:`W` the normalised ``log_weights`` and :math:`g` the increments: how well the *current
    weighted* population stands for the next target, whatever was resampled before.

    Source: Zhou, Johansen & Aston (2016), equation 3.16.
    """
    normalised, _ = normalise(log_weights)
    first = logsumexp(normalised + log_increments)
    second = logsumexp(normalised + 2.0 * log_increments)
    value = log_weights.shape[0] * jnp.exp(2.0 * first - second)
    return jnp.where(first > -jnp.inf, value, 0.0)


def compensated_add(total: Scalar, error: Scalar, term: Scalar) -> tuple[Scalar, Scalar]:
    """Kahan-Neumaier sum: ``total + term`` with the rounding error kept apart.

    ``total + error`` is the sum. A thousand float32 increments to a log normaliser of a thousand
    nats lose two decimals when added plainly. An infinite total carries no error.

    Args:
        total, error: Float[""], the sum so far and what rounding took from it.
        term: Float[""], what is added.

    Returns:
        The new total and the new error.
    """
    new = total + term
    lost = jnp.where(jnp.abs(total) >= jnp.abs(term), (total - new) + term, (term - new) + total)
    return new, jnp.where(jnp.isfinite(new), error + jnp.where(jnp.isfinite(lost), lost, 0.0), 0.0)
