"""Factor graphs: local ratios against the whole joint, motifs found again, classes that share no factor."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.graphs import (
    REAL,
    FactorGraph,
    Motif,
    Slot,
    blocks_of,
    colour_classes,
    factor_graph,
    functions,
    tables,
    uniform_states,
)
from smcinfer.graphs.block_exact import exact_blocks
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.models.binary_grids import binary_grid, grid_motif


def mixed_graph() -> FactorGraph:
    """Two categories, a real variable, and factors that tie them; one variable is observed."""

    def normal(numbers: jax.Array, values: jax.Array) -> jax.Array:
        return -0.5 * ((values[1] - numbers[0] * values[0]) / numbers[1]) ** 2

    return factor_graph(
        [3, 2, REAL, REAL],
        {
            "pair": tables([[0, 1]], np.log([[[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]])),
            "emission": functions([[0, 2], [1, 3]], [[1.5, 0.5], [-1.0, 2.0]], normal),
            "tie": functions([[2, 3]], [[0.3, 1.0]], normal),
        },
        observed={3: 0.7},
    )


@pytest.mark.slow
def test_local_ratio_is_that_of_the_joint(precision: str) -> None:
    graphs = [binary_grid(jax.random.key(0), 5, 0.5, leak=0.05).graph(), mixed_graph()]
    members = [[(0, 1), (6, 12), (23, 24)], [(0, 2), (1, 2), (2, 0)]]
    for graph, own in zip(graphs, members, strict=True):
        blocks = blocks_of(graph, own)
        x, other = uniform_states(jax.random.key(1), graph, 2)
        old, around = blocks.read(x)
        new, _ = blocks.read(other)
        local = blocks.log_score(graph, new, around) - blocks.log_score(graph, old, around)
        for at, variables in enumerate(own):
            moved = x.at[jnp.array(variables)].set(other[jnp.array(variables)])
            whole = graph.log_prob(moved) - graph.log_prob(x)
            np.testing.assert_allclose(local[at], whole, rtol=1e-4, atol=1e-4)
        assert local[-1] == 0.0  # the block of nothing


@pytest.mark.slow
def test_one_table_may_serve_all_factors() -> None:
    scope, table = [[0, 1], [1, 2], [2, 3]], np.log([[[0.2, 0.8], [0.6, 0.4]]])
    groups = tables(scope, table), tables(scope, np.repeat(table, 3, 0))
    assert groups[0].is_shared and not groups[1].is_shared
    shared, own = (factor_graph([2] * 4, {"pair": group}) for group in groups)
    x = jnp.array([0, 1, 1, 0])
    np.testing.assert_allclose(shared.log_prob(x), own.log_prob(x))
    index = jnp.array([0, 2, 3])
    np.testing.assert_array_equal(shared.factors["pair"].parameters(index), own.factors["pair"].parameters(index))
    moves = [
        exact_blocks(graph, blocks_of(graph, [(1, 2)])).step(jax.random.key(0), x[None], graph, jnp.asarray(0))
        for graph in (shared, own)
    ]
    np.testing.assert_array_equal(moves[0][0], moves[1][0])


@pytest.mark.slow
def test_factors_that_do_not_change_are_not_read() -> None:
    graph = binary_grid(jax.random.key(0), 5, 0.5).graph()
    poisoned = np.array(graph.factors["cpt"].log_tables)
    blocks = blocks_of(graph, [(0, 1)])
    touching = set(np.asarray(blocks.factors["cpt"])[0].tolist())
    away = [factor for factor in range(25) if factor not in touching]
    poisoned[away] = np.nan
    group = tables(graph.factors["cpt"].scope, np.zeros((25, 2, 2, 2)))
    group = type(group)(group.scope, group.strength, jnp.asarray(poisoned), group.shape)
    broken = factor_graph([2] * 25, {"cpt": group, "evidence": graph.factors["evidence"]})
    x = uniform_states(jax.random.key(1), graph, 1)[0]
    assert np.isnan(broken.log_prob(x))
    own, around = blocks.read(x)
    np.testing.assert_array_equal(blocks.log_score(broken, own, around), blocks.log_score(graph, own, around))


@pytest.mark.slow
def test_every_candidate_scores_as_it_would_alone() -> None:
    graph = binary_grid(jax.random.key(0), 4, 0.5, leak=0.05).graph().tempered(0.3)
    blocks = grid_motif(2, 2).find(graph)
    moves = exact_blocks(graph, blocks)
    x = uniform_states(jax.random.key(1), graph, 1)[0]
    _, around = blocks.read(x)
    cells, _ = moves.proposal.prepare(graph, blocks)
    scores = blocks.candidate_scores(graph, moves.proposal.candidates, cells, around)
    for at, values in enumerate(itertools.product(range(2), repeat=4)):
        one = jnp.broadcast_to(jnp.array(values), (blocks.num_blocks + 1, 4))
        np.testing.assert_allclose(scores[:, at], blocks.log_score(graph, one, around), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_candidates_of_a_mixed_graph_score_as_they_would_alone() -> None:
    graph = mixed_graph()
    blocks = blocks_of(graph, [(0, 1)])
    proposal = exact_blocks(graph, blocks).proposal
    around = blocks.read(uniform_states(jax.random.key(1), graph, 1)[0])[1]
    cells, _ = proposal.prepare(graph, blocks)
    scores = blocks.candidate_scores(graph, proposal.candidates, cells, around)
    for at, values in enumerate(proposal.candidates):
        one = jnp.broadcast_to(values.astype(around.dtype), (2, 2))
        np.testing.assert_allclose(scores[:, at], blocks.log_score(graph, one, around), rtol=1e-5, atol=1e-5)


def test_a_class_shares_no_factor_and_holds_every_block_once() -> None:
    graph = binary_grid(jax.random.key(0), 7, 0.5).graph()
    for blocks in (grid_motif(3, 3).find(graph), blocks_of(graph, [(variable,) for variable in graph.free])):
        classes = colour_classes(blocks)
        members = classes[classes < blocks.num_blocks]
        assert sorted(members.tolist()) == list(range(blocks.num_blocks))
        index = np.asarray(blocks.factors["cpt"])
        for row in classes:
            touched = index[row[row < blocks.num_blocks]]
            touched = touched[touched < 49]
            assert len(touched) == len(set(touched.tolist()))


def test_a_motif_is_found_everywhere_and_in_its_order() -> None:
    grid = binary_grid(jax.random.key(0), 5, 0.5)
    graph, motif = grid.graph(), grid_motif(3, 3)
    blocks = motif.find(graph)
    assert blocks.num_blocks == 9
    assert blocks.blanket.shape[1] == 14 and blocks.factors["cpt"].shape[1] == 15
    node = np.arange(25).reshape(5, 5)
    middle = motif.match(graph, [node[1:4, 1:4].ravel().tolist()])
    assert np.asarray(middle.blanket)[0, :6].tolist() == [*node[0, 1:4], *node[1:4, 0]]
    corner = motif.match(graph, [node[:3, :3].ravel().tolist()])
    # At the corner both rows of parents are absent, all children are there.
    assert (np.asarray(corner.blanket)[0, :6] == 25).all()
    assert np.asarray(corner.blanket)[0, 6:12].tolist() == [3, 8, 13, 15, 16, 17]


def test_a_motif_reads_the_same_wherever_it_stands() -> None:
    chain = [[i, i + 1] for i in range(5)]
    motif = Motif("pair", (2, 2), (2, 2), (Slot("edge", (0, 1)), Slot("edge", (2, 0)), Slot("edge", (1, 3))))
    graph = factor_graph([2] * 6, {"edge": tables(chain, np.random.default_rng(0).normal(size=(5, 2, 2)))})
    blocks = motif.find(graph)
    assert blocks.num_blocks == 5
    assert np.asarray(blocks.factors["edge"])[2].tolist() == [2, 1, 3]
    assert motif.digest != Motif("pair", (2, 2), (2, 2), motif.slots[:2]).digest


def test_what_does_not_match_is_said() -> None:
    graph = binary_grid(jax.random.key(0), 5, 0.5).graph()
    motif = grid_motif(2, 2)
    with pytest.raises(TargetError, match="has no slot"):
        motif.match(graph, [(0, 1, 2, 3)])
    with pytest.raises(ArgumentError, match="observed"):
        motif.match(graph.observe({6: 1}), [(0, 1, 5, 6)])
    with pytest.raises(ArgumentError, match=r"x\[1,1\]"):
        blocks_of(graph.observe({6: 1}), [(6, 7)])
    ising = factor_graph([2] * 4, {"edge": tables([[0, 1], [2, 3]], np.zeros((2, 2, 2)))})
    with pytest.raises(TargetError, match="nowhere in the graph"):
        motif.find(ising)
    with pytest.raises(TargetError, match="variables of"):
        motif.match(
            factor_graph([3] * 4, ising.factors | {"edge": tables([[0, 1]], np.zeros((1, 3, 3)))}), [(0, 1, 2, 3)]
        )


def test_observed_variables_leave_the_blocks_that_held_them() -> None:
    graph = binary_grid(jax.random.key(0), 5, 0.5).graph()
    assert grid_motif(3, 3).find(graph.observe({0: 1})).num_blocks == 8
    assert graph.observe({0: 1}).clamp(jnp.zeros(25, jnp.int32))[0] == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: factor_graph([2, 2], {"pair": tables([[0, 2]], np.zeros((1, 2, 3)))}), None),
        (lambda: factor_graph([2, 2], {"pair": tables([[0, 3]], np.zeros((1, 2, 2)))}), "do not exist"),
        (lambda: factor_graph([2, 2], {"pair": tables([[1, 1]], np.zeros((1, 2, 2)))}), "twice"),
        (lambda: factor_graph([2, 3], {"pair": tables([[0, 1]], np.zeros((1, 2, 2)))}), "do not fit"),
        (lambda: factor_graph([2, 0], {"pair": tables([[0, 1]], np.zeros((1, 2, 2)))}), "do not fit"),
        (lambda: factor_graph([1, 2], {}), "cardinalities"),
        (lambda: tables([[0, 1]], np.zeros((1, 2))), "do not fit their scopes"),
        (lambda: tables([[0]], np.full((1, 2), np.nan)), "NaN"),
        (lambda: functions([[0, 1]], [0.0], lambda n, v: v[0]), "one row a factor"),
        (lambda: factor_graph([2], {"one": tables([[0]], np.zeros((1, 2)))}, observed={0: 2}), "cannot have"),
    ],
)
def test_graphs_that_cannot_be_are_refused(make: object, words: str | None) -> None:
    if words is None:
        make()  # an absent variable is fine
        return
    with pytest.raises((ArgumentError, TargetError), match=words):
        make()
