r"""Conditional resampling: the schemes given that one ancestor is particle 0.

Conditional SMC keeps one path: that of particle 0, in slot 0. If a scheme's copies are put into slots
at random, then :math:`P(A^0 = 0 \mid \mathrm{copies}) = \mathrm{copies}_0 / \mathrm{num}`, so the copies given
:math:`A^0 = 0` have the scheme's law tilted by :math:`\mathrm{copies}_0`, of mean :math:`\mathrm{num} W_0`.
Forcing slot 0 and drawing the rest as usual has that law for multinomial resampling only.

Each function returns a multiset of ancestors with exactly that law, with ancestor 0 in slot 0; which of
the other slots hold which ancestors carries no randomness of its own (the order is sorted, but
for `conditional_killing`). Where particle 0 has weight zero the law is undefined: slot 0 is 0 all the same.
Everything else (zero weights, NaN, ``num``) is as in the unconditional schemes.

Source: Andrieu, Doucet & Holenstein (2010), section 4.3; Chopin & Singh (2015); Karppinen, Singh & Vihola (2023).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import UInt

from smcinfer.core.resampling.fixed_point import FixedPoint, apportion, cumulate, fraction_of, to_float
from smcinfer.core.resampling.pair_tree import round_fractions
from smcinfer.core.resampling.points import (
    ancestors_from_below,
    multinomial_below,
    or_arange,
    relative_weights,
    uniform_below,
)
from smcinfer.core.resampling.unconditional import compiled, multinomial, require_same_size
from smcinfer.ground.arrays import Ancestors, Array, Flag, KeyArray, LogWeights, Scalar


@compiled
def conditional_multinomial(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    """Ancestor 0, then ``num - 1`` independent draws (see the module and `multinomial`)."""
    if num == 1:
        return jnp.zeros((1,), jnp.int32)
    return jnp.concatenate([jnp.zeros((1,), jnp.int32), multinomial(key, log_weights, num - 1)])


@compiled
def conditional_stratified(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    """Stratified, with the tilted point in the only stratum that particle 0 may or may not win."""
    weights, alive = relative_weights(log_weights, num)
    ends = cumulate(apportion(weights, num))
    branch_key, level_key, rest_key = jax.random.split(key, 3)
    levels = jax.random.bits(rest_key, (num,), jnp.uint32)
    share = _first(ends)
    levels = levels.at[share.whole].set(_tilted_level(branch_key, level_key, share), mode="drop")
    below = ends.whole + (levels.at[ends.whole].get(mode="clip") < ends.fraction)
    return _retain(or_arange(ancestors_from_below(below, num), alive, weights.shape[0]))


@compiled
def conditional_systematic(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    """Systematic, with an offset whose density is proportional to the copies of particle 0."""
    weights, alive = relative_weights(log_weights, num)
    ends = cumulate(apportion(weights, num))
    branch_key, level_key = jax.random.split(key)
    below = ends.whole + (_tilted_level(branch_key, level_key, _first(ends)) < ends.fraction)
    return _retain(or_arange(ancestors_from_below(below, num), alive, weights.shape[0]))


@compiled
def conditional_residual(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    """Residual: the retained copy is one of the certain ones, or one of the draws is forced."""
    weights, alive = relative_weights(log_weights, num)
    shares = apportion(weights, num)
    whole = lax.cumsum(shares.whole)
    branch_key, draw_key = jax.random.split(key)
    share = _first(shares)
    certain = share.whole.astype(weights.dtype)
    uniform = jax.random.uniform(branch_key, (), weights.dtype)
    # No draw is left to force where all shares are whole.
    forced = (uniform * to_float(share, weights.dtype) >= certain) & (share.fraction > 0)
    below = multinomial_below(
        draw_key, fraction_of(shares, weights.dtype), num - whole[-1] - forced, min(num, weights.shape[0])
    )
    below = below + forced + whole
    return _retain(or_arange(ancestors_from_below(below, num), alive, weights.shape[0]))


@compiled
def conditional_ssp(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    """SSP, with the rounding of particle 0 tilted and the pair tree conditioned on it."""
    weights, alive = relative_weights(log_weights, num)
    shares = apportion(weights, num)
    branch_key, tree_key = jax.random.split(key)
    share = _first(shares)
    up = jax.random.uniform(branch_key, (), weights.dtype) < _tilted_probability(share, weights.dtype)
    below = lax.cumsum(shares.whole + round_fractions(tree_key, shares.fraction, first=up))
    return _retain(or_arange(ancestors_from_below(below, num), alive, weights.shape[0]))


@compiled
def conditional_killing(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    r"""Killing, with the retained copy in a slot K drawn by :math:`P(K = k) \propto P(A^k = 0)`, moved to slot 0.

    The other slots are as in `killing`; what slot 0 held goes to slot K.

    Raises:
        ArgumentError: ``num`` is not the number of particles.
    """
    require_same_size(log_weights, num)
    weights, alive = relative_weights(log_weights, num)
    survival_key, draw_key, slot_key = jax.random.split(key, 3)
    # P(A^k = 0) / W_0 = 1 - w_k, and in slot 0 another sum of w, for w = W / max W: killed and drawn, or survived.
    slot_weights = (1.0 - weights).at[0].add(jnp.sum(weights))
    slot_ends = cumulate(apportion(slot_weights / jnp.max(slot_weights), 1))
    level = jax.random.bits(slot_key, (), jnp.uint32)
    slot = jnp.sum((slot_ends.whole == 0) & (slot_ends.fraction <= level), dtype=jnp.int32)
    index = lax.iota(jnp.int32, num)
    survives = (jax.random.uniform(survival_key, weights.shape, weights.dtype) < weights) & (index != slot)
    draws_here = ~survives & (index != slot)
    rank = lax.cumsum(draws_here.astype(jnp.int32)) - 1
    draws = ancestors_from_below(multinomial_below(draw_key, weights, rank[-1] + 1, num), num)
    ancestors = jnp.where(survives, index, draws.at[rank].get(mode="clip"))
    ancestors = ancestors.at[slot].set(ancestors[0])
    return _retain(or_arange(ancestors, alive, num))


def _first(values: FixedPoint) -> FixedPoint:
    return FixedPoint(values.whole[0], values.fraction[0])


def _retain(ancestors: Ancestors) -> Ancestors:
    """Slot 0 forced to 0: it is there already in sorted order, but where particle 0 has no copy at all."""
    return ancestors.at[0].set(0)


def _tilted_probability(share: FixedPoint, dtype: jnp.dtype) -> Scalar:
    r"""Probability that the share h + f of particle 0 is rounded up, given A^0 = 0: :math:`f (h + 1) / (h + f)`."""
    fraction = fraction_of(share, dtype)
    whole = share.whole.astype(dtype)
    size = whole + fraction
    return jnp.where(size > 0, fraction * (whole + 1.0) / jnp.where(size > 0, size, 1.0), 0.0)


def _tilted_level(branch_key: KeyArray, level_key: KeyArray, share: FixedPoint) -> UInt[Array, ""]:
    """A level u of density proportional to h + 1{u < f}, the copies of particle 0 if its share is h + f."""
    dtype = jnp.result_type(float)
    up: Flag = jax.random.uniform(branch_key, (), dtype) < _tilted_probability(share, dtype)
    # A bound of zero stands for 2**32, which is what is left above a fraction of zero.
    bound = jnp.where(up, share.fraction, jnp.uint32(0) - share.fraction)
    return jnp.where(up, jnp.uint32(0), share.fraction) + uniform_below(level_key, bound)
