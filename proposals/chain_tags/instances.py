"""Random instances of the tagging motifs, with exact draws: what the proposals are trained on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from smcinfer.graphs.block_gibbs import metropolis_ratio
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.models.tagging_crf.chain import draw
from smcinfer.proposals.chain_tags.network import TagBlocks


class TagInstances(NamedTuple):
    """Blocks drawn from their conditional law, leading axis instances.

    Attributes:
        local: Float["instances size tags"], what the surroundings say of each tag, nats.
        inside: Float["instances tables cells"], the tables inside the block, relative to their largest cell, nats.
        block: Int["instances size"].
    """

    local: Float[Array, "instances size tags"]
    inside: Float[Array, "instances tables cells"]
    block: Int[Array, "instances size"]


def random_transition(key: KeyArray, num_tags: int) -> Float[Array, "tags tags"]:
    """A table of steps between tags O, B-1, I-1, B-2, ...: noise, and a random dislike of entities that begin with I."""
    noise_key, scale_key, break_key, stay_key = jax.random.split(key, 4)
    tag = jnp.arange(num_tags)
    kind, is_inner = (tag + 1) // 2, (tag > 0) & (tag % 2 == 0)
    continues = (kind[:, None] == kind) & is_inner
    scale = jax.random.uniform(scale_key, (), minval=0.2, maxval=2.0)
    table = scale * jax.random.normal(noise_key, (num_tags, num_tags))
    table = table - jax.random.uniform(break_key, (), maxval=8.0) * (is_inner & ~continues)
    return table + jax.random.uniform(stay_key, (), maxval=5.0) * continues


def random_unary(key: KeyArray, shape: tuple[int, ...], num_tags: int) -> Float[Array, "*shape tags"]:
    """Scores of tags of all strengths, the first tag favoured by a random amount, as "no entity" is in text.

    Args:
        key: one random key.
        shape: of the words; each is drawn independently.
        num_tags: scores a word.

    Returns:
        Float["*shape tags"], nats.
    """
    noise_key, scale_key, bonus_key = jax.random.split(key, 3)
    scale = jnp.exp(jax.random.uniform(scale_key, (*shape, 1), minval=-1.0, maxval=1.4))
    bonus = jax.random.uniform(bonus_key, (*shape, 1), minval=-1.0, maxval=6.0)
    return scale * jax.random.normal(noise_key, (*shape, num_tags)) + bonus * (jnp.arange(num_tags) == 0)


def chain_instance(key: KeyArray, size: int, num_tags: int) -> tuple[Array, Array, Array]:
    """Tags in the middle of a random chain, drawn exactly, given the two at its ends.

    Args:
        key: one random key.
        size: words in the middle, the block.
        num_tags: tags a word may have.

    Returns:
        The ``local``, ``inside`` and ``block`` of one of `TagInstances`.
    """
    table_key, unary_key, draw_key = jax.random.split(key, 3)
    table = random_transition(table_key, num_tags)
    unary = random_unary(unary_key, (size + 2,), num_tags)
    tags = draw(draw_key, unary, table)
    local = unary[1:-1].at[0].add(table[tags[0]]).at[-1].add(table[:, tags[-1]])
    relative = (table - jnp.max(table)).reshape(-1)
    return local, jnp.broadcast_to(relative, (size - 1, relative.shape[0])), tags[1:-1]


def skip_instance(key: KeyArray, num_tags: int) -> tuple[Array, Array, Array]:
    """Two linked tags, each between two others; the link rewards one class of entity."""
    table_key, unary_key, skip_key, pair_key, *end_keys = jax.random.split(key, 8)
    table = random_transition(table_key, num_tags)
    unary = random_unary(unary_key, (2, 3), num_tags)
    kind = (jnp.arange(num_tags) + 1) // 2
    reward = jax.random.uniform(skip_key, (num_tags // 2 + 1,), minval=-1.0, maxval=5.0)
    link = jnp.where(kind[:, None] == kind, reward[kind], 0.0)
    before = jax.nn.logsumexp(unary[:, 0, :, None] + table, axis=1)
    after = jax.nn.logsumexp(unary[:, 2, None, :] + table, axis=2)
    middle = before + unary[:, 1] + after
    cell = jax.random.categorical(pair_key, (middle[0][:, None] + middle[1] + link).reshape(-1))
    tags = jnp.stack([cell // num_tags, cell % num_tags])
    lefts = jax.vmap(lambda key, at: jax.random.categorical(key, unary[at, 0] + table[:, tags[at]]))
    rights = jax.vmap(lambda key, at: jax.random.categorical(key, unary[at, 2] + table[tags[at]]))
    ends = jnp.stack(end_keys)
    left, right = lefts(ends[:2], jnp.arange(2)), rights(ends[2:], jnp.arange(2))
    local = unary[:, 1] + table[left] + table[:, right].T
    return local, (link - jnp.max(link)).reshape(1, -1), tags


def draw_instances(key: KeyArray, proposal: TagBlocks, num: int) -> TagInstances:
    """Random instances of a proposal's motif.

    Args:
        key: one random key.
        proposal: for its motif and the number of its tags.
        num: instances to draw.
    """
    motif, num_tags = proposal.motif, proposal.num_tags
    keys = jax.random.split(key, num)
    if any(slot.group == "skip" for slot in motif.slots):
        return TagInstances(*jax.vmap(lambda key: skip_instance(key, num_tags))(keys))
    return TagInstances(*jax.vmap(lambda key: chain_instance(key, len(motif.block), num_tags))(keys))


def inclusive_kl(proposal: TagBlocks, drawn: TagInstances) -> Scalar:
    r""":math:`-E \log q` of blocks drawn from their conditional law, nats a block."""
    return -jnp.mean(proposal.given(proposal.embed(drawn.inside), drawn.local).log_prob(drawn.block))


def log_score(drawn: TagInstances, block: Int[Array, "instances size"]) -> Float[Array, " instances"]:
    """log of the factors that touch each block, nats."""
    own = jnp.sum(jnp.take_along_axis(drawn.local, block[..., None], axis=-1)[..., 0], axis=-1)
    steps = block[:, :-1] * drawn.local.shape[-1] + block[:, 1:]
    return own + jnp.sum(jnp.take_along_axis(drawn.inside, steps[..., None], axis=-1)[..., 0], axis=-1)


def expected_acceptance(key: KeyArray, proposal: TagBlocks, drawn: TagInstances) -> Scalar:
    """Mean acceptance probability of Metropolis moves from blocks that are exact draws already.

    Args:
        key: one random key, for what is proposed.
        proposal: what proposes.
        drawn: instances of its motif.
    """
    law = proposal.given(proposal.embed(drawn.inside), drawn.local)
    new = law.sample(key).astype(drawn.block.dtype)
    ratio = metropolis_ratio(
        log_score(drawn, drawn.block), log_score(drawn, new), law.log_prob(drawn.block), law.log_prob(new)
    )
    return jnp.mean(jnp.exp(jnp.minimum(ratio, 0.0)))
