r"""Training of the field: the chain by its exact likelihood, then the skip edges by pseudo-likelihood.

The chain's parameters minimise :math:`-\log p(y \mid x)` of the field without skip edges, with a Gaussian prior. With them
frozen, :math:`\kappa` climbs the log probability of each linked word's tag given all other tags.
"""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.sparse

from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.ground.progress import bar
from smcinfer.models.tagging_crf import chain, features
from smcinfer.models.tagging_crf.model import Batch, TaggingCRF
from smcinfer.run.fit import Fitted, fit

BATCH = 64

SKIP_PRIOR = 0.005
"""Half the precision of the Gaussian prior on the skip edges' strengths, for the mean of linked words."""


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
    field: TaggingCRF, train: Batch, *, prior: float, num_steps: int = 60, progress: bool = False
) -> TaggingCRF:
    """The chain's weights and transitions: a convex problem, by L-BFGS on all sentences.

    Args:
        field: where to start.
        train: sentences.
        prior: precision of a Gaussian prior on every weight.
        num_steps: iterations at most.
        progress: draw a bar.
    """
    there = np.asarray(train.there)
    rows = np.asarray(train.rows)[there]
    num_rows, num_tags = field.weights.shape
    word, _ = known = np.nonzero(rows < num_rows)
    # Sums over features and their transposes, for the words that there are and the features that have weights.
    table = scipy.sparse.csr_array((np.ones(len(word)), (word, rows[known])), shape=(len(rows), num_rows))
    tags, exists = train.tags, train.there

    @jax.jit
    def loss(unary: Array, transition: Array) -> Scalar:
        def one(unary: Array, tags: Array, there: Array) -> Array:
            return chain.log_z(unary, transition, there) - chain.score(unary, transition, there, tags)

        return jnp.sum(jax.vmap(one)(unary, tags, exists))

    slope = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        weights, transition = np.split(theta, [num_rows * num_tags])
        unary = np.zeros((*there.shape, num_tags))
        unary[there] = table @ weights.reshape(num_rows, num_tags)
        dtype = field.weights.dtype
        value, (by_unary, by_step) = slope(
            jnp.asarray(unary, dtype), jnp.asarray(transition.reshape(num_tags, num_tags), dtype)
        )
        by_weights = table.T @ np.asarray(by_unary, np.float64)[there]
        both = np.concatenate([by_weights.ravel(), np.asarray(by_step, np.float64).ravel()])
        return float(value) + 0.5 * prior * float(theta @ theta), both + prior * theta

    with bar(progress, "chain") as report:
        steps = itertools.count(1)

        def show(intermediate_result: scipy.optimize.OptimizeResult) -> None:
            report(next(steps) / num_steps, f"loss {intermediate_result.fun / len(there):.3f}")

        start = np.concatenate([np.asarray(part, np.float64).ravel() for part in (field.weights, field.transition)])
        found = scipy.optimize.minimize(
            objective, start, jac=True, method="L-BFGS-B", callback=show, options={"maxiter": num_steps}
        )
    weights, transition = np.split(found.x, [num_rows * num_tags])
    values = [weights.reshape(num_rows, num_tags), transition.reshape(num_tags, num_tags)]
    return eqx.tree_at(
        lambda field: [field.weights, field.transition], field, [jnp.asarray(v, field.weights.dtype) for v in values]
    )


def outside_disfavoured(field: TaggingCRF, amount: float) -> TaggingCRF:
    """The field with the first tag, no entity, worth less at every word: for text with more entities than in training.

    Args:
        field: a trained field.
        amount: nats.
    """
    always = features.key(features.ALWAYS)
    row = int(np.searchsorted(np.asarray(field.keys), np.uint32(always)))
    return eqx.tree_at(lambda field: field.weights, field, field.weights.at[row, 0].add(-amount))


def train_skip(key: Any, field: TaggingCRF, train: Batch, *, num_steps: int = 300, progress: bool = False) -> Fitted:
    """Train the skip edges' strengths, all else frozen, on the sentences that have edges.

    Args:
        key: one random key.
        field: a field whose chain is trained.
        train: sentences to train on.
        num_steps: gradient steps.
        progress: whether to show a bar.

    Returns:
        The field as `Fitted.module`, and how training went.
    """
    linked = np.flatnonzero(np.asarray(train.skips)[:, 0, 0] < train.tags.shape[1])
    chosen = jax.tree.map(lambda leaf: leaf[linked], train)
    trainable = eqx.tree_at(
        lambda field: field.skip, jax.tree.map(lambda _: False, eqx.filter(field, eqx.is_array)), True
    )

    def loss(field: TaggingCRF, key: Any, data: Batch) -> Scalar:
        del key
        return skip_loss(field, data) + SKIP_PRIOR * jnp.sum(jnp.square(field.skip))

    return fit(
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


def half(weights: Float[Array, "rows tags"]) -> Array:
    """Weights as they are kept: half precision is enough for sums of thirty."""
    return weights.astype(jnp.float16)
