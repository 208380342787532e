"""Gibbs over segments, the next byte, and attribute tokens, each against the sum over all strings."""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.language import generation, table_lm
from smcinfer.language.decoding.cascade import cascade
from smcinfer.language.decoding.next_byte import END, next_byte
from smcinfer.language.decoding.segment_gibbs import SegmentGibbs, segment_gibbs
from smcinfer.language.proposals.attribute import attribute_tokens
from smcinfer.language.proposals.filtered import filtered
from smcinfer.run.runner import run
from tests.exact_language import EOS, LENGTH, PROMPT, VOCAB, small_lm, string_score, strings, terminal_score
from tests.statistics import assert_chi2, assert_mean, assert_within

GIVEN = ((3, 1), 2, (4,), 1, (0, 2))
"""Parts of the text: two free segments, of two tokens and of one."""
SPANS = ((2, 4), (5, 6))
TEMPLATE = np.array([3, 1, 0, 0, 4, 0, 0, 2])


def reward(tokens: jax.Array) -> jax.Array:
    return 0.8 * jnp.sum(tokens == 2).astype(jnp.result_type(float))


def all_texts() -> tuple[np.ndarray, np.ndarray]:
    """Every text with its probability, by a loop over the table."""
    table = np.asarray(small_lm().table, np.float64)
    log_p = table - np.logaddexp.reduce(table, axis=1, keepdims=True)
    texts = np.repeat(TEMPLATE[None], VOCAB**3, axis=0)
    texts[:, [2, 3, 5]] = list(itertools.product(range(VOCAB), repeat=3))
    log_joint = np.zeros(len(texts))
    for row, text in enumerate(texts):
        log_joint[row] = 0.8 * (text == 2).sum()
        log_joint[row] += sum(log_p[text[i - 2] * (VOCAB + 1) + text[i - 1], text[i]] for i in range(2, len(text)))
    return texts, np.exp(log_joint - np.logaddexp.reduce(log_joint))


def sweep_once(kind: type[SegmentGibbs], count: int) -> np.ndarray:
    """How often each text is met one sweep after an exact start."""
    texts, law = all_texts()
    start = texts[np.random.default_rng(0).choice(len(texts), size=count, p=law)]
    sampler = kind(small_lm(), reward, jnp.asarray(TEMPLATE, jnp.int32), SPANS, 4)
    keys = jax.random.split(jax.random.key(1), count)
    step = jax.jit(jax.vmap(lambda key, text: sampler.step(key, text, None)[0]))
    after = np.asarray(step(keys, jnp.asarray(start, jnp.int32)))
    codes = after[:, 2] * VOCAB**2 + after[:, 3] * VOCAB + after[:, 5]
    return np.bincount(codes, minlength=len(texts))


def test_a_sweep_keeps_the_law(x64: None) -> None:
    _, law = all_texts()
    assert_chi2(sweep_once(SegmentGibbs, 20_000), law)


def test_a_sweep_that_forgets_what_follows_is_caught(x64: None) -> None:
    class Forgetful(SegmentGibbs):
        def log_tail(self, tokens: Any, start: int) -> Any:
            return self.log_potential(tokens)

    _, law = all_texts()
    with pytest.raises(AssertionError):
        assert_chi2(sweep_once(Forgetful, 20_000), law)


@pytest.mark.slow
def test_chains_end_in_the_law_and_keep_what_is_given(x64: None, tmp_path: Path) -> None:
    texts, law = all_texts()
    options: dict[str, Any] = {
        "num_draws": 10,
        "num_warmup": 30,
        "num_chains": 500,
        "num_candidates": 8,
        "progress": False,
    }
    chains = segment_gibbs(jax.random.key(0), small_lm(), GIVEN, reward, **options)
    tokens = chains.draws["tokens"]
    assert tokens.shape == (500, 10, 8)
    assert (tokens[..., [0, 1, 4, 6, 7]] == TEMPLATE[[0, 1, 4, 6, 7]]).all()
    expected = (law[:, None] * (texts == 2)).sum(0)[[2, 3, 5]]
    assert_mean((tokens[:, -1] == 2)[:, 2], expected[0])
    assert_mean((tokens[:, -1] == 2)[:, 5], expected[2])
    assert "2 segments: 500 chains, 10 draws" in str(chains) and min(chains.settings["moved"]) > 0.2
    with pytest.raises(ArgumentError, match="without a tokenizer"):
        chains.texts()
    again = segment_gibbs(jax.random.key(0), small_lm(), GIVEN, reward, checkpoint=tmp_path / "run.ckpt", **options)
    np.testing.assert_array_equal(again.draws["tokens"], tokens)


WORDS = [b"", b"a", b"b", b"ab", b"ba"]


def text_probability(text: bytes) -> float:
    """P(text begins so), by trying all token strings of enough tokens."""
    table = np.asarray(small_lm().table, np.float64)
    p = np.exp(table - np.logaddexp.reduce(table, axis=1, keepdims=True))
    total = 0.0
    front = [(PROMPT, b"", 1.0)]
    while front:
        context, written, mass = front.pop()
        for token in range(1, VOCAB):
            after, q = written + WORDS[token], mass * p[context[0] * (VOCAB + 1) + context[1], token]
            if after.startswith(text):
                total += q
            elif text.startswith(after):
                front.append(((context[1], token), after, q))
    return total


def test_the_next_byte_is_a_sum_over_coverings(x64: None) -> None:
    found = next_byte(small_lm(), b"abba", prompt=PROMPT, vocabulary=WORDS, eos_id=EOS)
    whole = text_probability(b"abba")
    np.testing.assert_allclose(np.exp(found.log_text), whole, rtol=1e-9)
    for byte in b"ab":
        share = text_probability(b"abba" + bytes([byte])) / whole
        np.testing.assert_allclose(np.exp(found.log_probabilities[byte]), share, rtol=1e-9)
    np.testing.assert_allclose(np.exp(found.log_probabilities).sum(), 1.0, rtol=1e-9)
    assert found.left_out == 0 and found.log_probabilities[END] > -np.inf and "coverings" in str(found)


def test_several_tokens_that_end_a_text_are_one_end(x64: None) -> None:
    table = np.asarray(small_lm().table, np.float64)[PROMPT[-2] * (VOCAB + 1) + PROMPT[-1]]
    law = np.exp(table - np.logaddexp.reduce(table))
    found = np.exp(next_byte(small_lm(), b"", prompt=PROMPT, vocabulary=WORDS, eos_id=(EOS, 2)).log_probabilities)
    np.testing.assert_allclose(found[END], law[EOS] + law[2], rtol=1e-9)
    np.testing.assert_allclose(
        found[WORDS[2][0]], sum(law[v] for v in (1, 3, 4) if WORDS[v][0] == WORDS[2][0]), rtol=1e-9
    )


def test_pruned_coverings_are_reported(x64: None) -> None:
    pruned = next_byte(small_lm(), b"abbaab", prompt=PROMPT, vocabulary=WORDS, eos_id=EOS, num_beams=1)
    whole = next_byte(small_lm(), b"abbaab", prompt=PROMPT, vocabulary=WORDS, eos_id=EOS)
    missing = 1 - np.exp(pruned.log_text - whole.log_text)
    assert 0 < missing <= pruned.left_out < 1


def test_one_cut_into_tokens_is_biased(x64: None) -> None:
    """The negative control: the greedy cut (ab, ba) and its next token alone give another law."""
    table = np.asarray(small_lm().table, np.float64)[3 * (VOCAB + 1) + 4]
    naive = np.exp(table - np.logaddexp.reduce(table))
    exact = np.exp(next_byte(small_lm(), b"abba", prompt=PROMPT, vocabulary=WORDS, eos_id=EOS).log_probabilities)
    assert abs(naive[1] + naive[3] - exact[ord("a")]) > 0.02


@pytest.mark.slow
def test_attribute_tokens_come_more_often_and_the_weight_takes_it_back(x64: None) -> None:
    law = jax.nn.softmax(jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05])))
    steered = jax.nn.softmax(attribute_tokens([2, 3], 0.3)(jnp.log(law)))
    np.testing.assert_allclose(steered[2:].sum(), 0.2 ** np.tan(np.pi * 0.15), rtol=1e-6)
    np.testing.assert_allclose(steered[2] / steered[3], 3.0, rtol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(attribute_tokens([2, 3], 0.5)(jnp.log(law))), law, rtol=1e-6)
    exact = strings(string_score)
    model = generation(
        small_lm(),
        PROMPT,
        lambda t, state: jnp.where(state.just_ended(t), terminal_score(state), 0.0),
        max_tokens=LENGTH,
        eos_id=EOS,
        proposal=filtered(attribute_tokens([2], 0.35)),
    )
    done = run(jax.random.key(0), model, 16, num_runs=256)
    assert_mean(np.exp(np.asarray(done.log_z) - exact.log_z), 1.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: segment_gibbs(jax.random.key(0), small_lm(), [(1, 2)]), "nothing is free"),
        (lambda: segment_gibbs(jax.random.key(0), small_lm(), [2, (1,)]), "something before it"),
        (lambda: segment_gibbs(jax.random.key(0), small_lm(), [(9,), 2]), "does not know"),
        (lambda: segment_gibbs(jax.random.key(0), small_lm(), ["a", 2]), "no tokenizer"),
        (lambda: segment_gibbs(jax.random.key(0), small_lm(), [(1,), 2], num_candidates=1), "num_candidates"),
        (lambda: next_byte(small_lm(), b"xyz", prompt=PROMPT, vocabulary=WORDS, eos_id=EOS), "no tokens spell"),
        (lambda: next_byte(small_lm(), b"a", vocabulary=WORDS, eos_id=EOS), "nothing to read"),
        (lambda: attribute_tokens([], 0.3), "at least one"),
        (lambda: attribute_tokens([1], 1.0), "gamma"),
    ],
)
def test_bad_input_says_what_is_wrong(make: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


def test_a_potential_that_is_no_number_is_named() -> None:
    with pytest.raises(TargetError, match="scalar"):
        segment_gibbs(jax.random.key(0), table_lm(jax.random.key(0)), [(1,), 2], lambda tokens: tokens)


def score_so_far(tokens: jax.Array, length: jax.Array) -> jax.Array:
    """A reward of text under way: neighbours that are equal, and how many twos."""
    here = jnp.arange(LENGTH) < length
    return 1.5 * jnp.sum(here & (tokens == 2)).astype(jnp.result_type(float))


@pytest.mark.slow
def test_segments_kept_by_rejection_are_weighed_right(x64: None) -> None:
    exact = strings(lambda string: 1.5 * string.count(2))
    options: dict[str, Any] = {
        "max_tokens": LENGTH, "num_texts": 4000, "level": 4.0, "entropy": 1.3, "max_tries": 2000, "eos_id": EOS
    }  # fmt: skip
    grown = cascade(jax.random.key(0), small_lm(), PROMPT, score_so_far, **options)
    assert grown.log_weights is not None and not grown.biased
    assert "exp(reward / temperature)" in grown.weighted_for
    assert_within(grown.log_z, exact.log_z, grown.log_z_se)
    weights = np.exp(grown.log_weights - exact.log_z)
    assert_mean(weights, 1.0)
    twos = (grown.tokens == 2).sum(1)
    assert_mean(weights * twos, float((exact.probabilities * (exact.strings == 2).sum(1)).sum()))
    # Control: the rejection alone, unweighted, says something else, and says so.
    plain = cascade(jax.random.key(1), small_lm(), PROMPT, score_so_far, corrected=False, **options)
    assert plain.biased and "BIASED" in str(plain) and plain.num_rewards < grown.num_rewards
    with pytest.raises(AssertionError):
        assert_mean((plain.tokens == 2).sum(1), float((exact.probabilities * (exact.strings == 2).sum(1)).sum()))
    with pytest.raises(ArgumentError, match="no weights"):
        _ = plain.log_z


def test_a_segment_that_is_never_good_enough_is_reported() -> None:
    grown = cascade(
        jax.random.key(0),
        small_lm(),
        PROMPT,
        score_so_far,
        max_tokens=LENGTH,
        num_texts=4,
        level=500.0,
        max_tries=2,
        eos_id=EOS,
    )
    assert grown.gave_up == 1.0 and grown.biased and "too many rejects" in str(grown)
