"""Generation on a language model with five tokens: log Z, its bounds and the law of the strings against the sum over all."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.bounds import sandwich
from smcinfer.core.conditional import condition
from smcinfer.core.nouns import Bootstrap
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.language import Generation, LlamaConfig, draw_symbols, exact, generation, random_llama, terminal
from smcinfer.language.proposals.forced import Forced
from smcinfer.results.finished import Run
from smcinfer.run.runner import run
from tests import exact_language
from tests.exact_language import EOS, LENGTH, PROMPT, Strings, TabulatedTwist, strings
from tests.statistics import assert_chi2, assert_mean_one_log, assert_within, z_threshold

RUNS, PARTICLES = 3000, 6

CASES = {
    # name: (eos, end, where the potential is paid, power of the exact twist or None)
    "open": (EOS, "open", "stepwise", None),
    "forced": (EOS, "force", "terminal", None),
    "forced_twisted": (EOS, "force", "terminal", 0.6),
    "fixed_twisted": (None, "open", "terminal", 0.6),
}


@cache
def truth(case: str) -> Strings:
    """The sum over all strings."""
    eos, end, _, _ = CASES[case]
    return strings(eos=eos, end=end)


def target(case: str) -> Generation:
    """The same target for the driver."""
    eos, end, paid, power = CASES[case]
    potential = terminal(exact_language.terminal_score) if paid == "terminal" else exact_language.stepwise_score
    twist = None if power is None else TabulatedTwist.of(truth(case), power)
    return generation(exact_language.small_lm(), PROMPT, potential, max_tokens=LENGTH, eos_id=eos, end=end, twist=twist)


def conditional_run(case: str) -> Run:
    """Runs through exact draws."""
    return run(jax.random.key(1), condition(target(case), truth(case).draw), PARTICLES, num_runs=RUNS)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*list(CASES)[:-1], pytest.param("fixed_twisted", marks=pytest.mark.slow)])
def test_z_is_unbiased(case: str) -> None:
    done = run(jax.random.key(0), target(case), PARTICLES, num_runs=RUNS)
    assert_mean_one_log(done.log_z, truth(case).log_z)


@pytest.mark.parametrize("case", ["open", "forced_twisted", pytest.param("fixed_twisted", marks=pytest.mark.slow)])
@pytest.mark.dealt
def test_through_exact_draws_the_reciprocal_is_unbiased_and_the_law_kept(case: str) -> None:
    done = conditional_run(case)
    assert_mean_one_log(-done.log_z, -truth(case).log_z)
    # A path drawn from the last weights of a run through an exact draw is an exact draw, whatever the number of particles.
    chosen = jax.random.categorical(jax.random.key(2), done.log_weights)
    tokens = np.asarray(done.particles.state.tokens)[np.arange(RUNS), np.asarray(chosen)]
    assert_chi2(truth(case).counts(tokens), truth(case).probabilities)


@pytest.mark.slow
def test_in_float64(x64: None) -> None:
    done = run(jax.random.key(0), target("forced_twisted"), PARTICLES, num_runs=500)
    assert done.log_z.dtype == jnp.float64
    assert_mean_one_log(done.log_z, truth("forced_twisted").log_z)


@pytest.mark.slow
def test_the_exact_twist_leaves_no_noise() -> None:
    model = target("forced").with_twist(TabulatedTwist.of(truth("forced")))
    done = run(jax.random.key(0), model, 4, num_runs=20)
    np.testing.assert_allclose(done.log_z, truth("forced").log_z, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["open", "force"])
def test_plain_strings_have_the_models_law(end: str) -> None:
    """Finished, unfinished and forced ones, by rejection where they have weights."""
    known = strings(lambda string: 0.0, end=end)
    model = generation(exact_language.small_lm(), PROMPT, max_tokens=LENGTH, eos_id=EOS, end=end)
    pool = exact.rejected(jax.random.key(3), model, 0.0, num_draws=8000, batch=20000)
    assert_chi2(known.counts(np.asarray(pool.paths)), known.probabilities)
    share = float(np.exp(known.log_z))
    assert_within(pool.accepted, share, (max(share * (1 - share), 0.0) / 20_000) ** 0.5)


class FreeOfCharge(Forced):
    """A mutation: the end is forced and nobody pays for it."""

    def _force(self, t, state, x, log_w):  # noqa: ANN001, ANN202
        x, paid = super()._force(t, state, x, log_w)
        return x, jnp.where(t == LENGTH, 0.0, paid)


class OwnWeights(Bootstrap):
    """A proposal that says it accounts for the potential."""

    includes_potential: bool = True


def test_given_tokens_need_a_potential_of_their_own() -> None:
    with pytest.raises(TargetError, match="cannot have tokens put in its place"):
        generation(exact_language.small_lm(), PROMPT, max_tokens=2, continuation=[1], proposal=OwnWeights)


@pytest.mark.slow
def test_a_forced_end_without_its_weight_is_caught() -> None:
    model = target("forced")
    free = FreeOfCharge(model.proposal.process, model.proposal.inner, model.proposal.given)
    mutated = Generation(model.process, model.potential, None, free, model.num_steps)
    done = run(jax.random.key(0), mutated, PARTICLES, num_runs=RUNS)
    with pytest.raises(AssertionError):
        assert_mean_one_log(done.log_z, truth("forced").log_z)


def test_enumeration_agrees_with_the_loop() -> None:
    found = exact.enumerated(target("forced"))
    assert found.log_z == pytest.approx(truth("forced").log_z, abs=1e-4)
    assert found.strings.shape == (len(truth("forced").strings), LENGTH)


@pytest.mark.slow
def test_bounds_hold_z_between_them() -> None:
    """Sequences that end early among them; the divergences are those of a proposal that is enumerable too."""
    known = truth("open")
    found = sandwich(jax.random.key(4), target("open"), known.draw, num_particles=4, num_runs=500)
    assert not found.crossed
    low, high = found.interval(0.999)
    assert low < known.log_z < high
    assert found.lower[0] < known.log_z < found.upper[0]
    base = known.everything
    ratio = known.log_joint - known.log_z - base.log_base
    for found_kl, exact_kl in (
        (found.kl_proposal_target, -np.exp(base.log_base) @ ratio),
        (found.kl_target_proposal, known.probabilities @ ratio),
    ):
        assert abs(found_kl[0] - exact_kl) < z_threshold(2) * found_kl[1]


@pytest.mark.slow
def test_infilling_is_conditioning_on_what_follows() -> None:
    last = (2, 4)
    model = generation(exact_language.small_lm(), PROMPT, max_tokens=LENGTH - 2, continuation=last)
    known = strings(lambda string: 0.0 if string[-2:] == last else -np.inf, eos=None)
    done = run(jax.random.key(5), model, PARTICLES, num_runs=RUNS)
    assert_mean_one_log(done.log_z, known.log_z)
    assert (np.asarray(done.particles.state.tokens)[..., -2:] == last).all()


@pytest.mark.slow
def test_simulated_infilling_draws_what_it_asks_for() -> None:
    model, path = exact.simulated_infilling(
        jax.random.key(6), exact_language.small_lm(), PROMPT, max_tokens=4, continuation_tokens=2
    )
    assert model.num_steps == 6 and path.shape == (6,)
    np.testing.assert_array_equal(model.potential.given.tokens, [-1, -1, -1, -1, *np.asarray(path[4:])])


@pytest.mark.slow
def test_temperature_is_part_of_the_base_law() -> None:
    """At one step, where everything can be said at a glance."""
    lm = exact_language.small_lm()
    only_two = lambda t, state: jnp.where((state.last_token == 2) | (t == 0), 0.0, -jnp.inf)  # noqa: E731
    model = generation(lm, PROMPT, only_two, max_tokens=1, temperature=0.5)
    done = run(jax.random.key(7), model, 1000, num_runs=20)
    expected = jax.nn.log_softmax(2.0 * lm.prefill(jnp.asarray(PROMPT))[0].logits)[2]
    assert_mean_one_log(done.log_z, float(expected))


@pytest.mark.slow
def test_symbols_of_a_large_vocabulary() -> None:
    for vocab in (130, 257):  # one with divisors near its root, one without
        logits = 2.0 * jax.random.normal(jax.random.key(8), (vocab,))
        logits = logits.at[::7].set(-jnp.inf)
        drawn = draw_symbols(jax.random.key(9), jnp.broadcast_to(logits, (40000, vocab)))
        assert_chi2(np.bincount(drawn, minlength=vocab), np.asarray(jax.nn.softmax(logits), np.float64))


@pytest.mark.slow
def test_results_show_sequences_and_no_cache() -> None:
    model = target("open")
    done = run(jax.random.key(10), model, 50, num_runs=2)
    assert set(model.exported(done.particles)) == {"tokens", "length", "finished"}
    texts = model.decode(done)
    assert sum(entry.weight for entry in texts) == pytest.approx(1.0, abs=1e-5)
    assert [entry.weight for entry in texts] == sorted((entry.weight for entry in texts), reverse=True)
    assert len({entry.tokens for entry in texts}) == len(texts)
    for entry in texts:
        assert entry.finished == (entry.tokens[-1] == EOS)
        assert entry.text.split() == [str(token) for token in entry.tokens if token != EOS]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompt": []}, "prompt is no sequence of tokens"),
        ({"prompt": "words"}, "no tokenizer"),
        ({"prompt": [1, 9]}, "tokens that the model does not know"),
        ({"max_tokens": 0}, "max_tokens is out of range"),
        ({"temperature": 0.0}, "temperature is out of range"),
        ({"end": "never"}, "unknown end"),
        ({"end": "force"}, "nothing ends a sequence"),
        ({"eos_id": 9}, "eos_id is no token"),
        ({"lm": "a model"}, "lm is no language model"),
        ({"continuation": [7]}, "continuation has tokens"),
    ],
)
def test_arguments_are_checked(changes: dict, complaint: str) -> None:
    settings = {"lm": exact_language.small_lm(), "prompt": PROMPT, "max_tokens": LENGTH} | changes
    with pytest.raises(ArgumentError, match=complaint):
        generation(settings.pop("lm"), settings.pop("prompt"), **settings)


def test_a_prompt_beyond_the_context() -> None:
    lm = random_llama(0, LlamaConfig(10, 4, 4, 1, 1, 1, 4, 8, (None,)))
    with pytest.raises(ArgumentError, match="do not fit into the model's context(.|\n)*at most 8(.|\n)*prompt of 5"):
        generation(lm, [1, 2, 3, 4, 5], max_tokens=4)


def test_a_potential_of_the_wrong_shape() -> None:
    with pytest.raises(TargetError, match="potential"):
        generation(exact_language.small_lm(), PROMPT, lambda t, state: state.logits, max_tokens=2)


@pytest.mark.slow
def test_a_bound_that_is_none() -> None:
    with pytest.raises(TargetError, match="weighs more than the bound"):
        exact.rejected(jax.random.key(0), target("open"), -3.0, num_draws=10)


@pytest.mark.slow
def test_several_ends_are_drawn_as_one_with_the_probability_of_all() -> None:
    lm = exact_language.small_lm()
    one, several = (
        generation(lm, PROMPT, max_tokens=LENGTH, eos_id=eos, temperature=0.7) for eos in (EOS, [EOS, 2, 4])
    )

    def first(model: Generation) -> np.ndarray:
        state = model.process.advance(jnp.zeros((), jnp.int32), None, None)
        return np.asarray(jax.nn.softmax(state.logits))

    alone, merged = first(one), first(several)
    np.testing.assert_allclose(merged[EOS], alone[[EOS, 2, 4]].sum(), rtol=1e-5)
    np.testing.assert_array_equal(merged[[2, 4]], 0.0)
    np.testing.assert_allclose(merged[[1, 3]], alone[[1, 3]], rtol=1e-5)
    done = run(jax.random.key(0), several, PARTICLES, num_runs=200)
    assert not np.isin(np.asarray(done.particles.state.tokens), [2, 4]).any()
    with pytest.raises(ArgumentError, match="no token of the model"):
        generation(lm, PROMPT, max_tokens=LENGTH, eos_id=[EOS, 99])
