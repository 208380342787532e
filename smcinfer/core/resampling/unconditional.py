r"""Resampling schemes: how many copies each particle gets, :math:`E[\mathrm{copies}_i] = \mathrm{num} W_i`.

Every scheme has the same signature and takes log weights that need not be normalised. Ancestors come
sorted, which keeps the gather that follows local in memory; only `killing` leaves survivors in
their own slot. NaN and plus infinity count as zero weight, a particle of weight zero is never chosen, and
where every weight is zero the particles are returned in turn.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from smcinfer.core.resampling.fixed_point import apportion, cumsum, cumulate, fraction_of
from smcinfer.core.resampling.pair_tree import round_fractions
from smcinfer.core.resampling.points import ancestors_from_below, multinomial_below, or_arange, relative_weights
from smcinfer.ground.arrays import Ancestors, KeyArray, LogWeights
from smcinfer.ground.errors import ArgumentError

compiled = partial(jax.jit, static_argnames=("num",))
"""Compiles a scheme, so that it is fast outside jit too; ``num`` is a shape."""


@compiled
def multinomial(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    r"""Draw every ancestor on its own, :math:`P(A = i) = W_i`.

    Args:
        key: one key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors.

    Returns:
        Int["num"], sorted.

    Source: Gordon, Salmond & Smith (1993).
    """
    weights, alive = relative_weights(log_weights, num)
    below = multinomial_below(key, weights, num, num)
    return or_arange(ancestors_from_below(below, num), alive, weights.shape[0])


@compiled
def stratified(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    r"""One uniform point in each of ``num`` equal strata, :math:`(k + U_k) / \mathrm{num}`.

    Args:
        key: one key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors.

    Returns:
        Int["num"], sorted. Copies differ from :math:`\mathrm{num} W_i` by less than two.

    Source: Kitagawa (1996).
    """
    weights, alive = relative_weights(log_weights, num)
    ends = cumulate(apportion(weights, num))
    levels = jax.random.bits(key, (num,), jnp.uint32)
    below = ends.whole + (levels.at[ends.whole].get(mode="clip") < ends.fraction)
    return or_arange(ancestors_from_below(below, num), alive, weights.shape[0])


@compiled
def systematic(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    r"""Equally spaced points with one random offset, :math:`(k + U) / \mathrm{num}`.

    Args:
        key: one key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors.

    Returns:
        Int["num"], sorted. Copies are :math:`\mathrm{num} W_i` rounded down or up.

    Source: Carpenter, Clifford & Fearnhead (1999).
    """
    weights, alive = relative_weights(log_weights, num)
    ends = cumulate(apportion(weights, num))
    below = ends.whole + (jax.random.bits(key, (), jnp.uint32) < ends.fraction)
    return or_arange(ancestors_from_below(below, num), alive, weights.shape[0])


@compiled
def residual(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    r""":math:`\lfloor \mathrm{num} W_i \rfloor` copies of each particle, the rest multinomial on what remains.

    Args:
        key: one key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors.

    Returns:
        Int["num"], sorted.

    Source: Liu & Chen (1998).
    """
    weights, alive = relative_weights(log_weights, num)
    shares = apportion(weights, num)
    whole = cumsum(shares.whole)
    below = whole + multinomial_below(
        key, fraction_of(shares, weights.dtype), num - whole[-1], min(num, weights.shape[0])
    )
    return or_arange(ancestors_from_below(below, num), alive, weights.shape[0])


@compiled
def ssp(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    r"""Round :math:`\mathrm{num} W_i` down or up by the Srinivasan sampling process, run as a pair tree.

    The copies are negatively associated, which makes the scheme consistent whatever the order of the
    particles; systematic resampling, as even in its copies, does not promise that.

    Args:
        key: one key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors.

    Returns:
        Int["num"], sorted. Copies are :math:`\mathrm{num} W_i` rounded down or up.

    Source: Gerber, Chopin & Whiteley (2019), algorithm 3.
    """
    weights, alive = relative_weights(log_weights, num)
    shares = apportion(weights, num)
    below = cumsum(shares.whole + round_fractions(key, shares.fraction))
    return or_arange(ancestors_from_below(below, num), alive, weights.shape[0])


@compiled
def killing(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    r"""Slot i keeps its particle with probability :math:`W_i / \max W`, else it takes a multinomial draw.

    Args:
        key: one key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors, which must be ``num_particles``.

    Returns:
        Int["num"]. Survivors stay in their slot; the killed slots, from the left, take their draws sorted.

    Raises:
        ArgumentError: ``num`` is not the number of particles.

    Source: Del Moral (2004), section 2.5.
    """
    require_same_size(log_weights, num)
    weights, alive = relative_weights(log_weights, num)
    survival_key, draw_key = jax.random.split(key)
    # The heaviest particle has relative weight one and always survives: uniforms are below one.
    survives = jax.random.uniform(survival_key, weights.shape, weights.dtype) < weights
    rank = cumsum((~survives).astype(jnp.int32)) - 1
    draws = ancestors_from_below(multinomial_below(draw_key, weights, rank[-1] + 1, num), num)
    ancestors = jnp.where(survives, lax.iota(jnp.int32, num), draws.at[rank].get(mode="clip"))
    return or_arange(ancestors, alive, num)


def require_same_size(log_weights: LogWeights, num: int) -> None:
    """Raise unless ``num`` is the number of particles: killing has a slot for each particle."""
    if num != log_weights.shape[0]:
        raise ArgumentError(
            "killing resamples as many particles as there are",
            expected=f"num = {log_weights.shape[0]}, the number of log weights",
            got=f"num = {num}",
            hint="use another scheme to change the number of particles",
        )
