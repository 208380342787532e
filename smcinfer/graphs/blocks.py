r"""Blocks and their surroundings: which variables a move changes, what touches them, and the log ratio of just that.

.. math:: \log \frac{\pi(x')}{\pi(x)} = \sum_{i:\, s_i \cap B \neq \emptyset} \log f_i(x'_{s_i}) - \log f_i(x_{s_i})

For each block a row of padded tables says which factors touch it and where, among the block's own variables and its Markov
blanket, their arguments are. So a move reads and writes a few numbers and never sees the rest of the graph.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.graphs.factors import Tables
from smcinfer.graphs.graph import FactorGraph
from smcinfer.ground.arrays import Array, Bool, Float, Int
from smcinfer.ground.errors import ArgumentError


class Blocks(eqx.Module):
    """Blocks of one size, one a row; the last row is a block of nothing, for padding.

    A block's *local* vector is its own variables, then its blanket, then one zero for what is absent. Leading axes may be
    anything once rows were picked by ``rows``.

    Attributes:
        variables: Int["*rows size"], what a move changes; the number of variables of the graph where absent.
        blanket: Int["*rows blanket"], what the touching factors read besides.
        factors: group name -> Int["*rows touching"], factors that touch the block; the group's size where absent.
        places: group name -> Int["*rows touching arity"], where in the local vector their arguments are.
    """

    variables: Int[Array, "*rows size"]
    blanket: Int[Array, "*rows blanket"]
    factors: dict[str, Int[Array, "*rows touching"]]
    places: dict[str, Int[Array, "*rows touching arity"]]

    @property
    def size(self) -> int:
        """Variables of a block."""
        return self.variables.shape[-1]

    @property
    def num_blocks(self) -> int:
        """Blocks, the padding row not counted."""
        return self.variables.shape[0] - 1

    def rows(self, index: Array) -> "Blocks":
        """Some blocks, in the shape of ``index``; ``num_blocks`` is the block of nothing."""
        return Blocks(
            self.variables[index],
            self.blanket[index],
            {name: leaf[index] for name, leaf in self.factors.items()},
            {name: leaf[index] for name, leaf in self.places.items()},
        )

    def read(self, x: Array) -> tuple[Array, Array]:
        """Values of the blocks (*rows, size) and of their blankets (*rows, blanket) in a state."""
        padded = jnp.append(x, jnp.zeros((), x.dtype))
        return padded[self.variables], padded[self.blanket]

    def write(self, x: Array, values: Array, where: Bool[Array, "*rows"]) -> Array:
        """The state with some blocks replaced; blocks written together must not share variables."""
        target = jnp.where(where[..., None], self.variables, x.shape[0])
        return x.at[target.reshape(-1)].set(values.reshape(-1).astype(x.dtype), mode="drop")

    def log_score(self, graph: FactorGraph, values: Array, around: Array) -> Float[Array, "*rows"]:
        """log of the factors that touch each block, nats.

        Args:
            graph: the graph.
            values: (*rows, size), values of the blocks.
            around: (*rows, blanket), values of their blankets.
        """
        zero = jnp.zeros((*values.shape[:-1], 1), values.dtype)
        local = jnp.concatenate([values, around, zero], axis=-1)
        total = jnp.zeros(values.shape[:-1], jnp.result_type(float))
        for name, index in self.factors.items():
            places = self.places[name]
            flat = places.reshape(*places.shape[:-2], -1)
            arguments = jnp.take_along_axis(local, flat, axis=-1).reshape(places.shape)
            total += jnp.sum(graph.factors[name](index, arguments), axis=-1)
        return total

    def candidate_cells(self, graph: FactorGraph, candidates: Int[Array, "num size"]) -> dict[str, Array]:
        """What each candidate adds to the cell of each touching table: known before any state is.

        Returns:
            Name of each group of tables -> Int["*rows num touching"].
        """
        cells = {}
        for name, places in self.places.items():
            group = graph.factors[name]
            if isinstance(group, Tables):
                own = places[..., None] == jnp.arange(self.size)
                weight = jnp.sum(jnp.where(own, jnp.asarray(group.strides)[:, None], 0), axis=-2)
                cells[name] = jnp.einsum("...ts,ns->...nt", weight, candidates)
        return cells

    def candidate_scores(
        self, graph: FactorGraph, candidates: Int[Array, "num size"], cells: dict[str, Array], around: Array
    ) -> Float[Array, "*rows num"]:
        """log of the touching factors for every candidate value of a block, nats.

        Args:
            graph: the graph.
            candidates: values of a block.
            cells: from `candidate_cells`.
            around: (*rows, blanket), values of the blankets.
        """
        zero = jnp.zeros((*around.shape[:-1], self.size), jnp.int32)
        local = jnp.concatenate([zero, around.astype(jnp.int32), zero[..., :1]], axis=-1)
        total = jnp.zeros((*around.shape[:-1], candidates.shape[0]), jnp.result_type(float))
        for name, index in self.factors.items():
            table, places = graph.factors[name], self.places[name]
            if not isinstance(table, Tables):
                continue
            flat = places.reshape(*places.shape[:-2], -1)
            outside = jnp.take_along_axis(local, flat, axis=-1).reshape(places.shape)
            base = jnp.sum(outside * jnp.asarray(table.strides), axis=-1)
            there = index < table.num_factors
            cell = base[..., None, :] + cells[name]
            logs = table.at(jnp.minimum(index, table.num_factors - 1)[..., None, :], cell)
            logs = table.strength * jnp.where(table.strength == 0, 0.0, logs)
            total += jnp.sum(jnp.where(there[..., None, :], logs, 0.0), axis=-1)
        others = {name: index for name, index in self.factors.items() if not isinstance(graph.factors[name], Tables)}
        if others:
            rest = Blocks(self.variables, self.blanket, others, self.places)

            def score(values: Array) -> Array:
                return rest.log_score(graph, jnp.broadcast_to(values.astype(around.dtype), zero.shape), around)

            total += jax.vmap(score, out_axes=-1)(candidates)
        return total

    def parameters(self, graph: FactorGraph) -> dict[str, Float[Array, "*rows touching num_parameters"]]:
        """What defines the touching factors, by group."""
        return {name: graph.factors[name].parameters(index) for name, index in self.factors.items()}


def blocks_of(graph: FactorGraph, members: Sequence[Sequence[int]]) -> Blocks:
    """Blocks given by their variables, with everything that touches them looked up.

    Args:
        graph: the graph.
        members: the variables of each block, all of one size.

    Raises:
        ArgumentError: a block with an observed or unknown variable, one twice, or blocks of several sizes.
    """
    for block in members:
        check_block(graph, block)
    if len({len(block) for block in members}) != 1:
        raise ArgumentError("blocks have several sizes", expected="one size", got=sorted({len(b) for b in members}))
    touching = touching_factors(graph)
    rows = []
    for block in members:
        found = {name: sorted({i for variable in block for i in at[variable]}) for name, at in touching.items()}
        scopes = {name: np.asarray(graph.factors[name].scope)[ids] for name, ids in found.items() if ids}
        around = sorted({int(v) for scope in scopes.values() for v in scope.ravel()} - {*block, graph.num_variables})
        rows.append((tuple(block), tuple(around), found))
    return assemble(graph, rows)


def assemble(
    graph: FactorGraph, rows: Sequence[tuple[tuple[int, ...], tuple[int, ...], dict[str, list[int]]]]
) -> Blocks:
    """Padded tables from each block's variables, blanket and touching factors (host)."""
    absent, size = graph.num_variables, len(rows[0][0])
    width = max(len(around) for _, around, _ in rows)
    variables = np.full((len(rows) + 1, size), absent, np.int32)
    blanket = np.full((len(rows) + 1, width), absent, np.int32)
    for row, (block, around, _) in enumerate(rows):
        variables[row], blanket[row, : len(around)] = block, around
    factors, places = {}, {}
    for name, group in graph.factors.items():
        scope = np.asarray(group.scope)
        most = max(len(found.get(name, ())) for *_, found in rows)
        if most == 0:
            continue
        index = np.full((len(rows) + 1, most), group.num_factors, np.int32)
        place = np.full((len(rows) + 1, most, group.arity), size + width, np.int32)
        for row, (block, around, found) in enumerate(rows):
            ids = found.get(name, [])
            index[row, : len(ids)] = ids
            local = {variable: at for at, variable in enumerate((*block, *around)) if variable != absent}
            for at, factor in enumerate(ids):
                if factor < group.num_factors:
                    place[row, at] = [local.get(int(variable), size + width) for variable in scope[factor]]
        factors[name], places[name] = jnp.asarray(index), jnp.asarray(place)
    return Blocks(jnp.asarray(variables), jnp.asarray(blanket), factors, places)


def touching_factors(graph: FactorGraph) -> dict[str, list[list[int]]]:
    """Group name -> for every variable, the factors that it is an argument of (host)."""
    found: dict[str, list[list[int]]] = {}
    for name, group in graph.factors.items():
        at: list[list[int]] = [[] for _ in range(graph.num_variables + 1)]
        for factor, scope in enumerate(np.asarray(group.scope).tolist()):
            for variable in scope:
                at[variable].append(factor)
        found[name] = at[: graph.num_variables]
    return found


def check_block(graph: FactorGraph, block: Sequence[int]) -> None:
    """Raise `ArgumentError` for a block that no move may change."""
    observed = np.asarray(graph.observed)
    unknown = [variable for variable in block if not 0 <= variable < graph.num_variables]
    if unknown or len(set(block)) != len(block) or not block:
        raise ArgumentError(
            "this is no block of the graph",
            expected=f"distinct variables in 0 to {graph.num_variables - 1}",
            got=tuple(block),
        )
    known = [graph.name(variable) for variable in block if observed[variable]]
    if known:
        raise ArgumentError(
            "a block contains what was observed",
            expected="variables to be inferred",
            got=", ".join(known),
            hint="leave it out of the block: it stays in the blanket, and its value is read there",
        )
