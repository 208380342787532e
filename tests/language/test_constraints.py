"""Constraints against the sum over all strings: normaliser, law of every string, negative controls, forks, bad input."""

import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcinfer
from smcinfer import twists
from smcinfer.core.status import Status, explain
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.language import Pretrained, generation, table_lm
from smcinfer.language.constraints import (
    Constraint,
    adaptive_rejection,
    allowed_texts,
    automaton,
    constrained,
    draw_accepted,
    draws_accepted,
    json_schema,
    lark,
    on_host,
    regex,
    starts_with,
    under_constraint,
)
from smcinfer.language.constraints.engine import Memo
from smcinfer.language.constraints.without_replacement import everything
from smcinfer.run.runner import run
from tests.exact_language import EOS, LENGTH, PROMPT, VOCAB, small_lm, string_score, strings, terminal_score
from tests.statistics import assert_chi2, assert_mean

IN_DOUBLE_LATER = pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float64", marks=pytest.mark.slow)], indirect=True
)
"""For long tests of many draws: float64 with the slow ones."""

WORDS = [b"", b"a", b"b", b"ab", b"c"]
PATTERN = "(ab)*(c|abc)"
"""Has several cuts into tokens, and dead ends within the length limit."""


def text_of(string: tuple[int, ...]) -> bytes:
    return b"".join(WORDS[token] for token in string)


def log_member(member: Callable[[str], bool]) -> Callable[[tuple[int, ...]], float]:
    """log phi of a string that must end by EOS and belong to a set."""
    return lambda string: 0.0 if string[-1:] == (EOS,) and member(text_of(string).decode()) else -np.inf


TEXTS = ["abc", "ca", "abab", "b"]
KINDS: dict[str, tuple[Callable[[], Constraint], Callable[[str], bool]]] = {
    "regex": (lambda: regex(PATTERN, WORDS, EOS), lambda text: re.fullmatch(PATTERN, text) is not None),
    "lark": (
        lambda: lark('start: "c" | "a" start "b"', WORDS, EOS),
        lambda text: re.fullmatch("(a*)c(b*)", text) is not None and text.count("a") == text.count("b"),
    ),
    "texts": (lambda: allowed_texts(TEXTS, WORDS, EOS), lambda text: text in TEXTS),
    "prefix": (lambda: starts_with("ab", WORDS, EOS), lambda text: text.startswith("ab")),
    "both": (
        lambda: regex("[abc]*", WORDS, EOS) & starts_with("ab", WORDS, EOS),
        lambda text: text.startswith("ab"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_log_z_is_the_sum_over_the_set(kind: str, x64: None) -> None:
    build, member = KINDS[kind]
    exact = strings(log_member(member))
    model = constrained(small_lm(), PROMPT, build(), max_tokens=LENGTH)
    done = run(jax.random.key(0), model, 16, num_runs=512)
    assert_mean(np.exp(np.asarray(done.log_z) - exact.log_z), 1.0)
    finished = np.asarray(done.particles.state.tokens).reshape(-1, LENGTH)[np.isfinite(done.log_weights).ravel()]
    assert {text_of(tuple(row)).decode() for row in finished.tolist()} <= {
        text_of(tuple(row)).decode()
        for row, log_p in zip(exact.strings, exact.log_joint, strict=True)
        if np.isfinite(log_p)
    }


@pytest.mark.slow
def test_every_string_has_its_probability_and_masking_alone_has_not(x64: None) -> None:
    _, member = KINDS["regex"]
    exact = strings(lambda string: log_member(member)(string) + string_score(string))
    model = constrained(
        small_lm(), PROMPT, KINDS["regex"][0](), smcinfer.language.terminal(terminal_score), max_tokens=LENGTH
    )
    done = run(jax.random.key(1), model, 256, num_runs=64)
    tokens = np.asarray(done.particles.state.tokens)
    z_hat = np.exp(np.asarray(done.log_z) - exact.log_z)

    def share(weights: np.ndarray, row: np.ndarray) -> np.ndarray:
        return (weights * (tokens == row).all(-1)).sum(1)

    weights = np.exp(np.asarray(done.log_weights))
    likely = np.argsort(exact.log_joint)[-4:]
    for place in likely:
        assert_mean(z_hat * share(weights, exact.strings[place]), exact.probabilities[place])
    # Control: the masked draws, unweighted, follow another law.
    masked = run(jax.random.key(2), model, 4096, num_runs=1, resample_below=0.0)
    drawn = (np.asarray(masked.particles.state.tokens)[0] == exact.strings[likely[-1]]).all(-1)
    with pytest.raises(AssertionError):
        assert_mean(drawn.astype(float), exact.probabilities[likely[-1]])


@pytest.mark.slow
def test_the_bounds_hold_log_z_between_them(x64: None) -> None:
    exact = strings(log_member(KINDS["regex"][1]))
    model = constrained(small_lm(), PROMPT, KINDS["regex"][0](), max_tokens=LENGTH)
    sandwich = smcinfer.bounds.sandwich(jax.random.key(0), model, exact.draw, num_particles=32, num_runs=32)
    low, high = sandwich.interval()
    assert low <= exact.log_z <= high and not sandwich.crossed


@pytest.mark.slow
def test_a_set_that_nothing_is_in_ends_with_its_status() -> None:
    never = regex("a", WORDS, EOS) & regex("b", WORDS, EOS)
    done = run(jax.random.key(0), constrained(small_lm(), PROMPT, never, max_tokens=LENGTH), 16, num_runs=2)
    assert (np.asarray(done.log_z) == -np.inf).all()
    assert (np.asarray(done.status) & int(Status.ALL_WEIGHTS_ZERO)).all()
    assert not (np.asarray(done.status) & int(Status.NON_FINITE_POTENTIAL | Status.CUT_OFF)).any()


@pytest.mark.slow
def test_a_limit_that_no_sequence_ends_by_is_named() -> None:
    model = constrained(small_lm(), PROMPT, regex("c{9}", WORDS, EOS), max_tokens=LENGTH)
    done = run(jax.random.key(0), model, 16, num_runs=2)
    assert (np.asarray(done.status) & int(Status.CUT_OFF)).all()
    assert any("max_tokens" in line for line in explain(int(done.status[0])))
    open_ = constrained(small_lm(), PROMPT, regex("c{9}", WORDS, EOS), max_tokens=LENGTH, cut_off=True)
    cut = run(jax.random.key(0), open_, 16, num_runs=2)
    assert np.isfinite(cut.log_z).all() and not np.asarray(cut.status).any()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["open", "force"])
def test_an_end_that_the_model_hardly_wants_comes_by_the_limit(end: str, x64: None) -> None:
    r"""Tokens are independent, so that :math:`Z = \sum_{k < T} p(a)^k\, p(\mathrm{EOS})`."""
    lm = table_lm(jax.random.key(0), 2, 1)

    def go(logit: float) -> Any:
        law = jnp.asarray([logit, 0.0])
        rare = eqx.tree_at(lambda tree: tree.table, lm, jnp.broadcast_to(law, lm.table.shape))
        log_p = jax.nn.log_softmax(law)
        model = constrained(rare, (1,), regex("a*", WORDS[:2], EOS), max_tokens=LENGTH, end=end)
        log_z = run(jax.random.key(0), model, 16, num_runs=256).log_z
        return np.asarray(log_z) - float(jax.nn.logsumexp(jnp.arange(LENGTH) * log_p[1]) + log_p[EOS])

    assert_mean(np.exp(go(-2.0)), 1.0)
    # Drawn by chance it would hardly ever come: no run has found nothing.
    assert np.isfinite(go(-12.0)).all()


def test_forks_do_not_touch_each_other() -> None:
    constraint: Any = regex("a(b|c)|c", WORDS, EOS)
    memo: Memo = constraint.memo
    tokens = np.array([[1, 2], [1, 4], [4, 0], [2, 0]], np.int32)
    before = memo.ask(tokens, np.array([1, 1, 1, 1], np.int32))
    after = memo.ask(tokens, np.array([2, 2, 1, 1], np.int32))
    again = memo.ask(tokens, np.array([1, 1, 1, 1], np.int32))
    np.testing.assert_array_equal(before[0], again[0])
    assert before[1].tolist() == [False, False, True, False]
    assert after[1].tolist() == [True, True, True, False]
    assert memo.num_asked == 12 and memo.num_answered == 5
    # A memo that forgot the parents reads the prefix again and says the same.
    memo._known.clear()
    np.testing.assert_array_equal(after[0], memo.ask(tokens, np.array([2, 2, 1, 1], np.int32))[0])


@pytest.mark.slow
def test_a_checkpoint_of_another_grammar_is_refused(tmp_path: Any) -> None:
    def go(pattern: str, **options: Any) -> Any:
        model = constrained(small_lm(), PROMPT, regex(pattern, WORDS, EOS), max_tokens=LENGTH)
        return run(jax.random.key(0), model, 8, chunk_steps=2, **options)

    whole = go(PATTERN, checkpoint=tmp_path / "run")
    np.testing.assert_array_equal(whole.log_z, go(PATTERN).log_z)
    np.testing.assert_array_equal(whole.log_z, go(PATTERN, checkpoint=tmp_path / "run").log_z)
    with pytest.raises(smcinfer.CheckpointError, match="another run"):
        go("(ab)*", checkpoint=tmp_path / "run")


LAW = np.array([0.05, 0.3, 0.02, 0.13, 0.2, 0.1, 0.05, 0.15])
ACCEPTED = np.array([True, False, True, False, False, False, True, True])


def rejection_draws(
    logits: np.ndarray, accepted: np.ndarray, count: int, **options: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table, laws = jnp.asarray(accepted), jnp.broadcast_to(jnp.asarray(logits), (count, len(logits)))
    keys = jax.random.split(jax.random.key(0), count)
    draws = jax.jit(lambda keys, laws: draws_accepted(keys, laws, lambda _, token, active: table[token], **options))(
        keys, laws
    )
    return np.asarray(draws.token), np.asarray(draws.log_weight, np.float64), np.asarray(draws.num_calls)


@pytest.mark.slow
@IN_DOUBLE_LATER
@pytest.mark.parametrize(
    ("variant", "rounds"),
    [
        ("two_rounds", 2),
        ("recursive", 2),
        pytest.param("geometric", 2, marks=pytest.mark.slow),
        ("geometric", 4),
    ],
)
def test_rejection_is_unbiased_for_every_token(variant: str, rounds: int, precision: str) -> None:
    token, log_weight, calls = rejection_draws(np.log(LAW), ACCEPTED, 100_000, variant=variant, rounds=rounds)
    weight = np.exp(log_weight)
    assert_mean(weight, LAW[ACCEPTED].sum())
    for value in range(len(LAW)):
        if ACCEPTED[value]:
            assert_mean(weight * (token == value), LAW[value])
        else:
            assert not (token == value).any()
    assert 2 <= calls.mean() < len(LAW)
    # Control: the share that was not rejected, without the second look, is biased.
    first_only = np.where(weight > 0, np.minimum(1.0, weight * 2), 0.0)
    with pytest.raises(AssertionError):
        assert_mean(first_only, LAW[ACCEPTED].sum())


@IN_DOUBLE_LATER
@pytest.mark.parametrize("variant", ["recursive", pytest.param("geometric", marks=pytest.mark.slow)])
@pytest.mark.dealt
def test_a_tail_keeps_its_law_below_a_steep_head(variant: str, precision: str) -> None:
    rng = np.random.default_rng(0)
    logits, group = rng.normal(0, 3, 5003), rng.integers(0, 4, 5003)
    accepted = group > 0
    head = rng.choice(5003, 5, replace=False)
    logits[head], accepted[head] = [70, 60, 50, 45, 40], False
    token, log_weight, calls = rejection_draws(logits, accepted, 5_000, variant=variant, rounds=4)
    mass = np.array([np.exp(logits[accepted & (group == g)]).sum() for g in range(1, 4)])
    ratio = np.exp(log_weight + np.logaddexp.reduce(logits) - np.log(mass.sum()))
    assert_mean(ratio, 1.0)
    assert_mean(ratio[:, None] * (group[token][:, None] == np.arange(1, 4)), mass / mass.sum())
    assert accepted[token].all() and calls.mean() < 20
    # Control: what a difference leaves of the mass is its rounding.
    p = np.exp(logits - np.logaddexp.reduce(logits)).astype(precision)
    assert not np.isclose(1 - p[head].sum(), mass.sum() / np.exp(logits).sum(), rtol=0.5, atol=0)


@pytest.mark.slow
def test_tokens_are_drawn_without_replacement(precision: str) -> None:
    logits = jnp.log(jnp.asarray(LAW))

    def pair(key: Any) -> tuple[Any, Any]:
        first_key, second_key = jax.random.split(key)
        whole = everything(logits)
        first = whole.draw(first_key, logits)
        return first.token, whole.without(first, jnp.asarray(True)).draw(second_key, logits).token

    first, second = jax.jit(jax.vmap(pair))(jax.random.split(jax.random.key(0), 100_000))
    expected = LAW[:, None] * LAW / (1 - LAW[:, None]) * (1 - np.eye(len(LAW)))
    counts = np.zeros_like(expected)
    np.add.at(counts, (np.asarray(first), np.asarray(second)), 1)
    assert_chi2(counts.ravel(), expected.ravel())
    with pytest.raises(AssertionError):
        assert_chi2(counts.ravel(), np.outer(LAW, LAW).ravel())


@pytest.mark.slow
def test_nothing_accepted_weighs_zero() -> None:
    for limit in (None, 3):
        drawn = draw_accepted(
            jax.random.key(0), jnp.log(jnp.asarray(LAW)), lambda token, active: jnp.asarray(False), max_calls=limit
        )
        assert drawn.log_weight == -jnp.inf
        assert drawn.num_calls == (len(LAW) if limit is None else limit)


def no_double(text: str, ended: bool) -> bool:
    """A predicate with dead ends: no letter twice in a row, and an end only after c."""
    return all(a != b for a, b in zip(text, text[1:], strict=False)) and (not ended or text.endswith("c"))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["two_rounds", "recursive"])
def test_generation_by_rejection_has_the_right_normaliser(variant: str, x64: None) -> None:
    def score(string: tuple[int, ...]) -> float:
        ended = string[-1:] == (EOS,)
        fine = no_double(text_of(string).decode(), False) and (not ended or text_of(string).endswith(b"c"))
        return 0.0 if fine else -np.inf

    exact = strings(score)
    predicate = on_host(no_double, WORDS, EOS)
    model = generation(
        small_lm(), PROMPT, max_tokens=LENGTH, eos_id=EOS, proposal=adaptive_rejection(predicate, variant=variant)
    )
    done = run(jax.random.key(3), model, 16, num_runs=256)
    assert_mean(np.exp(np.asarray(done.log_z) - exact.log_z), 1.0)
    assert 0 < predicate.num_calls < VOCAB * LENGTH * 16 * 256


@pytest.mark.slow
def test_what_a_predicate_raises_comes_out() -> None:
    def raises(text: str, ended: bool) -> bool:
        raise KeyError("no such word")

    model = generation(
        small_lm(), PROMPT, max_tokens=2, eos_id=EOS, proposal=adaptive_rejection(on_host(raises, WORDS, EOS))
    )
    with pytest.raises(TargetError, match="predicate raises raised KeyError"):
        smcinfer.sample(jax.random.key(0), model, num_particles=2, num_runs=2, progress=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: regex("a(b", WORDS, EOS), "unclosed group"),
        (lambda: regex("a(?=b)", WORDS, EOS), "no text matches"),
        (lambda: regex(r"(.)\1", WORDS, EOS), "a reference to a group"),
        (lambda: regex("(?:a(?!b))*", WORDS, EOS), "a loop around"),
        (lambda: regex("a(?R)?b", WORDS, EOS), "calls itself"),
        (lambda: regex(".(?=a.*).(?<=b.).", WORDS, EOS), "reach across"),
        (lambda: json_schema('{"type": ', WORDS, EOS), "line 1, column 10"),
        (lambda: json_schema({"type": "strin"}, WORDS, EOS), "strin"),
        (lambda: lark("start: a b", WORDS, EOS), "unknown name"),
        (lambda: regex("a", WORDS), "ends a sequence"),
        (lambda: regex("a", "abc"), "no vocabulary"),
        (lambda: allowed_texts([], WORDS, EOS), "no text"),
        (lambda: automaton([[1, 1]], [True], 0), "do not exist"),
        (lambda: constrained(small_lm(), PROMPT, regex("a", WORDS[:3], EOS), max_tokens=2), "another vocabulary"),
        (lambda: regex("a", WORDS, EOS) & regex("a", WORDS, 1), "different vocabularies"),
        (lambda: draw_accepted(jax.random.key(0), jnp.zeros(3), lambda *_: True, variant="x"), "unknown variant"),
    ],
)
def test_bad_input_says_what_is_wrong(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


@pytest.mark.slow
def test_a_learned_look_ahead_closes_the_gap(x64: None) -> None:
    """Letters a and b in any order, and an end that the mask cannot see coming: six tokens in all, c the fifth."""
    exact = strings(log_member(lambda text: re.fullmatch("[ab]*cc", text) is not None))
    target = constrained(small_lm(), PROMPT, regex("[ab]*cc", WORDS, EOS), max_tokens=LENGTH)
    start = under_constraint(target, twists.linear_head(small_lm().dim, VOCAB))
    learned = twists.learn(
        jax.random.key(1), target, "ctl", twist=start, exact_draw=exact.draw, num_steps=300, learning_rate=0.05
    )
    better = learned.attach(target)
    runs = [run(jax.random.key(2), model, 8, num_runs=512) for model in (target, better)]
    ratios = [np.exp(np.asarray(done.log_z) - exact.log_z) for done in runs]
    for ratio in ratios:
        assert_mean(ratio, 1.0)
    assert ratios[1].std() < 0.5 * ratios[0].std()
    with pytest.raises(ArgumentError, match="no mask"):
        under_constraint(generation(small_lm(), PROMPT, max_tokens=2), start)


def test_a_loaded_model_keeps_its_several_ends() -> None:
    """Where a model has more tokens that end a sequence than the constraint knows, the first has the probability of all."""
    model = Pretrained(small_lm(), None, None, EOS, "", {}, also_eos=(2,))
    free, held = (
        generation(model, PROMPT, max_tokens=2),
        constrained(model, PROMPT, regex("(a|c)*", WORDS, EOS), max_tokens=2),
    )
    ends = [
        np.asarray(jax.nn.log_softmax(one.process.advance(jnp.zeros((), jnp.int32), None, None).logits))[EOS]
        for one in (free, held)
    ]
    assert held.process.rules.also_eos == (2,)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-5)
