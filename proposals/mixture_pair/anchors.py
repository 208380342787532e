r"""What a pair of mixture components can be told of the data they own: a frame, four guesses, and features for a network.

Every group of data is centred, turned to its principal axes and scaled by the noise, with signs that make the third moments
positive, so that one network serves data anywhere. In this frame a few steps of expectation maximisation from each axis
guess the two components; a third guess leaves one of them nearly empty, a fourth knows only the prior. All of it depends on
the data alone, never on how they are divided now, so a proposal built on it is its own way back.

Groups are worked out together: each datum names its group, and sums over groups are scattered.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from smcinfer.ground.arrays import Array, Float, Int, Scalar

NUM_FEATURES = 24
EM_STEPS = 4
GUESSES = 4
FAR = 30.0
"""Features are kept within this."""


class Motif(eqx.Module):
    """What defines a group's problem besides its data.

    Attributes:
        concentration: alpha of the Dirichlet law.
        spread: standard deviation of the means' prior, about zero.
        noise: standard deviation of the data about their mean.
    """

    concentration: Scalar
    spread: Scalar
    noise: Scalar


class Frame(eqx.Module):
    """Groups in their own frames, leading axis groups unless said otherwise.

    Attributes:
        centre: Float["groups 2"], mean of the data.
        axes: Float["groups 2 2"], rows are the axes: u = axes (x - centre) / noise.
        points: Float["n 2"], the data in the frame of their group.
        counts: Float["groups"], data of each.
        squares: Float["groups"], sums of |u|^2.
        prior_mean: Float["groups 2"], zero as the frame sees it.
        ratio: spread over noise.
        noise: standard deviation of the data about their mean.
    """

    centre: Float[Array, "groups 2"]
    axes: Float[Array, "groups 2 2"]
    points: Float[Array, "n 2"]
    counts: Float[Array, " groups"]
    squares: Float[Array, " groups"]
    prior_mean: Float[Array, "groups 2"]
    ratio: Scalar
    noise: Scalar

    def into(self, x: Float[Array, "groups 2"]) -> Float[Array, "groups 2"]:
        """A point of each group, seen in its frame."""
        return jnp.einsum("gij,gj->gi", self.axes, x - self.centre) / self.noise

    def out_of(self, u: Float[Array, "groups 2"]) -> Float[Array, "groups 2"]:
        """A point of each frame, where it is in the plane."""
        return self.centre + self.noise * jnp.einsum("gij,gi->gj", self.axes, u)


class Guesses(eqx.Module):
    """Guesses of (mean of a, mean of b, logit of a's share) in the frame, with standard deviations, and the features.

    Attributes:
        means, scales: Float["groups guesses 5"].
        features: Float["groups features"].
    """

    means: Float[Array, "groups guesses 5"]
    scales: Float[Array, "groups guesses 5"]
    features: Float[Array, "groups features"]


def group_sums(values: Float[Array, "n k"], owner: Int[Array, " n"], num_groups: int) -> Float[Array, "groups k"]:
    """Sums over the data of each group.

    Args:
        values: Float["n k"], of each datum.
        owner: Int["n"], the group of each datum; ``num_groups`` for none.
        num_groups: rows of the result.
    """
    return jnp.zeros((num_groups + 1, values.shape[1]), values.dtype).at[owner].add(values)[:num_groups]


def of_owner(values: Array, owner: Int[Array, " n"]) -> Array:
    """Each datum's row of what its group has, (groups, ...) to (n, ...)."""
    return values[jnp.minimum(owner, values.shape[0] - 1)]


def frame(data: Float[Array, "n 2"], owner: Int[Array, " n"], num_groups: int, motif: Motif) -> Frame:
    """The frame of every group: where its data are, how they lie, and the data as seen from there.

    Args:
        data: Float["n 2"], in the plane.
        owner: Int["n"], the group of each datum; ``num_groups`` for none.
        num_groups: groups.
        motif: for the noise and the spread.
    """
    ones = jnp.ones((data.shape[0], 1), data.dtype)
    totals = group_sums(jnp.concatenate([ones, data], axis=1), owner, num_groups)
    counts = totals[:, 0]
    centre = totals[:, 1:] / jnp.maximum(counts, 1.0)[:, None]
    v = (data - of_owner(centre, owner)) / motif.noise
    second = group_sums(jnp.stack([v[:, 0] ** 2, v[:, 1] ** 2, v[:, 0] * v[:, 1]], axis=1), owner, num_groups)
    angle = 0.5 * jnp.arctan2(2 * second[:, 2], second[:, 0] - second[:, 1])
    major = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    axes = jnp.stack([major, jnp.stack([-major[:, 1], major[:, 0]], axis=1)], axis=1)
    u = jnp.einsum("nij,nj->ni", of_owner(axes, owner), v)
    signs = jnp.where(group_sums(u**3, owner, num_groups) < 0, -1.0, 1.0).astype(data.dtype)
    axes, u = axes * signs[:, :, None], u * of_owner(signs, owner)
    prior_mean = -jnp.einsum("gij,gj->gi", axes, centre) / motif.noise
    return Frame(
        centre, axes, u, counts, second[:, 0] + second[:, 1], prior_mean, motif.spread / motif.noise, motif.noise
    )


def pair_terms(
    u: Float[Array, "n 2"], a: Float[Array, "n 2"], b: Float[Array, "n 2"], logit: Float[Array, " n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Log odds of a against b for each datum, and its log density with the label summed out (unit noise), nats.

    Args:
        u: Float["n 2"], the data in their frames.
        a, b: Float["n 2"], the two means that each datum may belong to.
        logit: Float["n"], of the share of a.
    """
    log_a = -0.5 * jnp.sum((u - a) ** 2, axis=1) - jax.nn.softplus(-logit)
    log_b = -0.5 * jnp.sum((u - b) ** 2, axis=1) - jax.nn.softplus(logit)
    return log_a - log_b, jnp.logaddexp(log_a, log_b) - math.log(2 * math.pi)


def log_likelihood(values: Float[Array, "groups 5"], seen: Frame, owner: Int[Array, " n"]) -> Float[Array, " groups"]:
    """Log density of every group's data under its two components, labels summed out, nats in the frame.

    Args:
        values: Float["groups 5"], mean of a, mean of b and logit of a's share.
        seen: the groups in their frames.
        owner: Int["n"], the group of each datum.
    """
    a, b, logit = values[:, :2], values[:, 2:4], values[:, 4]
    each = pair_terms(seen.points, of_owner(a, owner), of_owner(b, owner), of_owner(logit, owner))[1]
    return group_sums(each[:, None], owner, values.shape[0])[:, 0]


def log_pair(
    values: Float[Array, "groups 5"], seen: Frame, owner: Int[Array, " n"], motif: Motif
) -> Float[Array, " groups"]:
    """Log joint density of two components and every group's data, labels summed out, nats in the frame.

    Args:
        values: Float["groups 5"], mean of a, mean of b and logit of a's share.
        seen: the groups in their frames.
        owner: Int["n"], the group of each datum.
        motif: for the concentration.
    """
    alpha, logit = motif.concentration, values[:, 4]
    log_beta = 2 * gammaln(alpha) - gammaln(2 * alpha)
    # The density of the logit: that of the share times r (1 - r).
    log_share = -alpha * (jax.nn.softplus(logit) + jax.nn.softplus(-logit)) - log_beta
    away = jnp.sum((values[:, :2] - seen.prior_mean) ** 2 + (values[:, 2:4] - seen.prior_mean) ** 2, axis=1)
    log_means = -0.5 * away * seen.ratio**-2 - 4 * jnp.log(seen.ratio) - 2 * math.log(2 * math.pi)
    return log_share + log_means + log_likelihood(values, seen, owner)


def log_single(seen: Frame) -> Float[Array, " groups"]:
    """Log density of every group's data under one component, its mean integrated out, nats in the frame."""
    # In the frame the data sum to zero, so all the mean has to fit is the prior's centre.
    precision = seen.counts + seen.ratio**-2
    away = jnp.sum(seen.prior_mean**2, axis=1)
    fit = -0.5 * seen.squares - seen.counts * math.log(2 * math.pi)
    return fit - 2 * jnp.log(seen.ratio) - jnp.log(precision) - 0.5 * away * seen.counts * seen.ratio**-2 / precision


def single_law(seen: Frame) -> tuple[Float[Array, "groups 2"], Float[Array, " groups"]]:
    """Centre and standard deviation of the mean of a group's only component."""
    precision = seen.counts + seen.ratio**-2
    return seen.prior_mean * (seen.ratio**-2 / precision)[:, None], precision**-0.5


def guesses(seen: Frame, owner: Int[Array, " n"], motif: Motif) -> Guesses:
    """The four guesses of every group, and what a network reads of it.

    Args:
        seen: the groups in their frames.
        owner: Int["n"], the group of each datum.
        motif: for the concentration.
    """
    num_groups = seen.counts.shape[0]
    u, counts = seen.points, seen.counts
    moments = group_sums(jnp.concatenate([u**2, u**3, u**4], axis=1), owner, num_groups)
    moments = moments / jnp.maximum(counts, 1.0)[:, None]
    variance, third, fourth = moments[:, :2], moments[:, 2:4], moments[:, 4:]
    deviation = jnp.sqrt(variance + 1e-3)
    zero = jnp.zeros_like(counts)
    along = jnp.stack([jnp.stack([deviation[:, 0], zero], axis=1), jnp.stack([zero, deviation[:, 1]], axis=1)])
    found, log_two = jax.vmap(lambda offset: _expectation_maximisation(offset, seen, owner, motif))(along)
    gain = log_two - log_single(seen)
    apart = jnp.log1p(jnp.linalg.norm(found[:, :, :2] - found[:, :, 2:4], axis=2))
    told = jnp.stack([jnp.arcsinh(gain), gain / (1 + counts), apart, found[:, :, 4]], axis=2)
    alpha = motif.concentration
    single, _ = single_law(seen)
    # The logit of a Beta draw has mean digamma(a) - digamma(b).
    lopsided = digamma(alpha + counts) - digamma(alpha)
    lonely = jnp.concatenate([single, seen.prior_mean, lopsided[:, None]], axis=1)
    blind = jnp.concatenate([seen.prior_mean, seen.prior_mean, zero[:, None]], axis=1)
    means = jnp.stack([*found, lonely, blind], axis=1)
    share = jax.nn.sigmoid(means[:, :, 4])
    # What each guess thinks the two own; the last knows of no data.
    owned = jnp.stack([share, 1 - share], axis=2) * counts[:, None, None]
    owned = owned.at[:, 2].set(jnp.stack([counts, zero], axis=1)).at[:, 3].set(0.0)
    centre_scale = (owned + seen.ratio**-2) ** -0.5
    share_scale = jnp.sqrt(jnp.sum(1 / (alpha + owned) + 0.5 / (alpha + owned) ** 2, axis=2))
    scales = jnp.concatenate([jnp.repeat(centre_scale, 2, axis=2), share_scale[:, :, None]], axis=2)
    shape = [
        variance / (1 + variance),
        jnp.log(variance + 0.05),
        third / deviation**3,
        jnp.log(fourth / deviation**4 + 0.1),
    ]
    plain = jnp.stack(
        [jnp.log1p(counts), zero + jnp.log(seen.ratio), zero + jnp.log(alpha), counts / (10 + counts)], axis=1
    )
    place = seen.prior_mean / (1 + jnp.abs(seen.prior_mean))
    few = jnp.stack([1 / (1 + counts), counts < 2], axis=1)
    features = jnp.concatenate([plain, *shape, place, *told, few], axis=1)
    return Guesses(means, scales, jnp.clip(features.astype(u.dtype), -FAR, FAR))


def _expectation_maximisation(
    offset: Float[Array, "groups 2"], seen: Frame, owner: Int[Array, " n"], motif: Motif
) -> tuple[Float[Array, "groups 5"], Float[Array, " groups"]]:
    """A few steps towards the posterior mode from a symmetric start, and the log density before the last of them."""
    weight, alpha = seen.ratio**-2, motif.concentration

    def step(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b, logit = carry[0][:, :2], carry[0][:, 2:4], carry[0][:, 4]
        odds, each = pair_terms(seen.points, of_owner(a, owner), of_owner(b, owner), of_owner(logit, owner))
        belongs = jax.nn.sigmoid(odds)[:, None]
        parts = jnp.concatenate([belongs, belongs * seen.points, each[:, None]], axis=1)
        sums = group_sums(parts, owner, offset.shape[0])
        owned, total = sums[:, :1], sums[:, 1:3]
        rest = seen.counts[:, None] - owned
        # The data of a group sum to zero in its frame.
        a = (total + weight * seen.prior_mean) / (owned + weight)
        b = (-total + weight * seen.prior_mean) / (rest + weight)
        logit = jnp.log(owned + alpha) - jnp.log(rest + alpha)
        return jnp.concatenate([a, b, logit], axis=1), sums[:, 3]

    start = jnp.concatenate([-offset, offset, jnp.zeros_like(offset[:, :1])], axis=1)
    return jax.lax.fori_loop(0, EM_STEPS, step, (start, jnp.zeros_like(seen.counts)))
