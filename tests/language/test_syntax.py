"""Syntactic control against enumeration: a table of words, a random tagger, every sentence of a tree's length."""

import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.enumerable import TableLM, table_lm
from smcinfer.language.syntax.features import WordFeatures
from smcinfer.language.syntax.pos_gram import PosGram, pos_gram
from smcinfer.language.syntax.proposals import TreeProposal
from smcinfer.language.syntax.tagger import Tagger, TaggerSizes, build
from smcinfer.language.syntax.tagset import tagset
from smcinfer.language.syntax.target import syntax_generation
from smcinfer.language.syntax.tetra import encode
from smcinfer.language.syntax.trees import Tree, parse
from tests.statistics import assert_mean_one_log

WORDS = ("</s>", "cats", "the", "slept")
EOS = 0
TREE = parse("(S (NP (DT the) (NNS cats)) (VP (VBD slept) (NP (NNS cats))))")
TRAINING = [TREE, parse("(S (NP (NNS cats)) (VP (VBD slept)))"), parse("(NP (DT the) (NP (DT the) (NNS cats)))")]


class WordTable(NamedTuple):
    """A model of four words, as `syntax_generation` takes it."""

    lm: TableLM
    words: tuple[str, ...] = WORDS
    bos_id: int = EOS
    eos_id: int = EOS


def tiny_model() -> WordTable:
    """Any word after any two words; EOS about one time in four."""
    return WordTable(table_lm(jax.random.key(1), len(WORDS), order=2))


def tiny_tagger() -> Tagger:
    """A random tagger that has opinions: its heads are scaled up."""
    tags = tagset(TRAINING, min_count=1)
    made = build(jax.random.key(2), tags, WordFeatures(WORDS[1:]), TaggerSizes(6, 5, 5, 6, 0.0))
    return jax.tree.map(lambda leaf: 2.5 * leaf if eqx.is_inexact_array(leaf) else leaf, made)


def gram() -> PosGram:
    """Parts of speech of the three words."""
    return pos_gram(TRAINING, WORDS)


class Exact(NamedTuple):
    """Log p0, log phi and log psi_t of every sentence of the tree's length."""

    sentences: np.ndarray
    log_p: np.ndarray
    log_phi: np.ndarray

    @property
    def log_z(self) -> float:
        """log of the sum over sentences of p0 phi."""
        return float(np.logaddexp.reduce(self.log_p + self.log_phi))

    @property
    def posterior(self) -> np.ndarray:
        """Probability of each sentence."""
        return np.exp(self.log_p + self.log_phi - self.log_z)


def enumerated(tree: Tree, model: WordTable, tagger: Tagger, parts_of_speech: bool = True) -> Exact:
    """By plain sums over the model's own `forward` and the tagger's reading of each sentence."""
    size = len(tree.leaves())
    sentences = np.array(list(itertools.product(range(1, len(WORDS)), repeat=size)))
    tags, pos = tagger.tags.ids(encode(tree)), tagger.tags.pos_ids(tree)

    def log_p(words: Any) -> Any:
        read = jnp.concatenate([jnp.array([EOS]), words])
        said = jax.nn.log_softmax(model.lm.forward(read).logits)
        asked = jnp.concatenate([words, jnp.array([EOS])])
        return said[jnp.arange(size + 1), asked].sum()

    def log_phi(words: Any) -> Any:
        vectors = tagger.vectors(jnp.asarray(tagger.features(WORDS)))[words]
        place = jnp.arange(size)
        found = tagger.bidirectional(vectors, place == 0, place == size - 1)
        asked = found.leaf[place, tags[0]].sum() + found.internal[place[1:], tags[1]].sum()
        return asked + (found.pos[place, pos].sum() if parts_of_speech else 0.0)

    values = [
        np.asarray(jax.jit(jax.vmap(function))(jnp.asarray(sentences)), np.float64) for function in (log_p, log_phi)
    ]
    return Exact(sentences, *values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("proposal", "causal", "strength", "pos"),
    [
        ("lm", False, 1.0, False),
        ("mixture", True, 1.0, True),
        ("tried", True, 1.5, True),
        # What these two do, the last does too, and the causal twist with it.
        pytest.param("lm", True, 1.0, True, marks=pytest.mark.slow),
        pytest.param("product", True, 1.5, False, marks=pytest.mark.slow),
    ],
)
def test_log_z_and_sentences_agree_with_enumeration(proposal: str, causal: bool, strength: float, pos: bool) -> None:
    model, tagger = tiny_model(), tiny_tagger()
    exact = enumerated(TREE, model, tagger, pos)
    exact = exact._replace(log_phi=strength * exact.log_phi)
    target = syntax_generation(
        model,
        TREE,
        tagger,
        causal=causal,
        strength=strength,
        parts_of_speech=pos,
        proposal=proposal,
        gram=gram(),
        share=0.4,
        max_words=5,
    )
    result = smcinfer.sample(jax.random.key(3), target, num_particles=16, num_runs=1000, progress=False)
    assert_mean_one_log(result.log_z_runs, exact.log_z)
    # Z_hat times the weight of a sentence is unbiased for p0 phi of it, sentence by sentence.
    mass = sentence_mass(result, exact)
    wanted = np.exp(exact.log_p + exact.log_phi)
    common = wanted > 0.04 * wanted.sum()
    with np.errstate(divide="ignore"):
        assert_mean_one_log(np.log(mass[:, common]), np.log(wanted[common]))


class Unweighted(TreeProposal):
    """A proposal that forgets to weigh its draws."""

    def propose(self, key: Any, t: Any, states: Any, size: int) -> tuple[Any, Any]:
        """Draws, all of weight one."""
        tokens, log_w = super().propose(key, t, states, size)
        return tokens, jnp.where(log_w == -jnp.inf, log_w, 0.0)


@pytest.mark.slow
def test_a_proposal_that_forgets_its_weights_is_caught() -> None:
    model, tagger = tiny_model(), tiny_tagger()
    exact = enumerated(TREE, model, tagger)
    right = syntax_generation(model, TREE, tagger, proposal="mixture", gram=gram(), share=0.4, max_words=5)
    made: Any = right.proposal
    wrong = Unweighted(made.process, made.num_words, made.helper, made.share)
    target = right.with_twist(right.twist, wrong)
    result = smcinfer.sample(jax.random.key(3), target, num_particles=16, num_runs=1000, progress=False)
    with pytest.raises(AssertionError):
        assert_mean_one_log(result.log_z_runs, exact.log_z)


@pytest.mark.slow
def test_the_causal_reading_is_the_same_word_by_word_and_at_once() -> None:
    tagger = tiny_tagger()
    vectors = tagger.vectors(jnp.asarray(tagger.features(["the", "cats", "slept", "the"])))
    at_once = tagger.causal(vectors, jnp.arange(4) == 0)
    memory = tagger.causal.start()
    for place, vector in enumerate(vectors):
        tags, memory = tagger.causal.step(memory, vector)
        np.testing.assert_allclose(tags.leaf, at_once.leaf[place], rtol=1e-5, atol=1e-5)
        if place:
            np.testing.assert_allclose(tags.internal, at_once.internal[place], rtol=1e-5, atol=1e-5)


def test_sentences_that_share_a_row_do_not_see_each_other() -> None:
    tagger = tiny_tagger()
    first, second = (
        tagger.vectors(jnp.asarray(tagger.features(words))) for words in (["the", "cats"], ["cats", "slept"])
    )
    ends = jnp.array([True, False, True, False]), jnp.array([False, True, False, True])
    together = tagger.bidirectional(jnp.concatenate([first, second]), *ends)
    alone = tagger.bidirectional(second, ends[0][:2], ends[1][:2])
    np.testing.assert_allclose(together.leaf[2:], alone.leaf, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together.internal[3], alone.internal[1], rtol=1e-5, atol=1e-6)


def test_a_tagger_parses_what_its_tags_say() -> None:
    tagger = tiny_tagger()
    tree = tagger.parse(["the", "cats", "slept"])
    assert tree.words() == ["the", "cats", "slept"]
    assert {leaf.label for leaf in tree.leaves()} <= set(tagger.tags.pos)


def test_parts_of_speech_of_words_seen_and_unseen() -> None:
    trees = [parse("(S (NP (NNS dogs) (NNS cats)) (VP (VBD jumped) (RB slowly)))")] * 4
    found = pos_gram(trees, ["dogs", "frogs", "hopped", "xyz"])
    names = np.array(found.names)
    shares = np.exp(np.asarray(found.pos, np.float64))
    np.testing.assert_allclose(shares[1:].sum(axis=0), 1.0, rtol=1e-5)
    assert names[1 + shares[1:].argmax(axis=0)][:3].tolist() == ["NNS", "NNS", "VBD"]
    assert found.ids(parse("(S (NNS a) (QQ b))")) == [found.names.index("NNS"), 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_words": 3}, "too many leaves"),
        ({"proposal": "best"}, "unknown proposal"),
        ({"proposal": "mixture", "gram": None}, "needs parts of speech"),
        ({"proposal": "tried", "causal": False}, "needs the causal reading"),
        ({"share": 1.0}, "share is out of range"),
        ({"strength": 0.0}, "strength is out of range"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        syntax_generation(tiny_model(), TREE, tiny_tagger(), **({"gram": gram()} | options))


def test_a_model_of_no_words_is_refused() -> None:
    model = tiny_model()._replace(words=("a", "b"))
    with pytest.raises(ArgumentError, match="no model of words"):
        syntax_generation(model, TREE, tiny_tagger(), proposal="lm")


def sentence_mass(result: Any, exact: Exact) -> np.ndarray:
    """Of each run, Z_hat times the normalised weight of each sentence."""
    size = exact.sentences.shape[1]
    code = (len(WORDS) ** np.arange(size)).astype(int)
    tokens = np.asarray(result.particles["tokens"])
    assert (tokens[..., size] == EOS).all()
    found = tokens[..., :size] @ code
    weights = np.exp(np.asarray(result.log_weights, np.float64) + np.asarray(result.log_z_runs, np.float64)[:, None])
    return np.stack([(weights * (found == name)).sum(axis=1) for name in exact.sentences @ code], axis=1)
