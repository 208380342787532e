r"""Structural motifs: the shape of a block and of the factors around it, to be found again in graphs never seen.

A motif names the block's variables, its blanket's, and for each factor that touches the block which of those are its
arguments. Where it matches, factors and blanket come in the motif's order, so that one network reads them all.

Source: Wang, Wu, Moore & Russell (2018), section 3.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from smcinfer.graphs.blocks import Blocks, assemble, check_block, touching_factors
from smcinfer.graphs.graph import FactorGraph
from smcinfer.ground.errors import ArgumentError, TargetError


@dataclasses.dataclass(frozen=True)
class Slot:
    """One factor of a motif.

    Attributes:
        group: name of the group of factors it belongs to.
        places: for each argument, its place among the block's variables (first) and the blanket's (after them).
    """

    group: str
    places: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Motif:
    """A block, its blanket and the factors that touch the block.

    Attributes:
        name: what messages call it.
        block: categories of each block variable, zero for a real one.
        blanket: categories of each blanket variable.
        slots: the factors. A factor without which the block is still whole may be absent in a graph (at its border, say),
            and so may a blanket variable.
    """

    name: str
    block: tuple[int, ...]
    blanket: tuple[int, ...]
    slots: tuple[Slot, ...]

    def __post_init__(self) -> None:
        last = len(self.block) + len(self.blanket)
        for slot in self.slots:
            if not all(0 <= place < last for place in slot.places) or min(slot.places) >= len(self.block):
                raise ArgumentError(
                    f"a slot of motif {self.name!r} does not touch the block or leaves the motif",
                    expected=f"places in 0 to {last - 1}, one of them below {len(self.block)}",
                    got=slot,
                )

    @property
    def digest(self) -> str:
        """A name for exactly this structure: weights trained for another do not fit."""
        return hashlib.sha256(repr((self.block, self.blanket, self.slots)).encode()).hexdigest()[:16]

    def match(self, graph: FactorGraph, members: Sequence[Sequence[int]]) -> Blocks:
        """Given blocks as instances of the motif, their surroundings in its order.

        Args:
            graph: the graph.
            members: the variables of each block, in the motif's order.

        Raises:
            ArgumentError: an observed variable in a block.
            TargetError: a block that is no instance; says what differs.
        """
        if not members:
            raise ArgumentError("no blocks were given", expected="at least one block")
        search = _Search(self, graph)
        rows = []
        for block in members:
            check_block(graph, block)
            found = search.surroundings(tuple(int(variable) for variable in block))
            if isinstance(found, str):
                raise TargetError(
                    f"motif {self.name!r} does not match the block {tuple(block)}",
                    expected=f"{len(self.block)} variables of {self.block} categories, factors {self._summary()}",
                    got=found,
                    hint="motif.find(graph) lists the blocks that it does match",
                )
            rows.append(found)
        return assemble(graph, rows)

    def find(self, graph: FactorGraph) -> Blocks:
        """Every instance of the motif in a graph, each set of variables once.

        Raises:
            TargetError: there is none.
        """
        search = _Search(self, graph)
        rows, seen = [], set()
        for anchor in graph.free:
            for block in search.blocks_from(anchor):
                if frozenset(block) in seen:
                    continue
                found = search.surroundings(block)
                if not isinstance(found, str):
                    seen.add(frozenset(block))
                    rows.append(found)
        if not rows:
            raise TargetError(
                f"motif {self.name!r} is nowhere in the graph",
                expected=f"blocks of {self.block} categories with factors {self._summary()}",
                got=f"groups { ({name: group.arity for name, group in graph.factors.items()}) } (name: arity)",
                hint="group names and the order of arguments must be the motif's",
            )
        return assemble(graph, rows)

    def _summary(self) -> str:
        groups = sorted({(slot.group, len(slot.places)) for slot in self.slots})
        return ", ".join(f"{name} of {arity} arguments" for name, arity in groups)


Row = tuple[tuple[int, ...], tuple[int, ...], dict[str, list[int]]]


class _Search:
    """A motif in a graph: look-ups shared by all its instances (host)."""

    def __init__(self, motif: Motif, graph: FactorGraph) -> None:
        self.motif, self.graph = motif, graph
        self.scopes = {name: np.asarray(group.scope).tolist() for name, group in graph.factors.items()}
        self.touching = touching_factors(graph)
        self.observed = np.asarray(graph.observed)
        arities = {name: group.arity for name, group in graph.factors.items()}
        self.usable = all(arities.get(slot.group, len(slot.places)) == len(slot.places) for slot in motif.slots)

    def candidates(self, slot: Slot, bound: dict[int, int]) -> list[int]:
        """Factors that agree with what is bound of a slot, at least one place of which is."""
        if slot.group not in self.scopes or not self.usable:
            return []
        anchored = [
            place for place in slot.places if bound.get(place, self.graph.num_variables) < self.graph.num_variables
        ]
        scopes = self.scopes[slot.group]
        return [
            factor
            for factor in self.touching[slot.group][bound[anchored[0]]]
            if all(bound.get(place, at) == at for place, at in zip(slot.places, scopes[factor], strict=True))
        ]

    def blocks_from(self, anchor: int) -> Iterator[tuple[int, ...]]:
        """Blocks whose first variable is ``anchor``, grown along the slots that join block variables."""
        size = len(self.motif.block)

        def grow(bound: dict[int, int]) -> Iterator[tuple[int, ...]]:
            if len(bound) == size:
                yield tuple(bound[place] for place in range(size))
                return
            for slot in self.motif.slots:
                inside = [place for place in slot.places if place < size]
                new = [place for place in inside if place not in bound]
                if new and len(new) < len(inside):
                    break
            else:
                return
            for factor in self.candidates(slot, bound):
                scope = dict(zip(slot.places, self.scopes[slot.group][factor], strict=True))
                fresh = {place: scope[place] for place in new}
                if all(self.fits(place, at) and at not in bound.values() for place, at in fresh.items()):
                    yield from grow(bound | fresh)

        if self.fits(0, anchor):
            yield from grow({0: anchor})

    def fits(self, place: int, variable: int) -> bool:
        """Whether a variable may stand at a place of the block."""
        inside = variable < self.graph.num_variables and not self.observed[variable]
        return inside and self.graph.cardinalities[variable] == self.motif.block[place]

    def surroundings(self, block: tuple[int, ...]) -> Row | str:
        """The block with its blanket and factors in the motif's order, or why it is no instance."""
        motif, size, absent = self.motif, len(self.motif.block), self.graph.num_variables
        cards = tuple(self.graph.cardinalities[variable] for variable in block)
        if cards != motif.block:
            return f"variables of {cards} categories"
        bound = dict(enumerate(block))
        used: dict[str, list[int]] = {}
        for slot in motif.slots:
            taken = used.setdefault(slot.group, [])
            for factor in self.candidates(slot, bound):
                scope = self.scopes[slot.group][factor]
                fresh = {p: v for p, v in zip(slot.places, scope, strict=True) if p not in bound}
                strangers = [v for v in fresh.values() if v != absent]
                if factor not in taken and not any(variable in bound.values() for variable in strangers):
                    bound |= fresh
                    taken.append(factor)
                    break
            else:
                taken.append(len(self.scopes.get(slot.group, ())))
        for name, at in self.touching.items():
            left = {factor for variable in block for factor in at[variable]} - set(used.get(name, ()))
            if left:
                where = [self.graph.name(v) for v in self.scopes[name][min(left)] if v != absent]
                return f"a factor of {name!r} on {', '.join(where)} that has no slot"
        blanket = tuple(bound.get(size + place, absent) for place in range(len(motif.blanket)))
        for place, variable in enumerate(blanket):
            if variable != absent and self.graph.cardinalities[variable] != motif.blanket[place]:
                return f"{self.graph.name(variable)} of {self.graph.cardinalities[variable]} categories in the blanket"
        return block, blanket, {name: ids for name, ids in used.items() if name in self.scopes}
