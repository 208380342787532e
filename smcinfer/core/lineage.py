r"""The genealogy a run carries, and the error bar of log Z that it pays for.

A single run tells its own variance: particles that descend from one ancestor share that ancestor's luck,
so the squared weight of each family measures how much luck matters. With :math:`S_g` the normalised weight
of family :math:`g` among :math:`G` families,

.. math:: V = 1 - \frac{G}{G-1} \prod_{s=1}^{r} f_s \Bigl(1 - \sum_g S_g^2\Bigr)

estimates the relative variance of :math:`\hat Z` after :math:`r` resamplings, with families founded at the
start. The factors :math:`f_s` take back the coalescence that resampling causes without telling anything: with multinomial
resampling each is :math:`G / (G-1)` (Chan & Lai 2013; Lee & Whiteley 2018, equation 9). Schemes that draw more evenly
make fewer lines meet and need less, or V comes out too small. So the factor is measured: with :math:`C` the share of pairs
of children that have one parent, which multinomial resampling would make :math:`\sum_i W_i^2` on average,

.. math:: f = \frac{G}{G-1} \cdot \frac{1 - \sum_i W_i^2}{1 - C},

and it is one for schemes in which the copies of neighbours make up for each other (`smcinfer.core.resampling.EVEN`): there a
family's total keeps to its weight, whatever pairs of particles do.

Founders run out on long runs. Families founded ``lag`` resamplings ago do not: their :math:`V` counts the noise since then,
and the noise that leaves the window is added up as it leaves, older families' :math:`V` less younger ones' (the fixed-lag
device of Olsson & Douc 2019, applied to log Z). The price is a bias: luck that still matters after ``lag`` resamplings is not
seen. New families are founded at every resampling where the lag is short, else at a few of them (`epoch_of`), and names
change only where particles are resampled: a filter that resamples now and then pays little.

Islands (`Settings`) never exchange particles: each has a genealogy of its own, and their variances add up
with the squares of the islands' shares of the weight.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Float, Int, LogWeights, Scalar

Numbers = Array | np.ndarray
"""Arrays of JAX inside a program, of numpy on the host."""

ROWS = 3
"""Epochs that a lag is cut into, where it is that long."""


def epoch_of(lag: int) -> int:
    """Resamplings from one founding of families to the next, so that ``lag`` takes at most `ROWS` of them."""
    return max(1, -(-lag // ROWS))


class Lineage(eqx.Module):
    """Family names of the particles of one island, and the variance counted so far.

    Attributes:
        eve: Int["n"], the particle's ancestor at t = 0, numbered within the island.
        recent: Int["rows n"], row l: the family founded l epochs ago, or at t = 0 where there were fewer; row 0 names
            the particle's own chain after each founding. No rows where the lag is 0.
        neutral: Float["rows+1"], log of the product of the factors f since each row's families were founded; the last
            entry since t = 0.
        closed: Float[""], relative variance of the noise that has left the window.
        at_decision: Float[""], the estimate when weights were last looked at before a founding.
        num_resamplings: Int[""].
        epoch: resamplings from one founding to the next.
    """

    eve: Int[Array, "*islands n"]
    recent: Int[Array, "*islands rows n"]
    neutral: Float[Array, "*islands rows_and_eve"]
    closed: Float[Array, "*islands"]
    at_decision: Float[Array, "*islands"]
    num_resamplings: Int[Array, "*islands"]
    epoch: int = eqx.field(static=True)

    @property
    def due(self) -> Bool[Array, "*islands"]:
        """Whether the next resampling founds new families."""
        return (self.recent.shape[-2] > 0) & (self.num_resamplings % self.epoch == 0)


def founders(num_particles: int, lag: int, islands: int = 1) -> Lineage:
    """The genealogy before the first step: every particle founds its own family, at t = 0.

    Args:
        num_particles: of all islands together.
        lag: resamplings after which families are founded anew; 0 to keep those of t = 0.
        islands: the leading axis of every leaf.
    """
    size, epoch = num_particles // islands, epoch_of(lag)
    rows = -(-lag // epoch) + 1 if lag else 0
    names = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (islands, size))
    recent = jnp.broadcast_to(names[:, None], (islands, rows, size))
    zero = jnp.zeros((islands,), jnp.result_type(float))
    neutral = jnp.zeros((islands, rows + 1), zero.dtype)
    return Lineage(names, recent, neutral, zero, zero, jnp.zeros((islands,), jnp.int32), epoch)


def close(lineage: Lineage, log_weights: LogWeights, num_ancestors: int) -> Lineage:
    """Count the noise that leaves the window, where families are `due`; called before the resampling that founds new ones.

    Args:
        lineage: of one island.
        log_weights: Float["n"], normalised within the island, as resampling is about to see them.
        num_ancestors: as in `inherit`.
    """
    last = lineage.recent.shape[0] - 1
    whole = _window(lineage, log_weights, num_ancestors, last)
    leaving = whole - _window(lineage, log_weights, num_ancestors, last - 1)
    counted = (lineage.closed + leaving, lineage.closed + whole)
    counted = jax.tree.map(
        lambda new, old: jnp.where(lineage.due, new, old), counted, (lineage.closed, lineage.at_decision)
    )
    return eqx.tree_at(lambda tree: (tree.closed, tree.at_decision), lineage, counted)


def inherit(
    lineage: Lineage, log_weights: LogWeights, parents: Int[Array, " n"], num_ancestors: int, *, even: bool
) -> Lineage:
    """One resampling of one island: names are handed down, and new families founded where `due`.

    Args:
        lineage: of one island, after `close`.
        log_weights: Float["n"], normalised within the island, as resampling saw them.
        parents: Int["n"], particle i of the next generation descends from ``parents[i]``.
        num_ancestors: smaller than n says that children come in chains of ``n / num_ancestors``: each chain, not each
            particle, then founds a family, because states of one chain are dependent.
        even: whether the scheme is one of `smcinfer.core.resampling.EVEN`.
    """
    neutral, recent = lineage.neutral, lineage.recent
    if not even:
        neutral = neutral + neutral_factor(log_weights, parents[:: parents.shape[0] // num_ancestors])
    if recent.shape[0]:
        recent = recent[:, parents]
        chains = jnp.arange(parents.shape[0], dtype=jnp.int32) // (parents.shape[0] // num_ancestors)
        recent = jnp.where(lineage.due, jnp.concatenate([chains[None], recent[:-1]]), recent)
        younger = jnp.concatenate([jnp.zeros((1,), neutral.dtype), neutral[:-2], neutral[-1:]])
        neutral = jnp.where(lineage.due, younger, neutral)
    return eqx.tree_at(
        lambda tree: (tree.eve, tree.recent, tree.neutral, tree.num_resamplings),
        lineage,
        (lineage.eve[parents], recent, neutral, lineage.num_resamplings + 1),
    )


def neutral_factor(log_weights: LogWeights, ancestors: Int[Array, " num"]) -> Scalar:
    """log of the factor f of one resampling (module equation), small whatever happened.

    Args:
        log_weights: Float["n"], normalised.
        ancestors: Int["num"], what resampling drew.
    """
    num = max(ancestors.shape[0], 2)
    copies = jnp.zeros(log_weights.shape, log_weights.dtype).at[ancestors].add(1.0)
    shared = jnp.sum(copies * (copies - 1.0)) / (num * (num - 1.0))
    expected = jnp.sum(jnp.exp(2.0 * log_weights))
    # Where one particle takes all there is nothing to measure, and V is one whatever the factor.
    bound = 4.0 / (num - 1.0)
    factor = -jnp.log1p(-1.0 / num) + jnp.log1p(-expected) - jnp.log1p(-shared)
    return jnp.clip(jnp.where(jnp.isfinite(factor), factor, 0.0), -bound, bound)


def family_variance(
    names: Int[Numbers, " n"],
    log_weights: Float[Numbers, " n"],
    num_families: Numbers | int,
    neutral: Numbers | np.generic | float = 0.0,
) -> Any:
    """Relative variance of Z_hat due to the noise since the families were founded (module equation).

    Args:
        names: Int["n"], family of each particle; a numpy array (with weights that are one too) is counted on the host.
        log_weights: Float["n"], normalised.
        num_families: how many were founded.
        neutral: Float[""], log of the product of the factors f since then.
    """
    if log_weights.__array_namespace__() is np:
        shares = np.bincount(names, np.exp(log_weights))
    else:
        shares = jax.ops.segment_sum(jnp.exp(log_weights), names, num_segments=names.shape[0])
    return _variance_of(shares, num_families, neutral)


def _variance_of(
    shares: Float[Numbers, " n"], num_families: Numbers | int, neutral: Numbers | np.generic | float
) -> Any:
    """V of the module equation, of families with these shares of the weight."""
    xp = shares.__array_namespace__()
    families = xp.asarray(num_families, dtype=shares.dtype)
    inflation = xp.exp(neutral - xp.log1p(-1.0 / xp.maximum(families, 2.0)))
    return xp.maximum(1.0 - inflation * (1.0 - xp.sum(shares**2)), 0.0)


def _window(lineage: Lineage, log_weights: Float[Numbers, " n"], num_ancestors: int, row: int) -> Any:
    """V of the families of one row; those founded at t = 0 are single particles, later ones chains."""
    xp = log_weights.__array_namespace__()
    foundings = -(-lineage.num_resamplings // lineage.epoch)
    families = xp.where(foundings <= row, log_weights.shape[0], num_ancestors)
    return family_variance(lineage.recent[row], log_weights, families, lineage.neutral[row])


def _recent_variance(
    lineage: Lineage, log_weights: Float[np.ndarray, " n"], num_ancestors: int, resolution: float
) -> Any:
    """Relative variance of one island's Z_hat by families within the lag, on the host.

    Where the last step left all weights equal (to the ``resolution`` of their precision), Z_hat was settled when they were
    last looked at, and the offspring noise of the resampling since then is none of its own.
    """
    now = lineage.closed + _window(lineage, log_weights, num_ancestors, lineage.recent.shape[0] - 1)
    if lineage.epoch > 1 or lineage.num_resamplings == 0:
        return now
    settled = np.ptp(log_weights) <= 16 * resolution * np.abs(np.log(log_weights.shape[0]))
    return lineage.at_decision if settled else now


def variances(lineage: Lineage, log_weights: Float[np.ndarray, " n"], num_ancestors: int) -> tuple[float, float]:
    """Relative variance of Z_hat of a finished run, by families within the lag and by those founded at t = 0.

    Computed on the host: a run ends once, and a program for its end would take longer to compile than to count by.

    Args:
        lineage: of all islands, numpy arrays.
        log_weights: Float["num_particles"], normalised, a numpy array.
        num_ancestors: as in `inherit`.

    Returns:
        Both estimates; the first is the second where the lag is 0.
    """
    resolution = float(np.finfo(log_weights.dtype).eps)
    blocks = log_weights.astype(np.float64).reshape(lineage.closed.shape[0], -1)
    recent = eve = 0.0
    for island, block in enumerate(blocks):
        log_share = np.logaddexp.reduce(block)
        if log_share == -np.inf:
            continue
        family: Lineage = jax.tree.map(lambda leaf, at=island: leaf[at], lineage)
        within = block - log_share
        square = np.exp(2.0 * log_share)
        eve += square * family_variance(family.eve, within, block.shape[0], family.neutral[-1])
        if family.recent.shape[0]:
            recent += square * _recent_variance(family, within, num_ancestors, resolution)
    return (float(recent) if lineage.recent.shape[1] else float(eve)), float(eve)


def variance_of_shares(lineage: Lineage, shares: Float[np.ndarray, " num_particles"]) -> float:
    """Relative variance of a Z_hat of which each founder's descendants, wherever they are now, hold a share; on the host.

    Args:
        lineage: of all islands, numpy arrays.
        shares: by founder at t = 0; they sum to one.
    """
    blocks = shares.astype(np.float64).reshape(lineage.closed.shape[0], -1)
    totals = blocks.sum(axis=1)
    within = blocks / np.where(totals > 0, totals, 1.0)[:, None]
    each = [_variance_of(one, one.size, factor) for one, factor in zip(within, lineage.neutral[:, -1], strict=True)]
    return float(totals**2 @ np.asarray(each))


def num_roots(lineage: Lineage) -> int:
    """How many of the initial particles have living descendants, from numpy arrays."""
    return sum(np.unique(eve).size for eve in np.asarray(lineage.eve))
