r"""A learned proposal for a few tags with tables between them, given the tags around.

What the surroundings say of each tag of the block alone,

.. math:: e_i(y) = u_i(y) + \sum_{j \in \text{blanket}} A(y_j, y),

is exact and cheap. A network reads the tables inside the block, once a run, and answers with a sum of products that stands for
their joint, :math:`\prod_{(i,j)} T_{ij}(y_i, y_j) \approx \sum_r \prod_i a_{r,i}(y_i)`. Multiplied by the surroundings this is
a mixture in which the tags of a component are independent,

.. math:: q(y) \propto \sum_r \prod_i a_{r,i}(y_i) \exp e_i(y_i),

so that what is left for every step of a run are a few inner products.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.graphs import Blocks, FactorGraph, Motif, Tables
from smcinfer.graphs.block_gibbs import BlockMoves, BlockProposal, block_moves
from smcinfer.graphs.block_neural import table_features
from smcinfer.graphs.factors import Factors
from smcinfer.ground.arrays import Array, Float, Int, KeyArray
from smcinfer.nn.mixture_density import Dense, dense, invert

COMPONENTS, WIDTH = 16, 48
FLOOR = 1e-4
"""Of a tag in a component, relative to the component's likeliest one."""

RANGE = 14.0
"""Scores are read down to this many nats below the largest: nothing possible is left out."""


class TagLaw(eqx.Module):
    """A mixture over blocks of tags: the components' pieces times what the surroundings say.

    Attributes:
        pieces: Float["rows components size tags"]; one row serves all blocks where they share their tables.
        local: Float["*chains rows size tags"], what the surroundings say, the likeliest tag at zero, nats.
    """

    pieces: Float[Array, "rows components size tags"]
    local: Float[Array, "*chains blocks size tags"]

    @property
    def _masses(self) -> list[Float[Array, "*chains blocks components"]]:
        """Of every component at every place, before its tags are normalised."""
        chances, pieces = jnp.exp(self.local), self.pieces
        if pieces.shape[0] == 1:
            return [chances[..., at, :] @ pieces[0, :, at].T for at in range(pieces.shape[2])]
        return [jnp.einsum("...bt,brt->...br", chances[..., at, :], pieces[:, :, at]) for at in range(pieces.shape[2])]

    def sample(self, key: KeyArray) -> Int[Array, "*chains blocks size"]:
        """One draw each: the component, then its tags."""
        size, dtype = self.pieces.shape[2], self.local.dtype
        noise = jax.random.uniform(key, (*self.local.shape[:-2], 1 + size), dtype, jnp.finfo(dtype).tiny)
        component = invert(math.prod(self._masses), noise[..., 0])
        tags = [
            invert(jnp.exp(self.local[..., at, :]) * pick(self.pieces[:, :, at], component), noise[..., 1 + at])
            for at in range(size)
        ]
        return jnp.stack(tags, axis=-1)

    def log_prob(self, values: Int[Array, "*chains blocks size"]) -> Float[Array, "*chains blocks"]:
        """log of the mixture, all components summed, nats."""
        values = values.astype(jnp.int32)
        own = jnp.take_along_axis(self.local, values[..., None], axis=-1)[..., 0]
        there = [pick(jnp.swapaxes(self.pieces[:, :, at], 1, 2), values[..., at]) for at in range(values.shape[-1])]
        total = jnp.sum(math.prod(self._masses), axis=-1)
        return jnp.sum(own, axis=-1) + jnp.log(jnp.sum(math.prod(there), axis=-1)) - jnp.log(total)


def pick(tables: Float[Array, "rows entries columns"], entry: Int[Array, "*chains blocks"]) -> Array:
    """One entry of the table of every block, (*chains, blocks, columns); one table may serve all blocks."""
    rows, entries, columns = tables.shape
    start = entries * jnp.arange(rows) if rows > 1 else 0
    return tables.reshape(-1, columns)[start + entry]


class TagNetwork(eqx.Module):
    """Tables inside a block to the pieces of components (made by `tag_blocks`).

    A component begins as a mask over the tags of each place; from the first place it goes along the tables to the others,
    as a message. Dense layers correct what comes of it.

    Attributes:
        masks: Float["components size tags"], nats.
        layers: of the correction.
    """

    masks: Float[Array, "components size tags"]
    layers: tuple[Dense, ...]

    def __call__(
        self, inside: Float[Array, "*batch tables cells"], edges: tuple[tuple[int, int], ...]
    ) -> Float[Array, "*batch components size tags"]:
        """The pieces; ``edges`` are the places that each table joins."""
        *batch, _, _ = inside.shape
        num, size, tags = self.masks.shape
        hidden = table_features(inside).reshape(*batch, -1)
        for layer in self.layers[:-1]:
            hidden = jax.nn.silu(layer(hidden))
        logs = self.masks + self.layers[-1](hidden).reshape(*batch, num, size, tags)
        joint = jnp.exp(jnp.maximum(inside, -RANGE)).reshape(*batch, -1, tags, tags)
        root = first_place(size)
        found = {root: logs[..., root, :]}
        while len(found) < size:
            for table, (left, right) in enumerate(edges):
                if (left in found) == (right in found):
                    continue
                steps = joint[..., table, :, :]
                near, far, steps = (left, right, steps) if left in found else (right, left, jnp.swapaxes(steps, -1, -2))
                belief = jax.nn.softmax(found[near], axis=-1)
                found[far] = logs[..., far, :] + jnp.log(belief @ steps)
        logs = jnp.stack([found[place] for place in range(size)], axis=-2)
        peaks = jnp.max(logs, axis=-1, keepdims=True)
        weights = jnp.sum(peaks, axis=-2, keepdims=True)
        weights = jnp.maximum(weights - jnp.max(weights, axis=-3, keepdims=True), -RANGE)
        return (FLOOR + jnp.exp(logs - peaks)) * jnp.exp(weights / size)


def first_place(size: int) -> int:
    """Where the components of a block begin: its middle."""
    return (size - 1) // 2


class TagBlocks(BlockProposal):
    """A learned proposal for the blocks of a motif of tables on one and two tags (made by `tag_blocks`).

    Attributes:
        network: reads the tables inside a block.
        motif: what it was trained for.
    """

    network: TagNetwork
    motif: Motif = eqx.field(static=True)

    @property
    def num_tags(self) -> int:
        """Categories of a variable."""
        return self.motif.block[0]

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        return [slot.places for slot in self.motif.slots if len(slot.places) == 2]  # pyright: ignore[reportReturnType]

    def embed(self, inside: Float[Array, "*batch tables cells"]) -> Float[Array, "*batch components size tags"]:
        """What the tables inside the block tell the network: computed once a run."""
        edges = tuple(pair for pair in self._pairs if max(pair) < len(self.motif.block))
        return self.network(inside, edges)

    def given(
        self, pieces: Float[Array, "rows components size tags"], local: Float[Array, "*chains blocks size tags"]
    ) -> TagLaw:
        """The law of blocks given what the surroundings say of each tag, nats."""
        return TagLaw(pieces, jnp.maximum(local - jnp.max(local, axis=-1, keepdims=True), -RANGE))

    def prepare(self, graph: FactorGraph, blocks: Blocks) -> Any:
        """Unary terms, the tables towards the blanket with the blanket's tag first and where they are, and the pieces."""
        batch, size, num = blocks.variables.shape[:-1], len(self.motif.block), self.num_tags
        unary = jnp.zeros((*batch, size, num))
        outside, inside, at = [], [], dict.fromkeys(graph.factors, 0)
        for slot in self.motif.slots:
            group, index = graph.factors[slot.group], blocks.factors[slot.group][..., at[slot.group]]
            at[slot.group] += 1
            if len(slot.places) == 1:
                unary = unary.at[..., slot.places[0], :].add(group.parameters(index))
                continue
            table = _tables(group, index)
            if max(slot.places) < size:
                inside.append(table)
            else:
                square = table.reshape(*table.shape[:-1], num, num)
                square = square if slot.places[0] >= size else jnp.swapaxes(square, -1, -2)
                outside.append((square, (index < group.num_factors).astype(square.dtype)))
        return unary, tuple(outside), self.embed(jnp.stack(jnp.broadcast_arrays(*inside), axis=-2))

    def law(self, prepared: Any, graph: FactorGraph, blocks: Blocks, around: Array) -> TagLaw:
        """The proposal's law of each block."""
        del graph, blocks
        local, outside, pieces = prepared
        size = len(self.motif.block)
        crossing = [pair for pair in self._pairs if max(pair) >= size]
        # States may have leading axes (chains) that what is prepared does not have.
        parts = [jnp.broadcast_to(local[..., at, :], (*around.shape[:-1], self.num_tags)) for at in range(size)]
        for pair, (table, there) in zip(crossing, outside, strict=True):
            tag = around[..., max(pair) - size].astype(jnp.int32)
            parts[min(pair)] += pick(table, tag) * there[..., None]
        return self.given(pieces, jnp.stack(parts, axis=-2))

    def moves(self, graph: FactorGraph, blocks: Blocks | None = None) -> BlockMoves:
        """Moves on a graph: of the blocks given, as `Motif.match` makes them, or of every instance of the motif."""
        return block_moves(graph, self.motif.find(graph) if blocks is None else blocks, self)


def _tables(group: Factors, index: Int[Array, "*batch rows"]) -> Float[Array, "*batch rows_or_1 cells"]:
    """The table of every block; one row where the group has only one."""
    if isinstance(group, Tables) and group.is_shared:
        return group.parameters(jnp.zeros((*index.shape[:-1], 1), jnp.int32))
    return group.parameters(index)


def tag_blocks(key: KeyArray, motif: Motif) -> TagBlocks:
    """An untrained proposal: its components are about the tags of the block's middle, one by one."""
    num, size = motif.block[0], len(motif.block)
    num_inside = sum(len(slot.places) == 2 and max(slot.places) < size for slot in motif.slots)
    mask_key, first_key, second_key = jax.random.split(key, 3)
    masks = 0.5 * jax.random.normal(mask_key, (COMPONENTS, size, num))
    masks = masks.at[jnp.arange(COMPONENTS), first_place(size), jnp.arange(COMPONENTS) % num].add(3.0)
    last = dense(second_key, WIDTH, COMPONENTS * size * num)
    layers = (
        dense(first_key, 2 * num * num * num_inside, WIDTH),
        eqx.tree_at(lambda d: d.weight, last, 0.1 * last.weight),
    )
    return TagBlocks(TagNetwork(masks, layers), motif)
