r"""Exact answers of a chain of tags: log Z, marginals and draws, by the forward recursion.

.. math:: p(y) \propto \exp\Bigl\{ \sum_t u_t(y_t) + \sum_{t>1} A(y_{t-1}, y_t) \Bigr\}
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray, Scalar


def forward(
    unary: Float[Array, "words tags"], transition: Float[Array, "tags tags"], there: Bool[Array, " words"]
) -> Float[Array, "words tags"]:
    """Log messages: word t's is the log sum over all tags before it; words that are not there pass theirs on.

    Sums are products of a row and a matrix, some ten times as fast as sums of logs; what is as small as the smallest number
    beside the largest term (87 nats in single precision) is lost.

    Args:
        unary: Float["words tags"], score of each tag of each word, nats.
        transition: Float["tags tags"], score of a tag (row) followed by another (column), nats.
        there: Bool["words"], false for padding; the first word is always there.
    """
    top = jnp.max(transition)
    steps = jnp.exp(transition - top)
    smallest = jnp.finfo(unary.dtype).tiny

    def step(message: Array, parts: tuple[Array, Array]) -> tuple[Array, Array]:
        scores, exists = parts
        peak = jax.lax.stop_gradient(jnp.max(message))
        reached = jnp.exp(message - peak) @ steps
        new = jnp.log(jnp.maximum(reached, smallest)) + peak + top + scores
        message = jnp.where(exists, new, message)
        return message, message

    _, later = jax.lax.scan(step, unary[0], (unary[1:], there[1:]))
    return jnp.concatenate([unary[:1], later])


def log_z(
    unary: Float[Array, "words tags"], transition: Float[Array, "tags tags"], there: Bool[Array, " words"]
) -> Scalar:
    """Log of the sum over all taggings of one sentence, nats.

    Args:
        unary: Float["words tags"], score of each tag of each word, nats.
        transition: Float["tags tags"], score of a tag (row) followed by another (column), nats.
        there: Bool["words"], false for padding at the end.
    """
    return logsumexp(forward(unary, transition, there)[-1])


def score(
    unary: Float[Array, "words tags"],
    transition: Float[Array, "tags tags"],
    there: Bool[Array, " words"],
    tags: Int[Array, " words"],
) -> Scalar:
    """Log weight of one tagging of one sentence, nats, not normalised.

    Args:
        unary: Float["words tags"], score of each tag of each word, nats.
        transition: Float["tags tags"], score of a tag (row) followed by another (column), nats.
        there: Bool["words"], false for padding at the end.
        tags: Int["words"], the tagging; any tag where a word is not there.
    """
    own = jnp.where(there, jnp.take_along_axis(unary, tags[:, None], axis=1)[:, 0], 0.0)
    steps = jnp.where(there[1:], transition[tags[:-1], tags[1:]], 0.0)
    return jnp.sum(own) + jnp.sum(steps)


def marginals(
    unary: Float[Array, "words tags"], transition: Float[Array, "tags tags"], there: Bool[Array, " words"]
) -> Float[Array, "words tags"]:
    """Exact marginals of every word's tag: the derivative of log Z by the unary scores.

    Args:
        unary: Float["words tags"], score of each tag of each word, nats.
        transition: Float["tags tags"], score of a tag (row) followed by another (column), nats.
        there: Bool["words"], false for padding at the end.

    Returns:
        Float["words tags"], probabilities; zero where a word is not there.
    """
    return jax.grad(log_z)(unary, transition, there)


def draw(
    key: KeyArray, unary: Float[Array, "words tags"], transition: Float[Array, "tags tags"]
) -> Int[Array, " words"]:
    """One exact draw of all tags: messages forwards, then draws backwards.

    Args:
        key: one random key.
        unary: Float["words tags"], score of each tag of each word, nats; no word is padding.
        transition: Float["tags tags"], score of a tag (row) followed by another (column), nats.
    """
    messages = forward(unary, transition, jnp.ones(unary.shape[:1], bool))
    keys = jax.random.split(key, unary.shape[0])
    last = jax.random.categorical(keys[-1], messages[-1])

    def step(after: Array, parts: tuple[Array, Array]) -> tuple[Array, Array]:
        key, message = parts
        tag = jax.random.categorical(key, message + transition[:, after])
        return tag, tag

    _, earlier = jax.lax.scan(step, last, (keys[:-1], messages[:-1]), reverse=True)
    return jnp.append(earlier, last)
