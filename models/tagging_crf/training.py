r"""Training of the field: the chain by its exact likelihood, then the skip edges by pseudo-likelihood.

The chain's parameters descend :math:`-\log p(y \mid x)` of the field without skip edges, with a Gaussian prior. With them
frozen, :math:`\kappa` climbs the log probability of each linked word's tag given all other tags.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer import nn
from smcinfer.arrays import Array, Float, Scalar
from smcinfer.models.tagging_crf import chain
from smcinfer.models.tagging_crf.model import Batch, TaggingCRF

BATCH = 64


def chain_loss(field: TaggingCRF, batch: Batch) -> Scalar:
    """Minus the mean log likelihood of the tags of a sentence under the chain, nats."""

    def one(rows: Array, tags: Array, there: Array) -> Array:
        unary = field.unary(rows)
        return chain.log_z(unary, field.transition, there) - chain.score(unary, field.transition, there, tags)

    return jnp.mean(jax.vmap(one)(batch.rows, batch.tags, batch.there))


def skip_loss(field: TaggingCRF, batch: Batch) -> Scalar:
    """Minus the mean log pseudo-likelihood of the tags of linked words, nats a linked word."""

    def one(rows: Array, tags: Array, there: Array, skips: Array) -> tuple[Array, Array]:
        length, num = tags.shape[0], len(field.tags)
        before = jnp.where((jnp.arange(length) > 0)[:, None], field.transition[jnp.roll(tags, 1)], 0.0)
        has_next = (jnp.arange(length) < length - 1) & jnp.roll(there, -1)
        after = jnp.where(has_next[:, None], field.transition[:, jnp.roll(tags, -1)].T, 0.0)
        ends = jnp.concatenate([skips, skips[:, ::-1]])
        pull = field.agreement[tags[jnp.minimum(ends[:, 1], length - 1)]]
        linked = jnp.zeros((length + 1, num), pull.dtype).at[ends[:, 0]].add(pull)[:length]
        is_linked = jnp.zeros((length + 1,)).at[ends[:, 0]].set(1.0)[:length]
        logits = jax.nn.log_softmax(field.unary(rows) + before + after + linked)
        own = jnp.take_along_axis(logits, tags[:, None], axis=1)[:, 0]
        return jnp.sum(is_linked * own), jnp.sum(is_linked)

    total, count = jax.vmap(one)(batch.rows, batch.tags, batch.there, batch.skips)
    return -jnp.sum(total) / jnp.maximum(jnp.sum(count), 1.0)


@eqx.filter_jit
def most_probable_marginals(field: TaggingCRF, batch: Batch) -> Array:
    """The tag of largest exact marginal of every word, the skip edges left out."""

    def one(parts: tuple[Array, Array]) -> Array:
        rows, there = parts
        return jnp.argmax(chain.marginals(field.unary(rows), field.transition, there), axis=1)

    return jax.lax.map(one, (batch.rows, batch.there), batch_size=BATCH)


def train_chain(
    key: Any, field: TaggingCRF, train: Batch, held_out: Batch, *, num_steps: int, prior: float, progress: bool = False
) -> nn.Fitted:
    """The chain's weights and transitions.

    Args:
        key: one key.
        field: where to start.
        train, held_out: sentences; the best check on the held-out ones is kept.
        num_steps: gradient steps of ``BATCH`` sentences.
        prior: precision of a Gaussian prior on every weight, a sentence.
        progress: draw a bar.
    """

    def loss(field: TaggingCRF, key: Any, data: Batch) -> Scalar:
        chosen = jax.random.randint(key, (BATCH,), 0, data.tags.shape[0])
        picked = jax.tree.map(lambda leaf: leaf[chosen], data)
        penalty = jnp.sum(jnp.square(field.weights)) + jnp.sum(jnp.square(field.transition))
        return chain_loss(field, picked) + 0.5 * prior * penalty

    trainable = jax.tree.map(lambda _: True, eqx.filter(field, eqx.is_array))
    trainable = eqx.tree_at(lambda field: field.skip, trainable, False)
    check = eqx.filter_jit(lambda field, chunks: jax.lax.map(lambda one: chain_loss(field, one), chunks).mean())
    chunks = _chunks(held_out)
    return nn.fit(
        key,
        field,
        loss,
        train,
        num_steps=num_steps,
        learning_rate=0.03,
        trainable=trainable,
        validate=lambda field: check(field, chunks),
        check_every=100,
        patience=4,
        progress=progress,
        description="chain",
    )


def train_skip(key: Any, field: TaggingCRF, train: Batch, *, num_steps: int = 300, progress: bool = False) -> nn.Fitted:
    """The skip edges' strengths, all else frozen, on the sentences that have edges."""
    linked = np.flatnonzero(np.asarray(train.skips)[:, 0, 0] < train.tags.shape[1])
    chosen = jax.tree.map(lambda leaf: leaf[linked], train)
    trainable = eqx.tree_at(
        lambda field: field.skip, jax.tree.map(lambda _: False, eqx.filter(field, eqx.is_array)), True
    )

    def loss(field: TaggingCRF, key: Any, data: Batch) -> Scalar:
        del key
        return skip_loss(field, data) + 0.005 * jnp.sum(jnp.square(field.skip))

    return nn.fit(
        key,
        field,
        loss,
        chosen,
        num_steps=num_steps,
        learning_rate=0.05,
        trainable=trainable,
        progress=progress,
        description="skip edges",
    )


def _chunks(batch: Batch) -> Batch:
    """Sentences in equal chunks, the last few left out."""
    size = min(BATCH, batch.tags.shape[0])
    count = batch.tags.shape[0] // size
    return jax.tree.map(lambda leaf: leaf[: count * size].reshape(count, size, *leaf.shape[1:]), batch)


def half(weights: Float[Array, "rows tags"]) -> Array:
    """Weights as they are kept: half precision is enough for sums of thirty."""
    return weights.astype(jnp.float16)
