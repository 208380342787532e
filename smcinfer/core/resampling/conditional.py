r"""Conditional resampling: the schemes given that one ancestor is particle 0.

Conditional SMC keeps one path: that of particle 0, in slot 0. If a scheme's copies are put into slots
at random, then :math:`P(A^0 = 0 \mid \mathrm{copies}) = \mathrm{copies}_0 / \mathrm{num}`, so the copies given
:math:`A^0 = 0` have the scheme's law tilted by :math:`\mathrm{copies}_0`, of mean :math:`\mathrm{num} W_0`.
Forcing slot 0 and drawing the rest as usual has that law for multinomial resampling only.

Slot 0 stands for any slot only if the scheme treats all places in the order of the particles alike. Multinomial, residual and
killing resampling do. The others are made to, by an order that is drawn anew at each resampling:

- systematic resampling knows the order up to a rotation: the children are turned until the kept copy, any one of the copies
  of particle 0, comes first;
- stratified resampling gets the particles turned by a random number of places, and turns the children in the same way;
- SSP gets the particles at random leaves of its pair tree.

Each function returns ancestors with exactly the conditional law, with ancestor 0 in slot 0. Where particle 0 has weight zero
the law is undefined: slot 0 is 0 all the same. Everything else (zero weights, NaN, ``num``) is as in the unconditional schemes.

Source: Andrieu, Doucet & Holenstein (2010), section 4.3; Chopin & Singh (2015); Karppinen, Singh & Vihola (2023).
"""

import jax
import jax.numpy as jnp
from jax import lax

from smcinfer.core.resampling.fixed_point import (
    FixedPoint,
    add,
    apportion,
    cumsum,
    cumulate,
    fraction_of,
    negate,
    to_float,
)
from smcinfer.core.resampling.pair_tree import round_fractions
from smcinfer.core.resampling.points import (
    ancestors_from_below,
    multinomial_below,
    or_arange,
    relative_weights,
    uniform_below,
)
from smcinfer.core.resampling.unconditional import compiled, multinomial, require_same_size
from smcinfer.ground.arrays import Ancestors, KeyArray, LogWeights, Scalar


@compiled
def conditional_multinomial(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    """Ancestor 0, then ``num - 1`` independent draws (see the module and `multinomial`).

    Args:
        key: one random key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors.
    """
    if num == 1:
        return jnp.zeros((1,), jnp.int32)
    return jnp.concatenate([jnp.zeros((1,), jnp.int32), multinomial(key, log_weights, num - 1)])


@compiled
def conditional_stratified(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    """Stratified in an order turned at random: one point is uniform on what particle 0 owns, the others in their strata.

    Args:
        key: one random key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors.
    """
    weights, alive = relative_weights(log_weights, num)
    size = weights.shape[0]
    turn_key, own_key, rest_key = jax.random.split(key, 3)
    place = jax.random.randint(turn_key, (), 0, size, jnp.int32)
    ends = cumulate(apportion(jnp.roll(weights, place), num))
    start = FixedPoint(*(jnp.where(place > 0, part[place - 1], jnp.zeros((), part.dtype)) for part in ends))
    end = FixedPoint(ends.whole[place], ends.fraction[place])
    point = add(start, _own_point(own_key, add(end, negate(start)), weights.dtype))
    levels = jax.random.bits(rest_key, (num,), jnp.uint32).at[point.whole].set(point.fraction, mode="drop")
    below = ends.whole + (levels.at[ends.whole].get(mode="clip") < ends.fraction)
    ancestors = (ancestors_from_below(below, num) - place) % size
    return _retain(or_arange(jnp.roll(ancestors, -point.whole), alive, size))


@compiled
def conditional_systematic(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    """Systematic through a uniform point of what particle 0 owns; the children are turned until that copy comes first.

    Args:
        key: one random key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors.
    """
    weights, alive = relative_weights(log_weights, num)
    ends = cumulate(apportion(weights, num))
    point = _own_point(key, _first(ends), weights.dtype)
    ancestors = ancestors_from_below(ends.whole + (point.fraction < ends.fraction), num)
    return _retain(or_arange(jnp.roll(ancestors, -point.whole), alive, weights.shape[0]))


@compiled
def conditional_residual(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    """Residual: the retained copy is one of the certain ones, or one of the draws is forced.

    Args:
        key: one random key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors.
    """
    weights, alive = relative_weights(log_weights, num)
    shares = apportion(weights, num)
    whole = cumsum(shares.whole)
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
    """SSP on a full pair tree, particles at random leaves: the rounding of particle 0 tilted, the tree conditioned on it.

    Args:
        key: one random key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors.
    """
    weights, alive = relative_weights(log_weights, num)
    shares = apportion(weights, num)
    branch_key, order_key, tree_key = jax.random.split(key, 3)
    share = _first(shares)
    up = jax.random.uniform(branch_key, (), weights.dtype) < _tilted_probability(share, weights.dtype)
    # All leaves of a full tree are alike: particle 0 may stand at the first if the others stand anywhere.
    size = weights.shape[0]
    leaves = 1 << (size - 1).bit_length()
    others = 1 + jax.random.permutation(order_key, leaves - 1).astype(jnp.int32)
    at_leaf = jnp.concatenate([jnp.zeros((1,), jnp.int32), others])
    fractions = jnp.pad(shares.fraction, (0, leaves - size))[at_leaf]
    rounded = jnp.zeros((leaves,), bool).at[at_leaf].set(round_fractions(tree_key, fractions, first=up))
    below = cumsum(shares.whole + rounded[:size])
    return _retain(or_arange(ancestors_from_below(below, num), alive, size))


@compiled
def conditional_killing(key: KeyArray, log_weights: LogWeights, num: int) -> Ancestors:
    r"""Killing, with the retained copy in a slot K drawn by :math:`P(K = k) \propto P(A^k = 0)`, moved to slot 0.

    The other slots are as in `killing`; what slot 0 held goes to slot K.

    Args:
        key: one random key.
        log_weights: Float["num_particles"], nats.
        num: number of ancestors, that of the particles.

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
    rank = cumsum(draws_here.astype(jnp.int32)) - 1
    draws = ancestors_from_below(multinomial_below(draw_key, weights, rank[-1] + 1, num), num)
    ancestors = jnp.where(survives, index, draws.at[rank].get(mode="clip"))
    ancestors = ancestors.at[slot].set(ancestors[0])
    return _retain(or_arange(ancestors, alive, num))


def _first(values: FixedPoint) -> FixedPoint:
    return FixedPoint(values.whole[0], values.fraction[0])


def _retain(ancestors: Ancestors) -> Ancestors:
    """Slot 0 forced to 0: it is there already, but where particle 0 has no copy at all."""
    return ancestors.at[0].set(0)


def _tilted_probability(share: FixedPoint, dtype: jnp.dtype) -> Scalar:
    r"""Probability that the share h + f of particle 0 is rounded up, given A^0 = 0: :math:`f (h + 1) / (h + f)`."""
    fraction = fraction_of(share, dtype)
    whole = share.whole.astype(dtype)
    size = whole + fraction
    return jnp.where(size > 0, fraction * (whole + 1.0) / jnp.where(size > 0, size, 1.0), 0.0)


def _own_point(key: KeyArray, share: FixedPoint, dtype: jnp.dtype) -> FixedPoint:
    """A uniform point below the share h + f of particle 0: in one of the h whole parts, or in the last one, of length f."""
    part_key, whole_key, fraction_key = jax.random.split(key, 3)
    whole = share.whole.astype(dtype)
    last = jax.random.uniform(part_key, (), dtype) * to_float(share, dtype) >= whole
    last = (last & (share.fraction > 0)) | (share.whole == 0)
    before = uniform_below(whole_key, jnp.maximum(share.whole, 1).astype(jnp.uint32)).astype(jnp.int32)
    # A bound of zero stands for 2**32, a whole part.
    fraction = uniform_below(fraction_key, jnp.where(last, share.fraction, jnp.uint32(0)))
    return FixedPoint(jnp.where(last, share.whole, before), fraction)
