r"""Split-merge moves by sequential allocation, with means and the activity of empty slots integrated out.

Two data are picked. If one slot owns both it is split: the first founds a new component in a slot that owns nothing, the
second keeps the old one, and the others follow one by one with the odds

.. math:: (\alpha + n_k)\, p(x_i \mid \text{the data that } k \text{ has so far}).

If two slots own them they are merged, and the same walk tells the probability of the split that would undo it.

Source: Dahl (2005), sequentially-allocated merge-split sampler.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, logsumexp

from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray, Scalar
from smcinfer.models.open_mixture.model import MixtureState, OpenMixture
from smcinfer.models.open_mixture.moves import Move, mean_law, redraw


class SplitMerge(Move):
    """``num_proposals`` splits or merges, then fresh means and empty slots.

    Attributes:
        num_proposals: pairs of data picked a step.
    """

    num_proposals: int = eqx.field(static=True, default=1)

    def __call__(
        self, key: KeyArray, state: MixtureState, model: OpenMixture, exponent: Scalar
    ) -> tuple[MixtureState, Scalar]:
        """Metropolis steps on the labels, then everything else given them."""

        def once(number: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            labels, accepted = carry
            labels, yes = _propose(jax.random.fold_in(key, number), labels, model, exponent)
            return labels, accepted + yes

        start = (state.labels, jnp.zeros((), model.data.dtype))
        labels, accepted = jax.lax.fori_loop(0, self.num_proposals, once, start)
        state = redraw(jax.random.fold_in(key, self.num_proposals), labels, model, exponent)
        return state, accepted / self.num_proposals


def log_cluster(
    count: Float[Array, ""], total: Float[Array, " d"], square: Scalar, model: OpenMixture, exponent: Scalar
) -> Scalar:
    """Log marginal density of a cluster's data (to the power ``exponent`` before its mean is integrated out), nats.

    Args:
        count, total, square: number, sum and sum of squared norms of the data.
        model: for the noise and the spread.
        exponent: Float[""], in [0, 1], of the likelihood.
    """
    d = total.shape[0]
    noise = model.noise**2
    precision = exponent * count / noise + 1.0 / model.spread**2
    shift = jnp.sum((exponent / noise * total) ** 2) / (2 * precision)
    norm = -0.5 * d * (jnp.log(precision) + 2 * jnp.log(model.spread)) - 0.5 * exponent * count * d * jnp.log(
        2 * jnp.pi * noise
    )
    return norm + shift - 0.5 * exponent * square / noise


class _Walk(eqx.Module):
    """Where the sequential allocation stands."""

    counts: Float[Array, "2"]
    sums: Float[Array, "2 d"]
    joins_new: Bool[Array, " n"]
    log_prob: Scalar


def _propose(
    key: KeyArray, labels: Int[Array, " n"], model: OpenMixture, exponent: Scalar
) -> tuple[Int[Array, " n"], Scalar]:
    """One split or merge of a random pair; the labels, and one where they changed."""
    n = labels.shape[0]
    if n < 2:
        return labels, jnp.zeros((), model.data.dtype)
    pair_key, slot_key, order_key, walk_key, accept_key = jax.random.split(key, 5)
    steps = jax.random.randint(pair_key, (2,), jnp.array([0, 1]), n)
    new_seed, old_seed = steps[0], (steps[0] + steps[1]) % n
    pair = jnp.stack([new_seed, old_seed])
    old = labels[old_seed]
    splits = labels[new_seed] == old
    occupied = model.counts(labels) > 0
    num_occupied = jnp.sum(occupied)
    free = jax.random.categorical(slot_key, jnp.where(occupied, -jnp.inf, 0.0))
    new = jnp.where(splits, free, labels[new_seed]).astype(jnp.int32)
    members = (labels == old) | (labels == new)
    walk = _allocate(order_key, walk_key, labels == new, members, pair, splits, model, exponent)
    divided = jnp.where(members, jnp.where(walk.joins_new, new, old), labels)
    merged = jnp.where(members, old, labels)
    # Everything is told from the split's side: the merged state against the divided one.
    merged_size = num_occupied - jnp.where(splits, 0, 1)
    log_any = logsumexp(model.log_occupied, axis=1)
    part = members & walk.joins_new
    gain = _log_part(part, model, exponent) + _log_part(members & ~part, model, exponent)
    gain += log_any[jnp.minimum(merged_size + 1, model.num_slots)] - log_any[merged_size]
    gain -= _log_part(members, model, exponent)
    log_ratio = gain - walk.log_prob + jnp.log(jnp.maximum(model.num_slots - merged_size, 1))
    possible = merged_size < model.num_slots
    log_accept = jnp.where(splits, log_ratio, -log_ratio)
    accept = possible & (-jax.random.exponential(accept_key, (), log_accept.dtype) < log_accept)
    proposed = jnp.where(splits, divided, merged)
    return jnp.where(accept, proposed, labels), accept.astype(model.data.dtype)


def _log_part(mask: Bool[Array, " n"], model: OpenMixture, exponent: Scalar) -> Scalar:
    """Prior and marginal density of the data under a mask as one component; zero of none is not asked for."""
    inside = mask.astype(model.data.dtype)
    count = jnp.sum(inside)
    square = jnp.sum(inside * jnp.sum(model.data**2, axis=1))
    prior = gammaln(model.concentration + count) - gammaln(model.concentration)
    return prior + log_cluster(count, inside @ model.data, square, model, exponent)


def _allocate(
    order_key: KeyArray,
    walk_key: KeyArray,
    in_new: Bool[Array, " n"],
    members: Bool[Array, " n"],
    pair: Int[Array, "2"],
    splits: Bool[Array, ""],
    model: OpenMixture,
    exponent: Scalar,
) -> _Walk:
    """Walk over the members in random order: draw where each goes if this is a split, follow ``in_new`` if a merge."""
    n = members.shape[0]
    followers = members.at[pair].set(False)
    order = jnp.argsort(jnp.where(followers, jax.random.uniform(order_key, (n,)), jnp.inf))
    uniforms = jax.random.uniform(walk_key, (n,), model.data.dtype)
    seeds = model.data[pair]
    start = _Walk(
        jnp.ones((2,), seeds.dtype), seeds, jnp.zeros((n,), bool).at[pair[0]].set(True), jnp.zeros((), seeds.dtype)
    )

    def step(carry: tuple[Array, _Walk]) -> tuple[Array, _Walk]:
        number, walk = carry
        index = order[number]
        x = model.data[index]
        centres, scales = mean_law(walk.counts, walk.sums, model, exponent)
        log_odds = jnp.log(model.concentration + walk.counts) + _log_predictive(x - centres, scales, model, exponent)
        log_new, log_old = log_odds - logsumexp(log_odds)
        joins = jnp.where(splits, jnp.log(uniforms[index]) < log_new, in_new[index])
        chosen = jnp.where(joins, jnp.array([1.0, 0.0], x.dtype), jnp.array([0.0, 1.0], x.dtype))
        log_prob = walk.log_prob + jnp.where(joins, log_new, log_old)
        sums = walk.sums + chosen[:, None] * x
        walk = _Walk(walk.counts + chosen, sums, walk.joins_new.at[index].set(joins), log_prob)
        return number + 1, walk

    num_followers = jnp.sum(followers)
    return jax.lax.while_loop(lambda carry: carry[0] < num_followers, step, (jnp.zeros_like(num_followers), start))[1]


def _log_predictive(
    offset: Float[Array, "2 d"], scales: Float[Array, "2"], model: OpenMixture, exponent: Scalar
) -> Float[Array, "2"]:
    """Log predictive density of a datum in each part, up to what both share; all alike at exponent zero."""
    # At exponent zero the noise is infinite: the density is then written in the precision.
    precision = 1.0 / (model.noise**2 + exponent * scales**2)
    d = offset.shape[-1]
    return -0.5 * exponent * precision * jnp.sum(offset**2, axis=-1) + 0.5 * d * jnp.log(precision)
