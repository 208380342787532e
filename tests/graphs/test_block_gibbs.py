"""Block Gibbs moves: exact starts stay exact, the usual mistakes do not, joint draws of states and data agree."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcinfer
from smcinfer.graphs import Blocks, FactorGraph, blocks_of
from smcinfer.graphs.block_exact import exact_blocks, single_sites
from smcinfer.graphs.block_gibbs import BlockGibbs, BlockMoves, adapted_weights, metropolis_ratio
from smcinfer.graphs.block_neural import NeuralBlocks, neural_blocks
from smcinfer.graphs.inference.annealed import annealed
from smcinfer.graphs.inference.chains import block_gibbs
from smcinfer.models.binary_grids import binary_grid, forward, grid_motif, random_evidence
from smcinfer.nn.mixture_density import Mixture
from tests.statistics import assert_chi2, assert_mean, assert_mean_one_log

SIDE = 3
STATES = np.array(list(itertools.product(range(2), repeat=SIDE * SIDE)), np.int32)
NUM = 16_000


@pytest.fixture(scope="module")
def graph() -> FactorGraph:
    """Nine nodes, all 512 states of which can be listed."""
    return binary_grid(jax.random.key(3), SIDE, 0.5, leak=0.1, observed=0.5).graph()


@pytest.fixture(scope="module")
def probabilities(graph: FactorGraph) -> np.ndarray:
    """The law, by enumeration."""
    return np.asarray(jax.nn.softmax(jax.vmap(graph.log_prob)(jnp.asarray(STATES))))


def untrained(graph: FactorGraph) -> NeuralBlocks:
    """A network with random weights, sharpened so that its components differ: exactness must not need a good one."""
    made = neural_blocks(jax.random.key(5), grid_motif(2, 2), {"cpt": 8, "evidence": 2}, num_components=4, width=16)
    sharp = lambda tree: tree.network.head.bias  # noqa: E731
    return eqx.tree_at(sharp, made, 2.0 * made.network.head.bias)


def after(graph: FactorGraph, kernel: BlockGibbs, probabilities: np.ndarray, num_sweeps: int = 2) -> np.ndarray:
    """How often each state is seen after sweeps from exact draws."""
    start = jax.random.choice(jax.random.key(0), len(STATES), (NUM,), p=jnp.asarray(probabilities))

    @jax.jit
    def run(key: Any, x: Any) -> Any:
        keys = jax.random.split(key, num_sweeps)
        return jax.lax.scan(lambda x, key: (kernel.sweep(key, x, graph)[0], None), x, keys)[0]

    x = np.asarray(run(jax.random.key(1), jnp.asarray(STATES)[start]))
    codes = x @ (2 ** np.arange(SIDE * SIDE - 1, -1, -1))
    return np.bincount(codes, minlength=len(STATES))


@pytest.mark.slow
def test_exact_starts_stay_exact(graph: FactorGraph, probabilities: np.ndarray) -> None:
    moves = (untrained(graph).moves(graph), single_sites(graph))
    assert_chi2(after(graph, BlockGibbs(moves, scan="systematic"), probabilities), probabilities)


@pytest.mark.slow
def test_exact_starts_stay_exact_in_a_mixture_with_enumerated_blocks(
    graph: FactorGraph, probabilities: np.ndarray
) -> None:
    blocks = grid_motif(2, 2).find(graph)
    moves = (exact_blocks(graph, blocks), untrained(graph).moves(graph, blocks))
    assert_chi2(after(graph, BlockGibbs(moves, jnp.array([0.3, 0.7])), probabilities), probabilities)


class Averaged(eqx.Module):
    """The mistake: probabilities averaged over components, variable by variable, in place of the mixture's."""

    law: Mixture

    def sample(self, key: Any) -> Any:
        return self.law.sample(key)

    def log_prob(self, values: Any) -> Any:
        weights = jnp.exp(self.law.log_weights)[..., None, None]
        probs = jnp.sum(weights * jnp.exp(self.law.log_probs), axis=-3)
        chosen = jnp.take_along_axis(probs, values[..., None].astype(jnp.int32), axis=-1)[..., 0]
        return jnp.sum(jnp.log(chosen), axis=-1)


class OneComponent(Averaged):
    """The mistake: the density of one component in place of the mixture's."""

    def log_prob(self, values: Any) -> Any:
        return self.law.component_log_probs(values)[..., 0]


class Faulty(NeuralBlocks):
    """A proposal whose density is mistaken."""

    fault: type = eqx.field(static=True, default=Averaged)

    def law(self, prepared: Any, graph: Any, blocks: Blocks, around: Any) -> Any:
        return self.fault(super().law(prepared, graph, blocks, around))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Averaged, OneComponent])
def test_a_mistaken_density_is_caught(graph: FactorGraph, probabilities: np.ndarray, fault: type) -> None:
    right = untrained(graph)
    wrong = Faulty(right.network, right.motif, right.groups, right.featurise, fault)
    counts = after(graph, BlockGibbs((wrong.moves(graph),)), probabilities)
    with pytest.raises(AssertionError, match="do not follow"):
        assert_chi2(counts, probabilities)


def test_a_blanket_touched_by_the_move_is_caught(graph: FactorGraph, probabilities: np.ndarray) -> None:
    # Neighbours moved at once: each reads a blanket that another is writing.
    right = single_sites(graph)
    everything = blocks_of(graph, [(variable,) for variable in graph.free]).rows(jnp.arange(SIDE * SIDE)[None])
    wrong = BlockMoves(everything, right.proposal.prepare(graph, everything), right.proposal)
    counts = after(graph, BlockGibbs((wrong,)), probabilities)
    with pytest.raises(AssertionError, match="do not follow"):
        assert_chi2(counts, probabilities)


@pytest.mark.slow
def test_states_and_data_drawn_in_turn_keep_their_joint_law() -> None:
    # Geweke: x from the prior, then data given x and x given data in turn; x must keep the prior's law.
    grid = binary_grid(jax.random.key(3), SIDE, 0.5, leak=0.1)
    graph = grid.graph()
    prior = np.asarray(jax.nn.softmax(jax.vmap(binary_grid_prior(graph).log_prob)(jnp.asarray(STATES))))
    proposal = untrained(graph)
    moves = proposal.moves(graph)

    def one(key: Any) -> Any:
        start_key, turn_key = jax.random.split(key)
        x = forward(start_key, grid.log_cpt).reshape(-1)

        def turn(x: Any, key: Any) -> tuple[Any, None]:
            data_key, move_key = jax.random.split(key)
            evidence = random_evidence(data_key, x, 0.5, 0.1)
            seen = eqx.tree_at(lambda graph: graph.factors["evidence"].log_tables, graph, evidence)
            return moves.prepare(seen).sweep(move_key, x[None], seen)[0][0], None

        return jax.lax.scan(turn, x, jax.random.split(turn_key, 4))[0]

    x = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 6_000)))
    codes = x @ (2 ** np.arange(SIDE * SIDE - 1, -1, -1))
    assert_chi2(np.bincount(codes, minlength=len(STATES)), prior)


def binary_grid_prior(graph: FactorGraph) -> FactorGraph:
    """The graph without what was seen."""
    nothing = jnp.zeros_like(graph.factors["evidence"].log_tables)
    return eqx.tree_at(lambda graph: graph.factors["evidence"].log_tables, graph, nothing)


def test_ratios_never_accept_what_is_undefined() -> None:
    inf = np.inf
    old = jnp.array([0.0, -inf, -inf, 0.0, 0.0])
    new = jnp.array([-inf, 0.0, -inf, np.nan, 1.0])
    ratio = metropolis_ratio(old, new, jnp.zeros(5), jnp.zeros(5))
    assert ratio.tolist() == [-inf, inf, -inf, -inf, 1.0]


def test_classes_moved_at_once_are_moved_one_after_the_other(graph: FactorGraph) -> None:
    moves = single_sites(graph)
    each = sum(int((np.asarray(moves.blocks.variables)[row, :, 0] < 9).sum()) for row in range(moves.num_classes))
    assert each == 9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["single", "neural"])
def test_annealing_is_unbiased(graph: FactorGraph, kind: str) -> None:
    exact = float(jax.nn.logsumexp(jax.vmap(graph.log_prob)(jnp.asarray(STATES))))
    kernel = None if kind == "single" else BlockGibbs((untrained(graph).moves(graph), single_sites(graph)))
    model = annealed(graph, kernel, schedule=[0.2, 0.5, 1.0])
    result = smcinfer.sample(jax.random.key(0), model, num_particles=16, num_runs=300, progress=False)
    assert_mean_one_log(result.log_z_runs, exact)
    # Forgetting how many states there are would be the usual mistake.
    with pytest.raises(AssertionError):
        assert_mean_one_log(result.log_z_runs - 0.3, exact)


@pytest.mark.slow
def test_adaptive_annealing_finds_log_z() -> None:
    grid = binary_grid(jax.random.key(4), 5, 0.5, leak=0.05)
    graph = grid.graph()
    result = smcinfer.sample(jax.random.key(0), annealed(graph), num_particles=256, num_runs=16, progress=False)
    assert_mean_one_log(result.log_z_runs, float(grid.log_z()))
    assert not result.serious


@pytest.mark.slow
def test_observed_variables_stay(graph: FactorGraph) -> None:
    seen = graph.observe({4: 1})
    chains = block_gibbs(
        jax.random.key(0), seen, num_chains=4000, num_draws=5, num_warmup=20, progress=False, single_site=True
    )
    allowed = STATES[STATES[:, 4] == 1]
    weights = np.asarray(jax.nn.softmax(jax.vmap(graph.log_prob)(jnp.asarray(allowed))))
    expected = np.delete(weights @ allowed, 4)
    assert chains.draws["x"].shape == (4000, 5, 8)
    assert_mean(chains.draws["x"][:, -1], expected)


@pytest.mark.slow
def test_the_front_adapts_and_repeats(graph: FactorGraph, probabilities: np.ndarray) -> None:
    def run() -> smcinfer.Chains:
        return block_gibbs(
            jax.random.key(1), graph, untrained(graph), num_chains=300, num_draws=4, num_warmup=10, progress=False
        )

    chains, again = run(), run()
    np.testing.assert_array_equal(chains.draws["x"], again.draws["x"])
    weights = chains.settings["weights_by_kind"]
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-6)
    assert min(weights.values()) >= 0.05 - 1e-6
    assert set(chains.settings["acceptance_by_kind"]) == {"grid_2x2", "single site"}
    assert_mean(chains.draws["x"][:, -1], probabilities @ STATES)


def test_weights_follow_what_is_earned() -> None:
    np.testing.assert_allclose(adapted_weights([30.0, 10.0], [1.0, 1.0], floor=0.2), [0.7, 0.3])
    np.testing.assert_allclose(adapted_weights([0.0, 0.0], [1.0, 2.0]), [0.5, 0.5])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_chains": 0}, "num_chains"),
        ({"num_warmup": -1}, "num_warmup"),
        ({"proposal": "exact"}, "which blocks"),
        ({"proposal": "best"}, "a way to propose"),
        ({"blocks": [(0, 1)]}, "a way to propose"),
        ({"scan": "greedy"}, "unknown scan"),
        ({"proposal": "exact", "blocks": [(0, 1), (2,)]}, "several sizes"),
        ({"proposal": "exact", "blocks": [(0, 9)]}, "no block of the graph"),
        ({"initial": jnp.zeros((2, 3), jnp.int32)}, "initial"),
    ],
)
def test_settings_that_cannot_be_are_refused(graph: FactorGraph, options: dict[str, Any], words: str) -> None:
    with pytest.raises(smcinfer.ArgumentError, match=words):
        block_gibbs(jax.random.key(0), graph, **({"num_draws": 1, "progress": False} | options))
