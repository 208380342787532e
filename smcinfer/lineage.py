r"""The genealogy a run carries, and the error bar of log Z that it pays for.

A single run tells its own variance: particles that descend from one ancestor share that ancestor's luck,
so the squared weight of each family measures how much luck matters. With :math:`S_g` the normalised weight
of family :math:`g` among :math:`G` families,

.. math:: V = 1 - \left(\frac{G}{G-1}\right)^{r+1} \Bigl(1 - \sum_g S_g^2\Bigr)

estimates the relative variance of :math:`\hat Z` after :math:`r` resamplings, with families founded at the
start (Chan & Lai 2013; Lee & Whiteley 2018, equation 9). Founders run out on long runs. Families founded
``lag`` resamplings ago do not: their :math:`V` counts the noise since then, and the noise that leaves
the window is added up as it leaves, :math:`V_\text{lag} - V_{\text{lag}-1}` (the fixed-lag device of Olsson &
Douc 2019, applied to log Z). The price is a bias: luck that still matters after ``lag`` resamplings is not seen.

Names change only where particles are resampled: a step that does not resample costs nothing here. Islands
(`smcinfer.settings.Settings`) never exchange particles: each has a genealogy of its own, and their variances add up
with the squares of the islands' shares of the weight.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.arrays import Array, Float, Int, LogWeights, Scalar
from smcinfer.weights import normalise


class Lineage(eqx.Module):
    """Family names of the particles of one island, and the variance counted so far.

    Attributes:
        eve: Int["n"], the particle's ancestor at t = 0, numbered within the island.
        recent: Int["lag+1 n"], row l: the family founded at the l-th last resampling, or at t = 0 where there were
            fewer; row 0 is the particle's own chain. No rows where the lag is 0.
        closed: Float[""], relative variance of the noise that has left the window.
        at_decision: Float[""], the estimate when weights were last looked at before a resampling.
        num_resamplings: Int[""].
    """

    eve: Int[Array, "*islands n"]
    recent: Int[Array, "*islands rows n"]
    closed: Float[Array, "*islands"]
    at_decision: Float[Array, "*islands"]
    num_resamplings: Int[Array, "*islands"]


def founders(num_particles: int, lag: int, islands: int = 1) -> Lineage:
    """Every particle founds its own family, at t = 0; every leaf has a leading axis of islands."""
    size = num_particles // islands
    names = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (islands, size))
    recent = jnp.broadcast_to(names[:, None], (islands, lag + 1 if lag else 0, size))
    zero = jnp.zeros((islands,), jnp.result_type(float))
    return Lineage(names, recent, zero, zero, jnp.zeros((islands,), jnp.int32))


def inherit(lineage: Lineage, log_weights: LogWeights, parents: Int[Array, " n"], num_ancestors: int) -> Lineage:
    """One resampling of one island: count the noise that leaves the window, then hand the names down.

    Args:
        lineage: of one island.
        log_weights: Float["n"], normalised within the island, as resampling saw them.
        parents: Int["n"], particle i of the next generation descends from ``parents[i]``.
        num_ancestors: smaller than n says that children come in chains of ``n / num_ancestors``: each chain, not each
            particle, then founds a family, because states of one chain are dependent.
    """
    recent, closed, at_decision = lineage.recent, lineage.closed, lineage.at_decision
    last = recent.shape[0] - 1
    if last > 0:
        whole = _window(lineage, log_weights, num_ancestors, last)
        leaving = whole - _window(lineage, log_weights, num_ancestors, last - 1)
        at_decision, closed = closed + whole, closed + leaving
        num_particles = parents.shape[0]
        chains = jnp.arange(num_particles, dtype=jnp.int32) // (num_particles // num_ancestors)
        recent = jnp.concatenate([chains[None], recent[:-1][:, parents]])
    return Lineage(lineage.eve[parents], recent, closed, at_decision, lineage.num_resamplings + 1)


def family_variance(
    names: Int[Array, " n"], log_weights: LogWeights, num_families: Array | int, generations: Array | int
) -> Scalar:
    """Relative variance of Z_hat due to the noise since the families were founded (module equation)."""
    shares = jax.ops.segment_sum(jnp.exp(log_weights), names, num_segments=names.shape[0])
    families = jnp.asarray(num_families, log_weights.dtype)
    inflation = jnp.exp(jnp.asarray(generations, log_weights.dtype) * -jnp.log1p(-1.0 / jnp.maximum(families, 2.0)))
    return jnp.maximum(1.0 - inflation * (1.0 - jnp.sum(shares**2)), 0.0)


def _window(lineage: Lineage, log_weights: LogWeights, num_ancestors: int, row: int) -> Scalar:
    """V of the families of one row; those founded at t = 0 are single particles, later ones chains."""
    num_particles = log_weights.shape[0]
    families = jnp.where(lineage.num_resamplings <= row, num_particles, num_ancestors)
    return family_variance(lineage.recent[row], log_weights, families, 1)


def _recent_variance(lineage: Lineage, log_weights: LogWeights, num_ancestors: int) -> Scalar:
    """Relative variance of one island's Z_hat by families within the lag.

    Where the last step left all weights equal, Z_hat was settled when they were last looked at, and the
    offspring noise of the resampling since then is none of its own.
    """
    last = lineage.recent.shape[0] - 1
    settled = jnp.ptp(log_weights) <= 16 * jnp.finfo(log_weights.dtype).eps * jnp.abs(jnp.log(log_weights.shape[0]))
    now = lineage.closed + _window(lineage, log_weights, num_ancestors, last)
    return jnp.where(settled & (lineage.num_resamplings > 0), lineage.at_decision, now)


def _eve_variance(lineage: Lineage, log_weights: LogWeights) -> Scalar:
    """Relative variance of one island's Z_hat by families founded at t = 0 (Lee & Whiteley)."""
    return family_variance(lineage.eve, log_weights, log_weights.shape[0], lineage.num_resamplings + 1)


def variances(lineage: Lineage, log_weights: LogWeights, num_ancestors: int) -> tuple[Scalar, Scalar]:
    """Relative variance of Z_hat of a finished run, by families within the lag and by those founded at t = 0.

    Args:
        lineage: of all islands.
        log_weights: Float["num_particles"], normalised.
        num_ancestors: as in `inherit`.

    Returns:
        Both estimates; the first is the second where the lag is 0.
    """
    islands = lineage.closed.shape[0]
    blocks, log_shares = jax.vmap(normalise)(log_weights.reshape(islands, -1))
    squares = jnp.exp(2.0 * log_shares)
    eve = jnp.sum(squares * jax.vmap(_eve_variance)(lineage, blocks))
    if lineage.recent.shape[1] == 0:
        return eve, eve
    recent = jax.vmap(lambda one, weights: _recent_variance(one, weights, num_ancestors))(lineage, blocks)
    return jnp.sum(squares * recent), eve


def num_roots(lineage: Lineage) -> Int[Array, ""]:
    """How many of the initial particles have living descendants."""
    present = jax.vmap(lambda eve: jnp.zeros_like(eve).at[eve].set(1))(lineage.eve)
    return jnp.sum(present)
