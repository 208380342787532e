r"""Block Gibbs moves: propose a whole block given what surrounds it, and accept by Metropolis-Hastings.

.. math:: \alpha = \min\left\{1, \frac{\pi(B' \mid C)\, q(B \mid C)}{\pi(B \mid C)\, q(B' \mid C)}\right\}

C is the Markov blanket, which the move does not touch: the law that proposed the move is the law of the way back. Only
factors that touch the block are evaluated. Blocks that share no factor move together, and the order of classes never
depends on a state: it is drawn once for all chains.

Sources: Wang, Wu, Moore & Russell (2018); for classes Gonzalez et al. (2011), section 3.
"""

import abc
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from smcinfer.graphs.blocks import Blocks
from smcinfer.graphs.classes import colour_classes
from smcinfer.graphs.graph import FactorGraph
from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray, PyTree
from smcinfer.ground.errors import ArgumentError

SCANS = ("random", "systematic")


@runtime_checkable
class Law(Protocol):
    """A law of blocks given their blankets, batched over leading axes."""

    def sample(self, key: KeyArray) -> Array:
        """One draw each, (*batch, size)."""
        ...

    def log_prob(self, values: Array) -> Array:
        """log density at values (*batch, size), nats, (*batch,)."""
        ...


class BlockProposal(eqx.Module):
    """How to propose blocks: a law given the blanket's values, after a part that the factors alone decide.

    ``is_gibbs`` says that the law is the exact conditional: every move is then accepted.
    """

    @property
    def is_gibbs(self) -> bool:
        """Whether ``law`` is exactly the conditional of the block."""
        return False

    @abc.abstractmethod
    def prepare(self, graph: FactorGraph, blocks: Blocks) -> PyTree[Any]:
        """What of the laws depends on the graph and not on a state: computed once, leading axes those of ``blocks``."""

    @abc.abstractmethod
    def law(self, prepared: PyTree[Any], graph: FactorGraph, blocks: Blocks, around: Array) -> Law:
        """The laws of blocks, (chains, rows), given the values of their blankets (chains, rows, blanket)."""


class MoveInfo(eqx.Module):
    """What moves did, summed over blocks and chains.

    Attributes:
        acceptance: Float["..."], sum of acceptance probabilities.
        proposed: Float["..."], how many blocks were proposed.
        changed: Float["..."], how many variables took another value.
    """

    acceptance: Float[Array, "*steps"]
    proposed: Float[Array, "*steps"]
    changed: Float[Array, "*steps"]


class BlockMoves(eqx.Module):
    """One proposal on its blocks, in classes that move together (made by `block_moves`).

    Attributes:
        blocks: leading axes (classes, width).
        prepared: what the proposal prepared, likewise.
        proposal: how blocks are proposed.
    """

    blocks: Blocks
    prepared: PyTree[Any]
    proposal: BlockProposal

    @property
    def num_classes(self) -> int:
        """Classes: steps of a sweep that comes to every block once."""
        return self.blocks.variables.shape[0]

    def prepare(self, graph: FactorGraph) -> "BlockMoves":
        """The same moves for a graph of other factors on the same scopes (another temperature)."""
        return BlockMoves(self.blocks, self.proposal.prepare(graph, self.blocks), self.proposal)

    def step(self, key: KeyArray, x: Array, graph: FactorGraph, which: Int[Array, ""]) -> tuple[Array, MoveInfo]:
        """Move the blocks of one class, in every chain.

        Args:
            key: consumed here.
            x: (chains, variables).
            graph: the graph; its law is left invariant.
            which: the class.

        Returns:
            The states after the move, and what it did in each chain, leading axis ``chains``.
        """
        blocks, prepared = jax.tree.map(lambda leaf: leaf[which], (self.blocks, self.prepared))
        draw_key, accept_key = jax.random.split(key)
        old, around = jax.vmap(blocks.read)(x)
        law = self.proposal.law(prepared, graph, blocks, around)
        new = law.sample(draw_key).astype(x.dtype)
        forward = law.log_prob(new)
        if self.proposal.is_gibbs:
            log_ratio = jnp.where(jnp.isfinite(forward), 0.0, -jnp.inf)
        else:
            score = jax.vmap(lambda values, around: blocks.log_score(graph, values, around))
            log_ratio = metropolis_ratio(score(old, around), score(new, around), law.log_prob(old), forward)
        accept = -jax.random.exponential(accept_key, log_ratio.shape, log_ratio.dtype) <= log_ratio
        there = blocks.variables[:, 0] < graph.num_variables
        moved = jax.vmap(blocks.write)(x, new, accept & there)
        changed = jnp.sum((new != old) & (accept & there)[..., None], axis=(1, 2)).astype(log_ratio.dtype)
        probability = jnp.sum(jnp.where(there, jnp.exp(jnp.minimum(log_ratio, 0.0)), 0.0), axis=1)
        proposed = jnp.broadcast_to(jnp.sum(there), probability.shape).astype(log_ratio.dtype)
        return moved, MoveInfo(probability, proposed, changed)

    def order(self, key: KeyArray, scan: str) -> Int[Array, " classes"]:
        """The classes of one sweep: as many, each drawn uniformly (``"random"``), or all in turn (``"systematic"``)."""
        if scan == "systematic":
            return jnp.arange(self.num_classes)
        return jax.random.randint(key, (self.num_classes,), 0, self.num_classes)

    def follow(
        self, key: KeyArray, x: Array, graph: FactorGraph, order: Int[Array, " classes"]
    ) -> tuple[Array, MoveInfo]:
        """A move of each class in the order given.

        Args:
            key: consumed here.
            x: (chains, variables).
            graph: the graph.
            order: classes; it must not depend on a state.
        """

        def one(x: Array, parts: tuple[Array, Array]) -> tuple[Array, MoveInfo]:
            key, which = parts
            return self.step(key, x, graph, which)

        x, info = jax.lax.scan(one, x, (jax.random.split(key, self.num_classes), order))
        return x, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), info)

    def sweep(self, key: KeyArray, x: Array, graph: FactorGraph, scan: str = "random") -> tuple[Array, MoveInfo]:
        """As many class moves as there are classes.

        Args:
            key: consumed here; the classes it picks are the same for all chains.
            x: (chains, variables).
            graph: the graph.
            scan: as in `order`.
        """
        pick_key, move_key = jax.random.split(key)
        return self.follow(move_key, x, graph, self.order(pick_key, scan))


def metropolis_ratio(old: Array, new: Array, backward: Array, forward: Array) -> Array:
    r"""log of the acceptance ratio from log scores and log proposal densities; NaN never accepts.

    .. math:: \log r = \log \pi(x') - \log \pi(x) + \log q(x \mid x') - \log q(x' \mid x)

    A block whose score is zero takes any proposal whose score is not.

    Args:
        old, new: Float["..."], log scores of the block as it is and as it is proposed, nats, up to one constant.
        backward: Float["..."], log density of proposing the old block from the new one, nats.
        forward: Float["..."], log density of what was proposed, nats.
    """
    ratio = jnp.where(old > -jnp.inf, new - old + backward - forward, jnp.inf)
    return jnp.where((new > -jnp.inf) & ~jnp.isnan(ratio), ratio, -jnp.inf)


def block_moves(graph: FactorGraph, blocks: Blocks, proposal: BlockProposal) -> BlockMoves:
    """Moves of blocks by a proposal, in the classes of `colour_classes` (host work, once a graph).

    Args:
        graph: the factor graph.
        blocks: what is moved.
        proposal: what proposes their values; what it needs of the graph is prepared here.
    """
    by_class = blocks.rows(jnp.asarray(colour_classes(blocks)))
    return BlockMoves(by_class, proposal.prepare(graph, by_class), proposal)


class Turns(eqx.Module):
    """What a sweep does, drawn without looking at any state.

    Attributes:
        kinds: Bool["kinds"], which kinds of moves are made.
        orders: of each kind, the classes it comes to.
    """

    kinds: Bool[Array, " kinds"]
    orders: tuple[Int[Array, "..."], ...]


class BlockGibbs(eqx.Module):
    """Several kinds of moves as one kernel: in a cycle, or one kind a sweep with given probabilities.

    Attributes:
        moves: each leaves the graph's law invariant.
        weights: Float["kinds"], probabilities of the kinds; ``None`` makes a sweep of every kind, one after the other.
        scan: of the classes of each kind, ``"random"`` or ``"systematic"``.
    """

    moves: tuple[BlockMoves, ...]
    weights: Float[Array, " kinds"] | None = None
    scan: str = eqx.field(static=True, default="random")

    def __check_init__(self) -> None:
        if self.scan not in SCANS:
            raise ArgumentError("unknown scan", expected=" | ".join(SCANS), got=self.scan)
        if not self.moves:
            raise ArgumentError("a kernel needs moves", expected="at least one kind", got=self.moves)

    def prepare(self, graph: FactorGraph) -> "BlockGibbs":
        """The same kernel for a graph of other factors on the same scopes."""
        return eqx.tree_at(lambda kernel: kernel.moves, self, tuple(moves.prepare(graph) for moves in self.moves))

    def turns(self, key: KeyArray, weights: Float[Array, " kinds"] | None) -> Turns:
        """What one sweep will do, the same for all chains.

        Args:
            key: consumed here.
            weights: probabilities of the kinds, of which one is then swept; ``None`` for every kind.
        """
        kind_key, *order_keys = jax.random.split(key, len(self.moves) + 1)
        orders = tuple(moves.order(each, self.scan) for moves, each in zip(self.moves, order_keys, strict=True))
        if weights is None:
            return Turns(jnp.ones((len(self.moves),), bool), orders)
        chosen = jax.random.choice(kind_key, len(self.moves), p=weights)
        return Turns(jnp.arange(len(self.moves)) == chosen, orders)

    def follow(self, key: KeyArray, x: Array, graph: FactorGraph, turns: Turns) -> tuple[Array, MoveInfo]:
        """One sweep as it was laid out; the info has a leading axis of kinds, then chains.

        Args:
            key: consumed here.
            x: (chains, variables).
            graph: the graph whose law is left invariant.
            turns: kinds and classes.
        """
        nothing = jnp.zeros((x.shape[0],), jnp.result_type(float))
        infos = []
        for number, (moves, sweep_key) in enumerate(
            zip(self.moves, jax.random.split(key, len(self.moves)), strict=True)
        ):

            def run(x: Array, moves: BlockMoves = moves, key: Array = sweep_key, number: int = number) -> Any:
                return moves.follow(key, x, graph, turns.orders[number])

            def skip(x: Array) -> tuple[Array, MoveInfo]:
                return x, MoveInfo(nothing, nothing, nothing)

            x, info = jax.lax.cond(turns.kinds[number], run, skip, x)
            infos.append(info)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *infos)

    def sweep(self, key: KeyArray, x: Array, graph: FactorGraph) -> tuple[Array, MoveInfo]:
        """One sweep of every chain; the info has a leading axis of kinds, then chains.

        Args:
            key: consumed here.
            x: (chains, variables).
            graph: the graph whose law is left invariant.
        """
        turn_key, move_key = jax.random.split(key)
        return self.follow(move_key, x, graph, self.turns(turn_key, self.weights))


def adapted_weights(changed: ArrayLike, costs: ArrayLike, floor: float = 0.1) -> Float[Array, " kinds"]:
    """Probabilities of kinds in proportion to the variables they change for what they cost.

    None is below ``floor`` over their number. Fixed before the draws that count: a kernel that went on adapting would not
    leave the law invariant.

    Args:
        changed: variables that a sweep of each kind changed in the warm-up.
        costs: what a sweep of each kind costs, in any unit.
        floor: in (0, 1].
    """
    rate = jnp.asarray(changed, jnp.result_type(float)) / jnp.asarray(costs, jnp.result_type(float))
    total = jnp.sum(rate)
    share = jnp.where(total > 0, rate / jnp.where(total > 0, total, 1.0), 1.0 / rate.shape[0])
    return floor / rate.shape[0] + (1.0 - floor) * share
