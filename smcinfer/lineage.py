r"""The genealogy a run carries, and the error bar of log Z that it pays for.

A single run tells its own variance: particles that descend from one ancestor share that ancestor's luck,
so the squared weight of each family measures how much luck matters. With :math:`S_g` the normalised weight
of family :math:`g` among :math:`G` families,

.. math:: V = 1 - \left(\frac{G}{G-1}\right)^{r+1} \Bigl(1 - \sum_g S_g^2\Bigr)

estimates the relative variance of :math:`\hat Z` after :math:`r` resamplings, with families founded at the
start (Chan & Lai 2013; Lee & Whiteley 2018, equation 9). Founders run out on long runs. Families founded
``lag`` steps ago do not: their :math:`V` counts the noise of the last ``lag`` steps, and the noise that leaves
the window is added up as it leaves, :math:`V_\text{lag} - V_{\text{lag}-1}` (the fixed-lag device of Olsson &
Douc 2019, applied to log Z). The price is a bias: luck that still matters after ``lag`` steps is not seen.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.arrays import Array, Flag, Int, LogWeights, Scalar


class Lineage(eqx.Module):
    """Family names of every particle, and the variance counted so far.

    Attributes:
        eve: Int["n"], the particle's ancestor at t = 0.
        recent: Int["lag+1 n"], row l: the family founded l steps ago; row 0 is the particle's own chain.
        closed: Float[""], relative variance of the noise that has left the window.
        num_resamplings: Int[""].
        age: Int[""], steps since the start.
        at_decision: Float[""], the estimate when weights were last looked at before resampling.
    """

    eve: Int[Array, " n"]
    recent: Int[Array, "rows n"]
    closed: Scalar
    num_resamplings: Int[Array, ""]
    age: Int[Array, ""]
    at_decision: Scalar


def founders(num_particles: int, lag: int) -> Lineage:
    """Every particle founds its own family, at t = 0."""
    names = jnp.arange(num_particles, dtype=jnp.int32)
    zero = jnp.zeros((), jnp.result_type(float))
    count = jnp.zeros((), jnp.int32)
    return Lineage(names, jnp.tile(names, (lag + 1, 1)), zero, count, count, zero)


def inherit(lineage: Lineage, parents: Int[Array, " n"], num_ancestors: int) -> Lineage:
    """Names of the next generation, whose particle i descends from ``parents[i]``.

    ``num_ancestors`` smaller than ``n`` says that children come in chains of ``n / num_ancestors``: each chain, not
    each particle, then founds a family, because states of one chain are dependent.
    """
    num_particles = parents.shape[0]
    chains = jnp.arange(num_particles, dtype=jnp.int32) // (num_particles // num_ancestors)
    older = lineage.recent[:-1][:, parents]
    return eqx.tree_at(
        lambda tree: (tree.eve, tree.recent, tree.age),
        lineage,
        (lineage.eve[parents], jnp.concatenate([chains[None], older]), lineage.age + 1),
    )


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
    families = jnp.where(lineage.age <= row, num_particles, num_ancestors)
    return family_variance(lineage.recent[row], log_weights, families, 1)


def look(lineage: Lineage, log_weights: LogWeights, num_ancestors: int, resampled: Flag) -> Lineage:
    """Count the noise that leaves the window, with the weights that resampling is about to see."""
    last = lineage.recent.shape[0] - 1
    whole = _window(lineage, log_weights, num_ancestors, last)
    leaving = whole - _window(lineage, log_weights, num_ancestors, last - 1) if last else jnp.zeros_like(whole)
    return eqx.tree_at(
        lambda tree: (tree.closed, tree.at_decision, tree.num_resamplings),
        lineage,
        (lineage.closed + leaving, lineage.closed + whole, lineage.num_resamplings + resampled),
    )


def log_z_variance(lineage: Lineage, log_weights: LogWeights, num_ancestors: int) -> Scalar:
    """Relative variance of Z_hat of a finished run, by families within the lag.

    Where the last step left all weights equal, Z_hat was settled when they were last looked at, and the
    offspring noise of the resampling since then is none of its own.
    """
    last = lineage.recent.shape[0] - 1
    settled = jnp.ptp(log_weights) <= 16 * jnp.finfo(log_weights.dtype).eps * jnp.abs(jnp.log(log_weights.shape[0]))
    now = lineage.closed + _window(lineage, log_weights, num_ancestors, last)
    return jnp.where(settled & (lineage.age > 0), lineage.at_decision, now)


def eve_variance(lineage: Lineage, log_weights: LogWeights) -> Scalar:
    """Relative variance of Z_hat of a finished run, by families founded at t = 0 (Lee & Whiteley)."""
    return family_variance(lineage.eve, log_weights, log_weights.shape[0], lineage.num_resamplings + 1)


def num_roots(lineage: Lineage) -> Int[Array, ""]:
    """How many of the initial particles have living descendants."""
    present = jnp.zeros_like(lineage.eve).at[lineage.eve].set(1)
    return jnp.sum(present)
