"""Learned block proposals: a mixture density network that reads a motif's factors and blanket values.

Trained once on random instances of the motif (`training_draws`, `inclusive_kl`) and kept with the motif it was made for;
on any graph where the motif is found it proposes blocks, and the Metropolis-Hastings step makes the rest exact.

Source: Wang, Wu, Moore & Russell (2018), sections 3.2 and 3.3.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.graphs.block_exact import ExactBlocks, enumerated
from smcinfer.graphs.block_gibbs import BlockMoves, BlockProposal, block_moves, metropolis_ratio
from smcinfer.graphs.blocks import Blocks
from smcinfer.graphs.graph import FactorGraph
from smcinfer.graphs.motif import Motif
from smcinfer.ground.arrays import Array, Float, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError, CheckpointError
from smcinfer.nn import storage
from smcinfer.nn.mixture_density import Mixture, MixtureDensity, mixture_density, num_features, one_hot
from smcinfer.nn.precision import restore_in_current_precision

LOG_RANGE = 8.0
"""Log tables are read by the network down to this many nats below their largest cell."""

Groups = tuple[tuple[str, int, int], ...]


def table_features(parameters: Float[Array, "*batch num"]) -> Float[Array, "*batch features"]:
    """Relative log tables on two scales, nats and ratios: finite for forbidden cells, sharp for likely ones."""
    clipped = jnp.maximum(parameters, -LOG_RANGE)
    return jnp.concatenate([clipped / LOG_RANGE, jnp.exp(clipped)], axis=-1)


class NeuralBlocks(BlockProposal):
    """A learned proposal for the blocks of a motif.

    Attributes:
        network: the mixture density network.
        motif: what it was trained for.
        groups: (name, factors, parameters of each) of the motif's groups, in the order they are read.
        featurise: parameters of factors to numbers for the network, on the last axis.
    """

    network: MixtureDensity
    motif: Motif = eqx.field(static=True)
    groups: Groups = eqx.field(static=True)
    featurise: Callable[[Array], Array] = eqx.field(static=True, default=table_features)

    def prepare(self, graph: FactorGraph, blocks: Blocks) -> PyTree[Any]:
        """The embedding of the factors: no part of it is computed again while states move."""
        there = (blocks.blanket < graph.num_variables).astype(jnp.result_type(float))
        return self.embed(blocks.parameters(graph), there)

    def embed(self, parameters: dict[str, Array], there: Float[Array, "*batch blanket"]) -> PyTree[Any]:
        """The embedding from the touching factors' parameters by group, and which blanket variables exist."""
        parts = [there]
        for name, count, size in self.groups:
            value = parameters.get(name, jnp.zeros((*there.shape[:-1], count, size), there.dtype))
            parts.append(self.featurise(value).reshape(*there.shape[:-1], -1))
        return self.network.embed(jnp.concatenate(parts, axis=-1).astype(self.network.head.bias.dtype))

    def given(self, embedding: PyTree[Any], around: Array) -> Mixture:
        """The mixture given the blanket's values (*batch, blanket)."""
        return self.network(embedding, one_hot(around, self.motif.blanket).astype(self.network.head.bias.dtype))

    def law(self, prepared: PyTree[Any], graph: FactorGraph, blocks: Blocks, around: Array) -> Mixture:
        """The proposal's law of each block."""
        del graph, blocks
        return self.given(prepared, around)

    def moves(self, graph: FactorGraph, blocks: Blocks | None = None) -> BlockMoves:
        """Moves on a graph: of the blocks given, as `Motif.match` makes them, or of every instance of the motif."""
        return block_moves(graph, self.motif.find(graph) if blocks is None else blocks, self)


def neural_blocks(
    key: KeyArray,
    motif: Motif,
    groups: dict[str, int],
    featurise: Callable[[Array], Array] = table_features,
    **sizes: Any,
) -> NeuralBlocks:
    """An untrained proposal for a motif.

    Args:
        key: consumed here.
        motif: the structure.
        groups: name -> parameters of a factor (cells of a table), for each group of the motif.
        featurise: parameters to numbers for the network.
        sizes: of `mixture_density`.
    """
    layout = tuple(
        (name, sum(slot.group == name for slot in motif.slots), groups[name])
        for name in dict.fromkeys(slot.group for slot in motif.slots)
    )
    num_fixed = len(motif.blanket) + sum(count * featurise(jnp.zeros((size,))).shape[-1] for _, count, size in layout)
    network = mixture_density(key, motif.block, num_fixed, num_features(motif.blanket), **sizes)
    return NeuralBlocks(network, motif, layout, featurise)


class MotifDraws(eqx.Module):
    """Draws of random instances of a motif, leading axis the instances.

    Attributes:
        parameters: group name -> Float["instances touching num_parameters"], of the touching factors in slot order.
        block: (instances, size), drawn from the conditional law given the rest.
        blanket: (instances, blanket).
        there: Float["instances blanket"], one where the blanket variable exists.
        log_scores: Float["instances candidates"], log of the touching factors for every value of the block, nats, where it
            was kept: what acceptance is judged by.
    """

    parameters: dict[str, Float[Array, "instances touching num_parameters"]]
    block: Array
    blanket: Array
    there: Float[Array, "instances blanket"]
    log_scores: Float[Array, "instances candidates"] | None = None


def conditional_draws(
    key: KeyArray, graph: FactorGraph, blocks: Blocks, x: Array, exact: ExactBlocks, keep_scores: bool = False
) -> MotifDraws:
    """Blocks of a state drawn anew from their exact conditionals: what the motif looks like in this graph.

    Args:
        key: consumed here.
        graph: a graph of tables.
        blocks: instances of a motif, (rows,).
        x: (variables,), the state that gives the blankets their values.
        exact: the conditionals, ``exact_blocks(graph, blocks).proposal``.
        keep_scores: keep what `expected_acceptance` needs.
    """
    around = blocks.read(x)[1]
    law = exact.law(exact.prepare(graph, blocks), graph, blocks, around[None])
    there = (blocks.blanket < graph.num_variables).astype(jnp.result_type(float))
    scores = law.log_scores[0] if keep_scores else None
    return MotifDraws(blocks.parameters(graph), law.sample(key)[0], around, there, scores)


def log_likelihood(proposal: NeuralBlocks, draws: MotifDraws) -> Float[Array, " instances"]:
    """log q of each drawn block given its surroundings, nats."""
    law = proposal.given(proposal.embed(draws.parameters, draws.there), draws.blanket)
    return law.log_prob(draws.block)


def inclusive_kl(proposal: NeuralBlocks, draws: MotifDraws) -> Scalar:
    r"""The training loss: :math:`-E \log q(B \mid C, \text{factors})`, KL(p || q) up to a constant, nats a block."""
    return -jnp.mean(log_likelihood(proposal, draws))


def expected_acceptance(key: KeyArray, proposal: NeuralBlocks, draws: MotifDraws) -> Scalar:
    """Mean acceptance probability of moves from blocks at their conditional law.

    Args:
        key: consumed here.
        proposal: what is judged.
        draws: instances with their scores.

    Raises:
        ArgumentError: the scores were not kept.
    """
    if draws.log_scores is None:
        raise ArgumentError("acceptance needs the instances' scores", expected="draws made with keep_scores", got=None)
    exact = enumerated(draws.log_scores, proposal.motif.block)
    law = proposal.given(proposal.embed(draws.parameters, draws.there), draws.blanket)
    new = law.sample(key)
    ratio = metropolis_ratio(
        exact.log_prob(draws.block), exact.log_prob(new), law.log_prob(draws.block), law.log_prob(new)
    )
    return jnp.mean(jnp.exp(jnp.minimum(ratio, 0.0)))


def save(path: str | Path, proposal: NeuralBlocks, card: dict[str, Any]) -> Path:
    """Keep a proposal's weights with what they were made for.

    Args:
        path: the file.
        proposal: a trained proposal.
        card: what JSON can hold: seed, steps, metrics.
    """
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_array(leaf) else leaf, proposal)
    return storage.save(path, single, card | _identity(proposal))


def load(path: str | Path, untrained: NeuralBlocks) -> NeuralBlocks:
    """A proposal with the weights of a file, in the current precision.

    Args:
        path: a file that `save` wrote.
        untrained: the proposal as this version's code builds it, or its shapes.

    Raises:
        CheckpointError: weights of another motif, another layout or another version.
    """
    found, wanted = storage.read_metadata(path), _identity(untrained)
    for name, value in wanted.items():
        if found.get(name) != value:
            raise CheckpointError(
                f"{path} holds weights of another version: {name} differs",
                expected=value,
                got=found.get(name),
                hint="make them again: python -m followed by the entry's recipe",
            )
    return restore_in_current_precision(path, untrained)


def _identity(proposal: NeuralBlocks) -> dict[str, Any]:
    return {
        "motif": proposal.motif.digest,
        "groups": [list(group) for group in proposal.groups],
        "components": proposal.network.num_components,
    }
