r"""A learned proposal for a few tags with tables between them, given the tags around.

What the surroundings say of each tag of the block alone,

.. math:: e_i(y) = u_i(y) + \sum_{j \in \text{blanket}} A(y_j, y),

is exact and cheap, and is where every component starts from; the network moves the components away from it, to say what the
tables inside the block make the tags do together.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.arrays import Array, Float, KeyArray
from smcinfer.graphs import Blocks, FactorGraph, Motif
from smcinfer.kernels.block_gibbs import BlockMoves, BlockProposal, block_moves
from smcinfer.kernels.block_neural import table_features
from smcinfer.nn.mixture_density import Mixture, MixtureDensity, mixture_density

COMPONENTS, WIDTH = 6, 96
FLOOR = 1e-3


class TagBlocks(BlockProposal):
    """A learned proposal for the blocks of a motif of tables on one and two tags (made by `tag_blocks`).

    Attributes:
        network: reads what surrounds a block and the tables inside it.
        motif: what it was trained for.
    """

    network: MixtureDensity
    motif: Motif = eqx.field(static=True)

    @property
    def num_tags(self) -> int:
        """Categories of a variable."""
        return self.motif.block[0]

    def embed(self, inside: Float[Array, "*batch tables cells"]) -> Float[Array, "*batch layers width"]:
        """What the tables inside the block tell the network: computed once a run."""
        features = table_features(inside).reshape(*inside.shape[:-2], -1)
        return self.network.embed(features.astype(self.network.head.bias.dtype))

    def given(self, embedding: Array, local: Float[Array, "*batch size tags"]) -> Mixture:
        """The law of blocks given what the surroundings say of each tag, nats."""
        relative = local - jnp.max(local, axis=-1, keepdims=True)
        dtype = self.network.head.bias.dtype
        raw = self.network(embedding, table_features(relative).reshape(*local.shape[:-2], -1).astype(dtype))
        # Added to what a component starts from, and floored again: nothing possible is left out.
        probs = jax.nn.softmax(raw.log_probs + relative[..., None, :, :], axis=-1)
        floored = (1.0 - FLOOR) * probs + FLOOR / self.num_tags
        return eqx.tree_at(lambda law: law.log_probs, raw, jnp.log(floored))

    def prepare(self, graph: FactorGraph, blocks: Blocks) -> Any:
        """Unary terms, the tables towards the blanket with the blanket's tag first, and the embedding."""
        tables = blocks.parameters(graph)
        batch, size, num = blocks.variables.shape[:-1], len(self.motif.block), self.num_tags
        unary = jnp.zeros((*batch, size, num))
        outside, inside, at = [], [], dict.fromkeys(tables, 0)
        for slot in self.motif.slots:
            table = tables[slot.group][..., at[slot.group], :]
            at[slot.group] += 1
            if len(slot.places) == 1:
                unary = unary.at[..., slot.places[0], :].add(table)
            elif max(slot.places) < size:
                inside.append(table)
            else:
                square = table.reshape(*batch, num, num)
                outside.append(square if slot.places[0] >= size else jnp.swapaxes(square, -1, -2))
        return unary, tuple(outside), self.embed(jnp.stack(inside, axis=-2))

    def law(self, prepared: Any, graph: FactorGraph, blocks: Blocks, around: Array) -> Mixture:
        """The proposal's law of each block."""
        del graph, blocks
        local, outside, embedding = prepared
        num, size = self.num_tags, len(self.motif.block)
        # States may have leading axes (chains) that what is prepared does not have.
        local = jnp.broadcast_to(local, (*around.shape[:-1], size, num))
        for (inner, outer), table in zip(self._edges(), outside, strict=True):
            row = jnp.arange(table[..., 0, 0].size).reshape(table.shape[:-2])
            message = table.reshape(-1, num)[row * num + around[..., outer - size].astype(jnp.int32)]
            local = local.at[..., inner, :].add(message)
        return self.given(embedding, local)

    def _edges(self) -> list[tuple[int, int]]:
        """(block place, blanket place) of every table that crosses, in the order of the slots."""
        size = len(self.motif.block)
        pairs = [slot.places for slot in self.motif.slots if len(slot.places) == 2]
        return [(min(places), max(places)) for places in pairs if max(places) >= size]

    def moves(self, graph: FactorGraph, blocks: Blocks | None = None) -> BlockMoves:
        """Moves on a graph: of the blocks given, as `Motif.match` makes them, or of every instance of the motif."""
        return block_moves(graph, self.motif.find(graph) if blocks is None else blocks, self)


def tag_blocks(key: KeyArray, motif: Motif) -> TagBlocks:
    """An untrained proposal: its components begin at what the surroundings say of each tag."""
    num, size = motif.block[0], len(motif.block)
    inside = sum(len(slot.places) == 2 and max(slot.places) < size for slot in motif.slots)
    network = mixture_density(
        key,
        motif.block,
        2 * num * num * inside,
        2 * num * size,
        num_components=COMPONENTS,
        width=WIDTH,
        encoder_width=64,
        probability_floor=1e-4,
    )
    return TagBlocks(network, motif)
