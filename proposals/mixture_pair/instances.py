"""Random instances of the motif: a few data owned by one or two components drawn from the prior, and what made them."""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.proposals.mixture_pair.anchors import Frame, Guesses, Motif, frame, guesses, log_pair, log_single
from smcinfer.proposals.mixture_pair.network import PairNetwork

LARGEST = 96
"""Most data of a training instance."""


class Instances(eqx.Module):
    """A batch of instances with one set of scales.

    Attributes:
        seen, given: the data in their frames and the guesses.
        owner: Int["n"], the instance of each datum; the number of instances for padding.
        two: Float["batch"], one where two components made the data.
        truth: Float["batch 5"], their values in the frame.
        motif: the scales.
    """

    seen: Frame
    given: Guesses
    owner: Int[Array, " n"]
    two: Float[Array, " batch"]
    truth: Float[Array, "batch 5"]
    motif: Motif


def draw_instances(key: KeyArray, batch: int, largest: int = LARGEST) -> Instances:
    """Instances with random scales: alpha in [0.3, 3], spread over noise in [2, 15], 0 to ``largest`` data.

    Args:
        key: one random key.
        batch: instances, which share their scales.
        largest: most data of one; small numbers are drawn as often as large ones, on a log scale.
    """
    scale_key, size_key, mean_key, share_key, label_key, noise_key, two_key = jax.random.split(key, 7)
    u = jax.random.uniform(scale_key, (2,))
    alpha, ratio = 0.3 * 10 ** u[0], 2.0 * 7.5 ** u[1]
    motif = Motif(alpha, ratio, jnp.ones_like(ratio))
    counts = jnp.floor((largest + 1.0) ** jax.random.uniform(size_key, (batch,)) - 0.5).astype(jnp.int32)
    two = jax.random.bernoulli(two_key, 0.5, (batch,))
    means = ratio * jax.random.normal(mean_key, (batch, 2, 2))
    gammas = jax.random.loggamma(share_key, jnp.full((batch, 2), alpha))
    logit = gammas[:, 0] - gammas[:, 1]
    odds = jnp.where(two, logit, jnp.inf)
    first = jax.random.uniform(label_key, (batch, largest)) < jax.nn.sigmoid(odds)[:, None]
    points = jnp.where(first[:, :, None], means[:, None, 0], means[:, None, 1])
    points = points + jax.random.normal(noise_key, points.shape)
    there = jnp.arange(largest) < counts[:, None]
    owner = jnp.where(there, jnp.arange(batch)[:, None], batch).reshape(-1)
    seen = frame(points.reshape(-1, 2), owner, batch, motif)
    truth = jnp.concatenate([seen.into(means[:, 0]), seen.into(means[:, 1]), logit[:, None]], axis=1)
    return Instances(seen, guesses(seen, owner, motif), owner, two.astype(truth.dtype), truth, motif)


def inclusive_kl(network: PairNetwork, drawn: Instances) -> Scalar:
    r""":math:`-E \log q` of what made the data, components and their number, nats an instance."""
    law = network(drawn.given)
    log_two = jax.nn.log_sigmoid(law.log_evidence)
    log_one = jax.nn.log_sigmoid(-law.log_evidence)
    return -jnp.mean(jnp.where(drawn.two > 0, log_two + law.log_prob(drawn.truth), log_one))


def expected_acceptance(key: KeyArray, network: PairNetwork, drawn: Instances) -> Scalar:
    """Mean acceptance probability of moves from what made the data, at even odds of one and two components.

    Args:
        key: one random key, for what is proposed.
        network: what proposes a pair and weighs two components against one.
        drawn: instances with what made them.
    """
    law = network(drawn.given)
    value_key, number_key = jax.random.split(key)
    proposed = law.sample(value_key)
    is_two = jax.random.bernoulli(number_key, jax.nn.sigmoid(law.log_evidence))
    one = log_single(drawn.seen) - jax.nn.log_sigmoid(-law.log_evidence)

    def two(values: Array) -> Array:
        return (
            log_pair(values, drawn.seen, drawn.owner, drawn.motif)
            - law.log_prob(values)
            - jax.nn.log_sigmoid(law.log_evidence)
        )

    here = jnp.where(drawn.two > 0, two(drawn.truth), one)
    there = jnp.where(is_two, two(proposed), one)
    return jnp.mean(jnp.exp(jnp.minimum(there - here, 0.0)))
