"""The grid proposal of the library: its card holds, it runs on a file it never saw, other versions are refused."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer import proposals
from smcinfer.cli import main
from smcinfer.graphs import block_neural, factor_graph, tables, uniform_states
from smcinfer.graphs.block_gibbs import BlockGibbs
from smcinfer.graphs.block_neural import NeuralBlocks, expected_acceptance, inclusive_kl, neural_blocks
from smcinfer.ground.errors import ArgumentError, CheckpointError, TargetError
from smcinfer.models.binary_grids import BinaryGrid, binary_grid, forward, grid_motif
from smcinfer.nn import read_metadata
from smcinfer.proposals.grid import WEIGHTS
from smcinfer.proposals.grid.draws import random_instances
from smcinfer.proposals.grid.recipe import loss
from smcinfer.run.fit import fit
from tests.statistics import assert_mean

FILE = """
import jax
from smcinfer.models.binary_grids import binary_grid

def graph():
    return binary_grid(jax.random.key(11), 5, 0.75).graph()
"""


@pytest.mark.slow
def test_acceptance_is_what_the_card_says() -> None:
    card = read_metadata(WEIGHTS)
    draws = random_instances(keep_scores=True)(jax.random.key(1), 40, 0.75, 0.75)
    rate = float(jax.jit(expected_acceptance)(jax.random.key(2), proposals.load("grid"), draws))
    assert abs(rate - card["acceptance_0.75"]) < 0.06


def test_the_library_lists_it(precision: str) -> None:
    assert "grid" in proposals.names()
    loaded = proposals.load("grid")
    assert isinstance(loaded, NeuralBlocks)
    assert loaded.network.head.bias.dtype == precision


@pytest.mark.slow
def test_it_finds_marginals_on_a_grid_it_never_saw() -> None:
    grid = binary_grid(jax.random.key(12), 4, 0.5, leak=0.02)
    graph = grid.graph()
    kernel = BlockGibbs((proposals.load("grid").moves(graph),))
    num = 4000
    start = jax.random.choice(jax.random.key(0), 2**16, (num,), p=_law(grid))
    x = jnp.asarray((np.asarray(start)[:, None] >> np.arange(15, -1, -1)) & 1, jnp.int32)
    moved, info = jax.jit(lambda key, x: kernel.sweep(key, x, graph))(jax.random.key(1), x)
    assert float(info.acceptance.sum() / info.proposed.sum()) > 0.15
    assert_mean(np.asarray(moved), np.asarray(grid.marginals()).ravel())


def _law(grid: BinaryGrid) -> jax.Array:
    states = (np.arange(2**16)[:, None] >> np.arange(15, -1, -1)) & 1
    return jax.nn.softmax(jax.jit(jax.vmap(grid.graph().log_prob))(jnp.asarray(states, jnp.int32)))


@pytest.mark.slow
def test_one_line_runs_it_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.py"
    file.write_text(FILE, encoding="utf8")
    words = ("--proposal", "grid", "--num-draws", "8", "--num-chains", "4", "--num-warmup", "4", "--no-progress")
    out = tmp_path / "run.nc"
    assert main(["blocks", f"{file}:graph", *words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "grid_3x3: acceptance" in printed and "single site: acceptance 1.00" in printed
    assert "x[0,0]" in printed and out.exists()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    proposal = proposals.load("grid")
    node = np.arange(25).reshape(5, 5)
    graph = binary_grid(jax.random.key(0), 5).graph()
    with pytest.raises(ArgumentError, match="observed"):
        proposal.motif.match(graph.observe({12: 0}), [node[1:4, 1:4].ravel().tolist()])
    with pytest.raises(TargetError, match="does not match the block"):
        proposal.motif.match(graph, [node[1:4, 1:4].T.ravel().tolist()])
    ring = factor_graph([2] * 12, {"edge": tables([[i, (i + 1) % 12] for i in range(12)], np.zeros((12, 2, 2)))})
    with pytest.raises(TargetError, match="nowhere in the graph"):
        proposal.moves(ring)
    other = neural_blocks(jax.random.key(0), grid_motif(2, 2), {"cpt": 8, "evidence": 2}, width=8, encoder_width=8)
    with pytest.raises(CheckpointError, match="another version: motif"):
        block_neural.load(WEIGHTS, other)
    saved = block_neural.save(tmp_path / "weights.safetensors", other, {"seed": 0})
    with pytest.raises(CheckpointError, match="another version"):
        proposals.load("grid", weights=saved)
    again = block_neural.load(saved, other)
    np.testing.assert_array_equal(again.network.head.weight, other.network.head.weight)


@pytest.mark.slow
def test_training_learns() -> None:
    draws = random_instances(keep_scores=True)(jax.random.key(1), 32)
    start = neural_blocks(
        jax.random.key(0), grid_motif(3, 3), {"cpt": 8, "evidence": 2}, num_components=4, width=32, encoder_width=32
    )
    fitted = fit(jax.random.key(2), start, loss, draws, num_steps=200, learning_rate=3e-3)
    assert float(inclusive_kl(fitted.module, draws)) < float(inclusive_kl(start, draws)) - 1.0
    with pytest.raises(ArgumentError, match="scores"):
        expected_acceptance(jax.random.key(0), start, random_instances()(jax.random.key(1), 1))


@pytest.mark.slow
def test_exact_marginals_are_those_of_an_enumeration(precision: str) -> None:
    grid = binary_grid(jax.random.key(5), 3, 0.5, leak=0.05)
    graph = grid.graph()
    states = jnp.asarray((np.arange(512)[:, None] >> np.arange(8, -1, -1)) & 1, jnp.int32)
    logs = jax.vmap(graph.log_prob)(states)
    assert float(grid.log_z()) == pytest.approx(float(jax.nn.logsumexp(logs)), abs=1e-4)
    np.testing.assert_allclose(grid.marginals().ravel(), jax.nn.softmax(logs) @ states, atol=1e-4)
    with pytest.raises(ArgumentError, match="too wide"):
        BinaryGrid(jnp.zeros((30, 30, 2, 2, 2)), jnp.zeros((30, 30, 2)), jnp.zeros((30, 30), jnp.int32)).log_z()


def test_forward_draws_follow_the_network() -> None:
    grid = binary_grid(jax.random.key(5), 3, 0.5, leak=0.05, observed=0.0)
    draws = jax.jit(jax.vmap(lambda key: forward(key, grid.log_cpt)))(jax.random.split(jax.random.key(0), 20_000))
    assert_mean(np.asarray(draws), np.asarray(grid.marginals()))


def test_states_start_uniform() -> None:
    graph = binary_grid(jax.random.key(0), 3).graph()
    assert_mean(np.asarray(uniform_states(jax.random.key(0), graph, 5000)), 0.5, num_comparisons=1)
