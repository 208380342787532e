"""Tagging by a conditional random field: reading, scores, exact chains, training losses, learned blocks."""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from smcinfer import proposals
from smcinfer.graphs import FactorGraph
from smcinfer.graphs.block_gibbs import BlockGibbs
from smcinfer.ground.errors import ArgumentError, CheckpointError
from smcinfer.models import tagging_crf
from smcinfer.models.tagging_crf import chain, features, inference, training
from smcinfer.models.tagging_crf.recipe import TAGS, chain_f1, read
from smcinfer.nn import read_metadata
from smcinfer.proposals import chain_tags
from smcinfer.proposals.chain_tags.instances import draw_instances, expected_acceptance, inclusive_kl, log_score
from smcinfer.proposals.chain_tags.network import TagLaw
from tests.statistics import assert_chi2, assert_mean

WORDS = ("Kim", "saw", "old", "big", "Kim")
CHAINS, SWEEPS = 8000, 4


def random_field(seed: int = 0, tags: tuple[str, ...] = TAGS) -> tagging_crf.TaggingCRF:
    """A field with random weights and strong edges."""
    field = tagging_crf.tagging_crf(tags, features.learn_keys([WORDS], least=1))
    draw = np.random.default_rng(seed)
    values = draw.normal(0, 0.25, field.weights.shape), draw.normal(0, 1.2, field.transition.shape)
    skip = draw.uniform(1.0, 2.5, field.skip.shape)
    arrays = [jnp.asarray(value, field.weights.dtype) for value in (*values, skip)]
    return eqx.tree_at(lambda field: [field.weights, field.transition, field.skip], field, arrays)


def table(field: tagging_crf.TaggingCRF, words: tuple[str, ...]) -> np.ndarray:
    """Log weight of every tagging of a sentence, by the definition: one axis a word."""
    num, rows = len(field.tags), features.rows(words, np.asarray(field.keys))
    weights, step, same = (np.asarray(part, float) for part in (field.weights, field.transition, field.agreement))
    total = np.zeros((num,) * len(words))

    def along(values: np.ndarray, *axes: int) -> np.ndarray:
        return values.reshape([num if axis in axes else 1 for axis in range(len(words))])

    for word in range(len(words)):
        total = total + along(weights[rows[word][rows[word] < len(weights)]].sum(0), word)
    for word in range(len(words) - 1):
        total = total + along(step, word, word + 1)
    for first, second in features.repeated(words):
        total = total + along(same, first, second)
    return total


@functools.cache
def small() -> tuple[FactorGraph, np.ndarray]:
    """A sentence of five words, two of them linked, and the probabilities of all its taggings."""
    field = random_field()
    scores = table(field, WORDS)
    return field.graph([WORDS]), np.exp(scores - logsumexp(scores))


def exact_draws(num: int) -> jax.Array:
    _, probabilities = small()
    cells = np.random.default_rng(1).choice(probabilities.size, num, p=probabilities.ravel())
    return jnp.asarray(np.stack(np.unravel_index(cells, probabilities.shape), axis=1), jnp.int32)


def check_law(x: jax.Array) -> None:
    """Pairs of neighbouring and of linked tags follow the field exactly."""
    _, probabilities = small()
    pairs = ((0, 4), (0, 1), (1, 2), (2, 3), (3, 4))
    for first, second in pairs:
        others = tuple(axis for axis in range(5) if axis not in (first, second))
        cells = np.asarray(x)[:, first] * len(TAGS) + np.asarray(x)[:, second]
        law = probabilities.sum(axis=others).ravel()
        assert_chi2(np.bincount(cells, minlength=law.size), law, num_comparisons=len(pairs))


def learned(*names: str) -> BlockGibbs:
    """Untrained proposals: a bad proposal must be as exact as a good one."""
    graph, _ = small()
    keys = jax.random.split(jax.random.key(3), len(names))
    moves = [
        chain_tags.tag_blocks(key, chain_tags.MOTIFS[name]).moves(graph) for key, name in zip(keys, names, strict=True)
    ]
    return BlockGibbs(tuple(moves), scan="systematic")


def moved(kernel: BlockGibbs) -> tuple[jax.Array, np.ndarray]:
    """Exact draws some sweeps later, and the acceptance of each kind."""
    graph, _ = small()
    x, _, info = inference.sweeps(jax.random.key(4), graph, kernel, exact_draws(CHAINS), jnp.asarray(SWEEPS))
    return x, np.asarray(info.acceptance / info.proposed)


def test_reads_words_and_tags(tmp_path: Path) -> None:
    path = tmp_path / "some.conll"
    path.write_text("Ann\tB-person\nLee\tI-person\nran\tO\n\t\n\nto\tO\tO\nRome\tB-location\n", encoding="utf8")
    sentences = tagging_crf.read_conll(path)
    assert [len(sentence.words) for sentence in sentences] == [3, 2]
    assert tagging_crf.spans(sentences[0].tags) == [(0, 2, "person")]
    path.write_text("Ann\n", encoding="utf8")
    with pytest.raises(ArgumentError, match="has no tag"):
        tagging_crf.read_conll(path)
    with pytest.raises(ArgumentError, match="no file"):
        tagging_crf.read_conll(tmp_path / "absent")


def test_spans_and_their_score() -> None:
    assert tagging_crf.spans(["I-a", "I-a", "B-a", "O", "B-b", "I-a"]) == [
        (0, 2, "a"),
        (2, 3, "a"),
        (4, 5, "b"),
        (5, 6, "a"),
    ]
    truth = [["B-a", "I-a", "O"], ["B-b"]]
    assert tagging_crf.entity_f1(truth, truth) == 1.0
    # One of two right, one guess wrong by its end: F1 is two hits over two guesses and two entities.
    assert tagging_crf.entity_f1([["B-a", "O", "O"], ["B-b"]], truth) == 0.5


def test_features_are_stable_and_repeated_words_are_linked() -> None:
    assert features.short_shape("McDonald-42") == "XxXx-0"
    keys = features.learn_keys([WORDS, ("Kim",)], least=2)
    assert (np.diff(keys.astype(int)) > 0).all() and np.uint32(features.key("0=Kim")) in keys
    # What was seen once has no weight; what every word has comes last.
    rows = features.rows(("saw", "Kim"), keys)
    assert rows.shape == (2, features.NUM_FEATURES) and rows[0, 0] == len(keys) > rows[1, 0]
    assert keys[rows[0, -1]] == features.key(features.ALWAYS)
    assert features.repeated(("Kim", "a", "a", "Kim", "I", "I", "Kim")) == [(0, 3), (3, 6)]


def test_chain_is_summed_exactly(x64: None) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    unary, step = jax.random.normal(keys[0], (4, 3)), jax.random.normal(keys[1], (3, 3))
    there = jnp.array([True, True, True, False])
    every = np.array(list(itertools.product(range(3), repeat=3)))
    logs = np.asarray(unary)[range(3), every].sum(1) + np.asarray(step)[every[:, :-1], every[:, 1:]].sum(1)
    np.testing.assert_allclose(chain.log_z(unary, step, there), logsumexp(logs), rtol=1e-5)
    expected = [[np.exp(logs - logsumexp(logs))[every[:, t] == tag].sum() for tag in range(3)] for t in range(3)]
    np.testing.assert_allclose(chain.marginals(unary, step, there)[:3], expected, atol=1e-5)
    score = chain.score(unary, step, there, jnp.array([2, 0, 1, 0]))
    np.testing.assert_allclose(score, logs[(every == [2, 0, 1]).all(1)][0], rtol=1e-5)


def test_chain_draws_are_exact() -> None:
    unary, step = jax.random.normal(jax.random.key(0), (3, 3)), jax.random.normal(jax.random.key(1), (3, 3))
    draws = jax.jit(jax.vmap(lambda key: chain.draw(key, unary, step)))(jax.random.split(jax.random.key(2), 5000))
    every = np.array(list(itertools.product(range(3), repeat=3)))
    logs = np.asarray(unary)[range(3), every].sum(1) + np.asarray(step)[every[:, :-1], every[:, 1:]].sum(1)
    assert_chi2(np.bincount(np.asarray(draws) @ [9, 3, 1], minlength=27), np.exp(logs))


@pytest.mark.slow
def test_graph_is_the_field(x64: None) -> None:
    field = random_field(tags=TAGS[:5])
    scores = table(field, WORDS)
    graph = field.graph([("old", "Kim"), WORDS])
    rest = table(field, ("old", "Kim"))
    for tags in ([0, 1, 2, 3, 4], [3, 0, 4, 4, 3]):
        value = graph.log_prob(jnp.array([2, 1, *tags]))
        np.testing.assert_allclose(value, scores[tuple(tags)] + rest[2, 1], rtol=1e-10)
    assert inference.linked_words(graph).tolist() == [2, 6]


def test_pseudo_likelihood_is_that_of_the_graph(x64: None) -> None:
    field = random_field(tags=TAGS[:5])
    sentences = [
        tagging_crf.Sentence(WORDS, tuple(TAGS[tag] for tag in (3, 0, 2, 4, 1))),
        tagging_crf.Sentence(("Kim", "Kim"), ("B-corporation", "O")),
    ]
    expected = []
    for sentence in sentences:
        scores, at = table(field, sentence.words), [field.tags.index(tag) for tag in sentence.tags]
        for word in sorted({end for pair in features.repeated(sentence.words) for end in pair}):
            line = scores[tuple(slice(None) if axis == word else tag for axis, tag in enumerate(at))]
            expected.append(line[at[word]] - logsumexp(line))
    np.testing.assert_allclose(training.skip_loss(field, field.batch(sentences)), -np.mean(expected), rtol=1e-10)


@pytest.mark.slow
def test_training_finds_what_the_words_say() -> None:
    sentences = [
        tagging_crf.Sentence(("the", "Zed", "ran"), ("O", "B-a", "O")),
        tagging_crf.Sentence(("ran", "Zed"), ("O", "B-a")),
    ]
    field = tagging_crf.tagging_crf(("O", "B-a", "I-a"), features.learn_keys([one.words for one in sentences], least=1))
    batch = field.batch(sentences)
    trained = training.train_chain(field, batch, prior=0.01)
    assert chain_f1(trained, sentences) == 1.0
    # At the optimum the expected number of every tag differs from the counted one by what the prior pulls, no more.
    slope = eqx.filter_grad(training.chain_loss)(trained, batch)
    np.testing.assert_allclose(slope.weights * len(sentences), -0.01 * trained.weights, atol=2e-4)
    np.testing.assert_allclose(slope.transition * len(sentences), -0.01 * trained.transition, atol=2e-4)
    # Disfavoured enough, no entity is no longer found anywhere.
    assert chain_f1(training.outside_disfavoured(trained, -20.0), sentences) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("names", [("chain_2", "skip"), pytest.param(("chain_3",), marks=pytest.mark.slow)])
def test_learned_blocks_leave_the_field_invariant(names: tuple[str, ...]) -> None:
    x, acceptance = moved(learned(*names))
    assert (acceptance > 0.02).all() and (acceptance < 0.98).all()
    check_law(x)


@pytest.mark.slow
def test_single_sites_and_exact_runs_leave_the_field_invariant() -> None:
    graph, _ = small()
    kernel = inference.tag_kernel(graph, inference.exact_runs(graph, [WORDS], 2))
    check_law(moved(kernel)[0])


def log_pieces(self: TagLaw, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log weight of every component, and log probability of the values under each."""
    chances = jnp.exp(self.local)[..., None, :, :] * self.pieces
    masses = chances.sum(-1)
    own = jnp.take_along_axis(chances, values[..., None, :, None], axis=-1)[..., 0]
    return jax.nn.log_softmax(jnp.log(masses).sum(-1)), (jnp.log(own) - jnp.log(masses)).sum(-1)


def component_density(self: TagLaw, values: jax.Array) -> jax.Array:
    return jnp.max(sum(log_pieces(self, values)), axis=-1)


def averaged_log(self: TagLaw, values: jax.Array) -> jax.Array:
    weights, logs = log_pieces(self, values)
    return jnp.sum(jnp.exp(weights) * logs, axis=-1)


@pytest.mark.slow
def test_density_of_a_law_is_that_of_its_draws() -> None:
    """Both where tables are shared and where they are not; and the mixture is what its components say."""
    key = jax.random.key(0)
    pieces = jnp.exp(jax.random.normal(key, (2, 5, 2, 3)))
    local = jax.random.normal(jax.random.key(1), (2, 2, 3))
    every = jnp.asarray(list(itertools.product(range(3), repeat=2)))
    for law in (TagLaw(pieces, local), TagLaw(pieces[:1], local[:1])):
        laws = TagLaw(law.pieces, jnp.broadcast_to(law.local, (9, *law.local.shape)))
        logs = laws.log_prob(jnp.broadcast_to(every[:, None], (9, law.local.shape[0], 2)))
        np.testing.assert_allclose(jnp.exp(logs).sum(0), 1.0, rtol=1e-5)
        values = jnp.broadcast_to(every[4], (law.local.shape[0], 2))
        np.testing.assert_allclose(
            law.log_prob(values), jax.nn.logsumexp(sum(log_pieces(law, values)), axis=-1), rtol=1e-5
        )
        many = TagLaw(law.pieces, jnp.broadcast_to(law.local, (4000, *law.local.shape))).sample(jax.random.key(2))
        for block in range(law.local.shape[0]):
            counts = np.bincount(np.asarray(many)[:, block] @ [3, 1], minlength=9)
            assert_chi2(counts, np.exp(logs)[:, block], num_comparisons=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(component_density, id="component_density"),
        pytest.param(averaged_log, id="averaged_log", marks=pytest.mark.slow),
    ],
)
def test_wrong_proposal_density_is_caught(fault: Callable[..., Any], mistaken: pytest.MonkeyPatch) -> None:
    mistaken.setattr(TagLaw, "log_prob", fault)
    with pytest.raises(AssertionError):
        check_law(moved(learned("chain_2", "skip"))[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain_2", "skip"])
def test_training_instances_are_exact_draws(name: str) -> None:
    """The block's probability under its own conditional law, enumerated: its mean is what the law says."""
    proposal = chain_tags.tag_blocks(jax.random.key(0), chain_tags.MOTIFS[name])
    drawn = eqx.filter_jit(draw_instances)(jax.random.key(1), proposal, 3000)
    every = jnp.asarray(list(itertools.product(range(13), repeat=2)))
    scores = jax.vmap(lambda block: log_score(drawn, jnp.broadcast_to(block, drawn.block.shape)))(every).T
    law = np.asarray(jax.nn.softmax(scores, axis=1))
    cell = np.asarray(drawn.block) @ [13, 1]
    own = law[np.arange(3000), cell]
    assert_mean(own - (law**2).sum(1), 0.0)
    for place, stride in ((0, 13), (1, 1)):
        outside = law.reshape(-1, 13, 13).sum(2 - place)[:, 0]
        assert_mean((cell // stride % 13 == 0) - outside, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["chain_2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("chain_3", "chain_4", "skip"))]
)
def test_trained_proposals_beat_the_untrained(name: str) -> None:
    trained, start = (
        proposals.load("chain_tags", motif=name),
        chain_tags.tag_blocks(jax.random.key(0), chain_tags.MOTIFS[name]),
    )
    drawn = eqx.filter_jit(draw_instances)(jax.random.key(1), start, 500)
    score = eqx.filter_jit(lambda net: (inclusive_kl(net, drawn), expected_acceptance(jax.random.key(2), net, drawn)))
    (loss, acceptance), (loss_before, acceptance_before) = score(trained), score(start)
    assert loss < loss_before - 0.02 and acceptance > acceptance_before + 0.02


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no such motif"):
        chain_tags.load("ring")
    with pytest.raises(CheckpointError, match="another motif"):
        chain_tags.load("chain_3", chain_tags.weights_of("chain_2"))
    with pytest.raises(ArgumentError, match="BIO"):
        tagging_crf.tagging_crf(("B-a", "O"), np.zeros(1, np.uint32))
    with pytest.raises(ArgumentError, match="no features"):
        tagging_crf.tagging_crf(("O", "B-a"), np.zeros(0, np.uint32))
    with pytest.raises(ArgumentError, match="does not know a tag"):
        random_field().batch([tagging_crf.Sentence(("a",), ("B-animal",))])
    graph, _ = small()
    with pytest.raises(ArgumentError, match="observed"):
        chain_tags.MOTIFS["chain_2"].match(graph.observe({2: 0}), [(1, 2)])


@pytest.mark.slow
def test_tag_by_blocks_agrees_with_the_exact_marginals() -> None:
    graph, probabilities = small()
    kernel = inference.tag_kernel(graph)
    found = [
        inference.tag(key, graph, kernel, num_sweeps=100, num_chains=16)
        for key in jax.random.split(jax.random.key(0), 12)
    ]
    exact = [probabilities.sum(axis=tuple(axis for axis in range(5) if axis != word)) for word in range(5)]
    # What is left of the start after half of the sweeps.
    assert_mean(np.stack([tagged.marginals[:5] for tagged in found]), exact, bias=0.01)


@pytest.mark.slow
def test_trained_field_finds_entities(shared_data: Path) -> None:
    sets = read(shared_data / "ner" / "wnut17")
    field = tagging_crf.load()
    card = read_metadata(tagging_crf.WEIGHTS)
    np.testing.assert_allclose(chain_f1(field, sets["test"]), card["chain_f1_test"], atol=0.01)
