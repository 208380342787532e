"""Filters as proposals: each is proper for the model restricted to what it keeps, and a second model for the first."""

import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.core.conditional import condition
from smcinfer.ground.errors import ArgumentError
from smcinfer.language import Generation, generation, table_lm, terminal
from smcinfer.language import exact as language_exact
from smcinfer.language.proposals.companion import COMPANION, companion, second_model
from smcinfer.language.proposals.filtered import FilteredProposal, filtered
from smcinfer.language.proposals.filters import (
    Chain,
    Epsilon,
    Eta,
    Filter,
    MinP,
    Nucleus,
    TailFree,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    Typical,
    by_name,
)
from smcinfer.run.runner import run
from tests import exact_language as exact
from tests.statistics import assert_mean_one_log

NUM_PARTICLES, NUM_RUNS = 16, 1500


def smallest_set(p: np.ndarray, order: np.ndarray, mass: float) -> np.ndarray:
    """Tokens in an order until they have the mass."""
    kept, total = np.zeros(len(p), bool), 0.0
    for token in order:
        if total >= mass:
            break
        kept[token], total = True, total + p[token]
    return kept


def entropy(p: np.ndarray) -> float:
    """Nats."""
    return float(-(p * np.log(p)).sum())


def epsilon_sampling(p: np.ndarray, epsilon: float) -> np.ndarray:
    """Eta sampling, from its definition."""
    kept = p > min(epsilon, epsilon**0.5 * np.exp(-entropy(p)))
    kept[p.argmax()] = True
    return kept


def bounded_entropy(p: np.ndarray, share: float) -> np.ndarray:
    """The likeliest tokens, added while the entropy of what there is stays below."""
    order, count = np.argsort(-p), 1
    while count < len(p) and entropy(p[order[: count + 1]] / p[order[: count + 1]].sum()) <= share * entropy(p):
        count += 1
    return np.isin(np.arange(len(p)), order[:count])


def before_the_tail(p: np.ndarray, share: float) -> np.ndarray:
    """The likeliest token, and each next one while the bends before it are less than their share."""
    order = np.argsort(-p)
    bends = np.abs(np.diff(p[order], 2))
    count = 1
    while count <= len(bends) and bends[: count - 1].sum() < share * bends.sum():
        count += 1
    return np.isin(np.arange(len(p)), order[:count])


CASES: dict[str, tuple[Filter, Callable[[np.ndarray], np.ndarray]]] = {
    "top_k": (TopK(3), lambda p: np.isin(np.arange(5), np.argsort(-p)[:3])),
    "nucleus": (Nucleus(0.7), lambda p: smallest_set(p, np.argsort(-p), 0.7)),
    "min_p": (MinP(0.3), lambda p: p >= 0.3 * p.max()),
    "eta": (Eta(0.2), lambda p: epsilon_sampling(p, 0.2)),
    "typical": (Typical(0.6), lambda p: smallest_set(p, np.argsort(abs(-np.log(p) - entropy(p))), 0.6)),
    "epsilon": (Epsilon(0.15), lambda p: (p >= 0.15) | (p == p.max())),
    "top_n_sigma": (TopNSigma(1.0), lambda p: np.log(p) >= np.log(p).max() - np.log(p).std()),
    "top_h": (TopH(0.6), lambda p: bounded_entropy(p, 0.6)),
    "tail_free": (TailFree(0.7), lambda p: before_the_tail(p, 0.7)),
    "temperature": (Temperature(0.6), lambda p: np.ones(5, bool)),
    "chain": (by_name("temperature=1.5,top_k=2"), lambda p: np.isin(np.arange(5), np.argsort(-p)[:2])),
    "function": (lambda logits: jnp.where(jnp.arange(5) == 2, -jnp.inf, logits), lambda p: np.arange(5) != 2),
}


def restricted(kept: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """log joint of every string of the enumerable target; minus infinity where some token was not kept where it came."""
    table = np.asarray(exact.small_lm().table, np.float64)
    allowed = np.array([kept(row) for row in np.exp(table - np.logaddexp.reduce(table, axis=1, keepdims=True))])

    def fine(string: list[int]) -> bool:
        tokens = string if exact.EOS not in string else string[: string.index(exact.EOS) + 1]
        path = [*exact.PROMPT, *tokens]
        return all(allowed[a * (exact.VOCAB + 1) + b, c] for a, b, c in zip(path, path[1:], path[2:], strict=False))

    everything = exact.strings()
    return np.where([fine(string) for string in everything.strings.tolist()], everything.log_joint, -np.inf)


def restricted_log_z(kept: Callable[[np.ndarray], np.ndarray]) -> float:
    """Its log normaliser."""
    return float(np.logaddexp.reduce(restricted(kept)))


def target(proposal: object) -> Generation:
    """The enumerable target with a proposal."""
    return generation(
        exact.small_lm(),
        exact.PROMPT,
        terminal(exact.terminal_score),
        max_tokens=exact.LENGTH,
        eos_id=exact.EOS,
        proposal=proposal,
    )


def log_z_of(model: Generation) -> np.ndarray:
    """log Z_hat of many small runs."""
    return np.asarray(run(jax.random.key(3), model, NUM_PARTICLES, num_runs=NUM_RUNS, history="none").log_z)


@pytest.mark.parametrize("name", CASES)
def test_every_filter_weighs_each_token_it_keeps_by_the_model(name: str) -> None:
    rule, kept = CASES[name]
    model = target(filtered(rule))
    table = exact.small_lm().table
    p = np.asarray(jax.nn.softmax(table), np.float64)
    first = model.process.advance(jnp.asarray(0), None, None)

    def drawn_and_weighed(logits: jax.Array) -> jax.Array:
        state = eqx.tree_at(lambda tree: tree.logits, first, logits)
        weight = jax.vmap(lambda token: model.proposal.log_weight(jnp.asarray(1), state, token))
        return jax.nn.softmax(rule(logits)) * jnp.exp(weight(jnp.arange(exact.VOCAB)))

    # E_q[w f] = sum over the kept of p f, for every f: q w = p, token by token.
    expected = p * np.array([kept(row) for row in p])
    np.testing.assert_allclose(jax.vmap(drawn_and_weighed)(table), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_a_filtered_run_is_unbiased_for_the_strings_it_keeps() -> None:
    rule, kept = CASES["chain"]
    assert_mean_one_log(log_z_of(target(filtered(rule))), restricted_log_z(kept))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_filtered_run_is_unbiased_for_the_strings_it_keeps(name: str) -> None:
    rule, kept = CASES[name]
    assert_mean_one_log(log_z_of(target(filtered(rule))), restricted_log_z(kept))


@pytest.mark.slow
def test_with_a_share_of_the_model_nothing_is_excluded() -> None:
    assert_mean_one_log(log_z_of(target(filtered(TopK(2), model_share=0.3))), exact.strings().log_z)


@pytest.mark.slow
def test_an_exact_draw_of_the_restricted_target_gives_the_bound_from_above() -> None:
    rule, kept = CASES["min_p"]
    joint = restricted(kept)
    rows, log_p = jnp.asarray(exact.strings().strings, jnp.int32), jnp.asarray(joint)
    model = condition(target(filtered(rule)), lambda key: rows[jax.random.categorical(key, log_p)])
    log_z = run(jax.random.key(5), model, NUM_PARTICLES, num_runs=NUM_RUNS, history="none").log_z
    assert_mean_one_log(-np.asarray(log_z), -float(np.logaddexp.reduce(joint)))


class LocallyNormalised(FilteredProposal):
    """The mistake that every sampler with a filter makes: the weight is left out."""

    def propose(self, key, t, states, size):  # noqa: ANN001, ANN201
        """Draws of weight one."""
        tokens, log_w = super().propose(key, t, states, size)
        return tokens, jnp.zeros_like(log_w)


def test_leaving_the_weight_out_is_caught() -> None:
    model = target(lambda process: LocallyNormalised(process, TopK(3)))
    with pytest.raises(AssertionError, match="mean differs"):
        assert_mean_one_log(log_z_of(model), restricted_log_z(CASES["top_k"][1]))


def test_filters_keep_the_end_of_a_finished_sequence() -> None:
    ended = jnp.array([0.0, -jnp.inf, -jnp.inf, -jnp.inf, -jnp.inf])
    for rule, _ in itertools.islice(CASES.values(), 10):
        np.testing.assert_array_equal(jnp.isfinite(rule(ended)), [True, False, False, False, False])


def test_a_filter_that_leaves_nothing_falls_back_to_the_model() -> None:
    model = target(filtered(lambda logits: jnp.full_like(logits, -jnp.inf)))
    state = model.process.advance(jnp.asarray(0), None, None)
    assert model.proposal.log_weight(jnp.asarray(1), state, jnp.asarray(2)) == 0.0


SECOND = table_lm(jax.random.key(11), exact.VOCAB, 1)


def read_along(second: Any) -> Generation:
    """The enumerable model with a companion."""
    return generation(exact.small_lm(), exact.PROMPT, max_tokens=2, readers={COMPANION: second})


def proposed_by_second(prompt: list[int] | None = None, temperature: float = 1.0, **options: Any) -> Generation:
    """Sequences of the enumerable model that another one proposes."""
    readers = {COMPANION: companion(SECOND, prompt)}
    return generation(exact.small_lm(), exact.PROMPT, readers=readers, proposal=second_model(temperature), **options)


@pytest.mark.slow
def test_a_second_model_proposes_for_the_first() -> None:
    model = proposed_by_second(
        potential=terminal(exact.terminal_score), max_tokens=exact.LENGTH, eos_id=exact.EOS, temperature=1.3
    )
    assert_mean_one_log(log_z_of(model), exact.strings().log_z)


def test_the_second_model_reads_what_the_first_one_reads() -> None:
    model = proposed_by_second(max_tokens=4, eos_id=None)
    tokens = [2, 4, 1, 3]
    said = SECOND.forward(jnp.asarray([*exact.PROMPT, *tokens])).logits[1:]
    state = model.process.advance(jnp.asarray(0), None, None)
    for t, token in enumerate(tokens, start=1):
        np.testing.assert_allclose(model.proposal.logits(jnp.asarray(t), state), said[t - 1], rtol=1e-6)
        state = model.process.advance(jnp.asarray(t), state, jnp.asarray(token))


def test_the_companion_may_read_another_prompt() -> None:
    model = proposed_by_second([0], max_tokens=2, eos_id=None)
    state = model.process.advance(jnp.asarray(0), None, None)
    expected = SECOND.forward(jnp.asarray([0])).logits[-1]
    np.testing.assert_allclose(model.proposal.logits(jnp.asarray(1), state), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TopK(0), "top_k is out of range"),
        (lambda: Nucleus(0.0), "nucleus is out of range"),
        (lambda: by_name("top_q=3"), "unknown filter"),
        (lambda: by_name("top_k=many"), "is no number"),
        (lambda: by_name("temperature=-1"), "temperature is out of range"),
        (lambda: filtered(TopK(2), model_share=1.0), "model_share is out of range"),
        (lambda: target(filtered(lambda logits: logits[:2])), "does not return logits"),
        (lambda: target(second_model()), "no companion reads along"),
        (lambda: second_model(0.0), "temperature is out of range"),
        (lambda: read_along(companion(table_lm(jax.random.key(0), 4))), "another vocabulary than the model"),
        (lambda: companion(SECOND, []), "no sequence of tokens"),
        (lambda: companion("a name"), "no language model"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


def test_what_renormalising_at_every_token_does_to_strings() -> None:
    """By the loop over all strings, and nothing where nothing is removed."""
    rule, kept = CASES["top_k"]
    plain = generation(exact.small_lm(), exact.PROMPT, max_tokens=3, eos_id=None, proposal=filtered(rule))
    found = language_exact.distortion(plain)
    table = np.asarray(exact.small_lm().table, np.float64)
    p_next = np.exp(table - np.logaddexp.reduce(table, axis=1, keepdims=True))
    allowed = np.array([kept(row) for row in p_next])
    q_next = np.where(allowed, p_next, 0.0) / np.where(allowed, p_next, 0.0).sum(axis=1, keepdims=True)
    p, q = [], []
    for string in itertools.product(range(exact.VOCAB), repeat=3):
        path = [*exact.PROMPT, *string]
        rows = [a * (exact.VOCAB + 1) + b for a, b in zip(path, path[1:], strict=False)][:3]
        fine = all(allowed[row, token] for row, token in zip(rows, string, strict=True))
        p.append(np.prod([p_next[row, token] for row, token in zip(rows, string, strict=True)]) * fine)
        q.append(np.prod([q_next[row, token] for row, token in zip(rows, string, strict=True)]))
    p, q = np.array(p), np.array(q)
    assert found.log_mass == pytest.approx(np.log(p.sum()), abs=1e-5)
    p, some = p / p.sum(), q > 0
    assert found.tv == pytest.approx(0.5 * abs(p - q).sum(), abs=1e-5) and found.tv > 0.04
    assert found.kl == pytest.approx((q[some] * np.log(q[some] / p[some])).sum(), abs=1e-5)
    whole = generation(exact.small_lm(), exact.PROMPT, max_tokens=3, eos_id=None, proposal=filtered(TopK(5)))
    assert language_exact.distortion(whole).tv == pytest.approx(0.0, abs=1e-6)


def test_names_make_the_same_filters() -> None:
    assert by_name("top_k=40") == TopK(40)
    assert by_name("temperature=0.8, nucleus=0.9") == Chain((Temperature(0.8), Nucleus(0.9)))
