r"""The learned move of the open mixture: slots are paired at random, and every pair's components are proposed anew.

The blocks of a sweep are disjoint pairs of slots. What a pair (j, k) owns together, S, does not change; labels within S
are summed out,

.. math::
    t(\text{both}, \mu_j, \mu_k, r) = c_{K_0+2} \frac{\Gamma(2\alpha+|S|)}{\Gamma(2\alpha)} p(\mu_j) p(\mu_k)
    \mathrm{Beta}(r; \alpha, \alpha) \prod_{i \in S} \{ r N(x_i; \mu_j) + (1-r) N(x_i; \mu_k) \},

with :math:`c_K` what the joint owes to K active slots, and likewise with one slot active and the other's mean from its prior.
A proposal changes both components and whether there are two; it is accepted by Metropolis-Hastings, and labels are then
drawn given the components. Only the number of active slots ties pairs to each other: proposals are made for all pairs at
once, acceptance goes through them in turn.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import TargetError
from smcinfer.models.open_mixture.model import MixtureState, OpenMixture
from smcinfer.models.open_mixture.moves import Move
from smcinfer.proposals.mixture_pair.anchors import (
    Frame,
    Motif,
    frame,
    guesses,
    log_pair,
    log_single,
    of_owner,
    pair_terms,
    single_law,
)
from smcinfer.proposals.mixture_pair.network import PairLaw, PairNetwork


class LearnedPairs(Move):
    """Block proposals for pairs of components of data in the plane, accepted by Metropolis-Hastings.

    Attributes:
        network: what proposes; trained, or not: what the move leaves invariant is the same.
    """

    network: PairNetwork

    def __call__(
        self, key: KeyArray, state: MixtureState, model: OpenMixture, exponent: Scalar
    ) -> tuple[MixtureState, Scalar]:
        """One sweep over random pairs of all slots (one slot rests where their number is odd).

        Raises:
            TargetError: for data that are not in the plane.
        """
        if model.data.shape[1] != 2:
            raise TargetError(
                "the learned proposal for pairs of components does not fit the data",
                expected="data in the plane, shape (n, 2)",
                got=model.data.shape,
                hint="SplitMerge works in any dimension",
            )
        num_pairs = model.num_slots // 2
        if num_pairs == 0:
            return state, jnp.ones((), model.data.dtype)
        pair_key, share_key, propose_key, accept_key, label_key = jax.random.split(key, 5)
        pairs = jax.random.permutation(pair_key, model.num_slots)[: 2 * num_pairs].reshape(num_pairs, 2)
        pair_of = jnp.full((model.num_slots,), num_pairs).at[pairs].set(jnp.arange(num_pairs)[:, None])
        owner = pair_of[state.labels]
        # A likelihood to the power lambda is one of noise / sqrt(lambda), up to what all states share.
        noise = model.noise / jnp.sqrt(jnp.maximum(exponent, jnp.finfo(model.data.dtype).eps))
        motif = Motif(model.concentration, model.spread, noise)
        seen = frame(model.data, owner, num_pairs, motif)
        law = self.network(guesses(seen, owner, motif))
        now = _now(share_key, state, pairs, seen, model)
        two, one = _propose(propose_key, law, seen)
        weights = _Weights(
            log_pair(now.values, seen, owner, motif) - law.log_prob(now.values),
            log_pair(two.values, seen, owner, motif) - law.log_prob(two.values),
            log_single(seen) + jnp.log(2.0),
        )
        accepted, is_two = _accept(accept_key, now, weights, law, seen, state.active, model)
        moved = jax.tree.map(
            lambda two, one, now: jnp.where(accepted[:, None], jnp.where(is_two[:, None], two, one), now), two, one, now
        )
        places = jnp.stack([seen.out_of(moved.values[:, :2]), seen.out_of(moved.values[:, 2:4])], axis=1)
        places = jnp.where(accepted[:, None, None], places, state.means[pairs])
        labels = _labels(label_key, state.labels, pairs, moved, owner, seen)
        tried = jnp.maximum(jnp.sum(jnp.any(now.active, axis=1)), 1)
        share = (jnp.sum(accepted) / tried).astype(model.data.dtype)
        return MixtureState(state.active.at[pairs].set(moved.active), state.means.at[pairs].set(places), labels), share


class _Pairs(eqx.Module):
    """Pairs of components: which are active; both means and the logit of the first's share, in the pair's frame."""

    active: Bool[Array, "pairs 2"]
    values: Float[Array, "pairs 5"]


class _Weights(eqx.Module):
    """log of target over proposal, up to what depends on the number of active slots: two as they are, two as proposed, one."""

    now_two: Float[Array, " pairs"]
    new_two: Float[Array, " pairs"]
    one: Float[Array, " pairs"]


def _now(key: KeyArray, state: MixtureState, pairs: Int[Array, "pairs 2"], seen: Frame, model: OpenMixture) -> _Pairs:
    """The state's own pairs, with shares drawn given the labels."""
    gammas = jax.random.loggamma(key, model.concentration + model.counts(state.labels)[pairs])
    first, second = (seen.into(state.means[pairs[:, side]]) for side in (0, 1))
    return _Pairs(state.active[pairs], jnp.concatenate([first, second, gammas[:, :1] - gammas[:, 1:]], axis=1))


def _propose(key: KeyArray, law: PairLaw, seen: Frame) -> tuple[_Pairs, _Pairs]:
    """Every pair with two components and with one: a coin picks it, its mean is exact, the other's from the prior."""
    two_key, mean_key, other_key, coin_key = jax.random.split(key, 4)
    values = law.sample(two_key)
    coin = jax.random.bernoulli(coin_key, 0.5, values.shape[:1])
    centre, scale = single_law(seen)
    mean = centre + scale[:, None] * jax.random.normal(mean_key, centre.shape, centre.dtype)
    other = seen.prior_mean + seen.ratio * jax.random.normal(other_key, centre.shape, centre.dtype)
    first, second = jnp.where(coin[:, None], mean, other), jnp.where(coin[:, None], other, mean)
    # The share of a pair with one active slot is never read.
    single = jnp.concatenate([first, second, values[:, 4:]], axis=1)
    return _Pairs(jnp.ones((*coin.shape, 2), bool), values), _Pairs(jnp.stack([coin, ~coin], axis=1), single)


def _log_rising(start: Scalar, count: Float[Array, " pairs"]) -> Float[Array, " pairs"]:
    return gammaln(start + count) - gammaln(start)


def _accept(
    key: KeyArray,
    now: _Pairs,
    weights: _Weights,
    law: PairLaw,
    seen: Frame,
    active: Bool[Array, " slots"],
    model: OpenMixture,
) -> tuple[Bool[Array, " pairs"], Bool[Array, " pairs"]]:
    """Whether each pair takes its proposal, and whether that has two components.

    How many components to propose may look at the number of active slots outside the pair: the pair cannot change it.
    """
    alpha, log_size = model.concentration, model.log_size
    number_key, level_key = jax.random.split(key)
    dtype = weights.one.dtype
    uniforms = jax.random.uniform(number_key, weights.one.shape, dtype)
    levels = -jax.random.exponential(level_key, weights.one.shape, dtype)
    # What the labels' prior gives a pair of two components over one, whatever the data.
    log_prior = _log_rising(2 * alpha, seen.counts) - _log_rising(alpha, seen.counts)

    def once(size: Array, parts: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        count, uniform, level, now_two, new_two, one, odds, prior = parts
        outside = size - count
        log_two, log_one = log_size[outside + 2] + prior, log_size[outside + 1]
        odds = odds + log_two - log_one
        is_two = uniform < jax.nn.sigmoid(odds)
        share_two, share_one = jax.nn.log_sigmoid(odds), jax.nn.log_sigmoid(-odds)
        here = jnp.where(count == 2, log_two + now_two - share_two, log_one + one - share_one)
        there = jnp.where(is_two, log_two + new_two - share_two, log_one + one - share_one)
        accepted = (count > 0) & (level < there - here)
        return jnp.where(accepted, outside + 1 + is_two, size), (accepted, is_two)

    counts = jnp.sum(now.active, axis=1)
    parts = (counts, uniforms, levels, weights.now_two, weights.new_two, weights.one, law.log_evidence, log_prior)
    return jax.lax.scan(once, jnp.sum(active), parts)[1]


def _labels(
    key: KeyArray,
    labels: Int[Array, " n"],
    pairs: Int[Array, "pairs 2"],
    moved: _Pairs,
    owner: Int[Array, " n"],
    seen: Frame,
) -> Int[Array, " n"]:
    """Labels within every pair given its components."""
    values = of_owner(moved.values, owner)
    odds, _ = pair_terms(seen.points, values[:, :2], values[:, 2:4], values[:, 4])
    drawn = jax.random.uniform(key, odds.shape, odds.dtype) < jax.nn.sigmoid(odds)
    active = of_owner(moved.active, owner)
    first = jnp.where(active[:, 0] & active[:, 1], drawn, active[:, 0])
    slots = of_owner(pairs, owner)
    chosen = jnp.where(first, slots[:, 0], slots[:, 1]).astype(labels.dtype)
    return jnp.where(owner < pairs.shape[0], chosen, labels)
