"""Coupled draws and draws without replacement: laws and unbiased sums by enumeration, and the usual mistakes."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError
from smcinfer.language import Generation, beams, coded, exact, filtered, filters, generation, table_lm, terminal
from smcinfer.language.decoding import codes
from smcinfer.language.decoding.beams import Beams
from smcinfer.run.runner import run
from tests import exact_language
from tests.statistics import assert_chi2, assert_mean_one_log

NUM_RUNS = 1500


def target(score: Any = exact_language.terminal_score, **options: Any) -> Generation:
    """The enumerable target."""
    settings: dict[str, Any] = {"max_tokens": exact_language.LENGTH, "eos_id": exact_language.EOS}
    potential = None if score is None else terminal(score)
    return generation(exact_language.small_lm(), exact_language.PROMPT, potential, **(settings | options))


TRUTH = exact_language.strings()


def counts_of(model: Any, num_particles: int, num_runs: int, place: int) -> np.ndarray:
    """How often each string is in one place, over independent runs."""
    done = run(jax.random.key(5), model, num_particles, num_runs=num_runs, history="none", resample_below=0.0)
    shown = jax.vmap(model.exported)(done.particles)
    return TRUTH.everything.counts(np.asarray(shown["tokens"])[:, place])


@pytest.mark.dealt
@pytest.mark.parametrize("kind", ["codes", "beams"])
def test_estimates_are_unbiased(kind: str, precision: str) -> None:
    model = coded(target()) if kind == "codes" else beams(target())
    done = run(
        jax.random.key(0), model, 8, num_runs=NUM_RUNS, history="none", resample_below=0.5 if kind == "codes" else 0.0
    )
    assert done.log_z.dtype == precision
    assert_mean_one_log(done.log_z, TRUTH.log_z)


def test_each_coded_text_is_a_draw_of_the_model() -> None:
    seen = counts_of(coded(target(None)), 4, 4000, 2)
    assert_chi2(seen, np.exp(TRUTH.everything.log_base))


@pytest.mark.slow
def test_one_beam_is_a_draw_of_the_model() -> None:
    assert_chi2(counts_of(beams(target(None)), 1, 4000, 0), np.exp(TRUTH.everything.log_base))


def last_pairs(max_tokens: int) -> np.ndarray:
    """How often each pair of tokens ends a long text of four tokens, all equally likely: each takes two bits of a code."""
    model = coded(generation(table_lm(jax.random.key(3), 4, 1, 0.0), [1], max_tokens=max_tokens, eos_id=None))
    done = run(jax.random.key(1), model, 1, num_runs=3000, history="none")
    tokens = np.asarray(jax.vmap(model.exported)(done.particles)["tokens"])[:, 0]
    return np.bincount(tokens[:, -2] * 4 + tokens[:, -1], minlength=16)


@pytest.mark.slow
def test_codes_do_not_run_out_of_bits() -> None:
    """The last tokens are as random as the first, in float32 too."""
    assert_chi2(last_pairs(40), np.full(16, 1 / 16))


def test_codes_whose_bits_run_out_are_caught(mistaken: pytest.MonkeyPatch) -> None:
    """The mistake: what is left of a code is stretched, and nothing is drawn anew."""
    mistaken.setattr(codes, "refilled", lambda left, log2_p, bits: left)
    with pytest.raises(AssertionError):
        assert_chi2(last_pairs(41), np.full(16, 1 / 16))


class OffByOne(Beams):
    """The mistake: inclusion probabilities as if the last text that was kept had been dropped."""

    def log_weights(self, log_p: Any, log_phi: Any, dropped: Any) -> Any:
        """By a threshold that is too high."""
        return super().log_weights(log_p, log_phi, dropped + 0.3)


def test_a_wrong_threshold_is_caught() -> None:
    done = run(jax.random.key(0), OffByOne(target(), True), 8, num_runs=NUM_RUNS, history="none", resample_below=0.0)
    with pytest.raises(AssertionError, match="mean differs"):
        assert_mean_one_log(done.log_z, TRUTH.log_z)


@pytest.mark.slow
def test_enough_beams_are_the_sum_over_all_texts() -> None:
    """Thirty-one strings and forty beams: nothing is dropped, and nothing left to chance."""
    small = target(None, max_tokens=2)
    for noise in (True, False):
        result = smcinfer.sample(
            jax.random.key(0), beams(small, noise=noise), num_particles=40, num_runs=2, progress=False
        )
        np.testing.assert_allclose(result.log_z_runs, exact.enumerated(small).log_z, atol=1e-5)
        assert len(small.decode(result)) == 21


def test_beam_search_finds_the_likeliest_texts() -> None:
    """Wide enough to drop none of the prefixes of the best three: they are what sorting all strings finds."""
    result = smcinfer.sample(
        jax.random.key(0), beams(target(None), noise=False), num_particles=200, num_runs=1, progress=False
    )
    best = np.argsort(-TRUTH.everything.log_base)[:3]
    found = np.asarray(result.particles["tokens"])[0, :3]
    np.testing.assert_array_equal(found, TRUTH.everything.strings[best])
    np.testing.assert_allclose(np.asarray(result.particles["log_p"])[0, :3], TRUTH.everything.log_base[best], rtol=1e-5)
    assert result.log_z < 0.0 and "no sample" in result.settings["weighted_for"]


@pytest.mark.slow
def test_the_error_of_texts_that_differ_is_told_between_runs() -> None:
    for model in (coded(target()), beams(target())):
        result = smcinfer.sample(jax.random.key(0), model, num_particles=32, num_runs=16, progress=False)
        assert np.isnan(result.log_z_variance).all() and result.evidence.source == "between runs"
        assert abs(result.log_z - TRUTH.log_z) < 5 * result.log_z_se


@pytest.mark.slow
def test_beams_of_one_run_differ() -> None:
    result = smcinfer.sample(jax.random.key(0), beams(target(None)), num_particles=32, num_runs=3, progress=False)
    for tokens in np.asarray(result.particles["tokens"]):
        assert len({tuple(row) for row in tokens.tolist()}) == 32


@pytest.mark.slow
def test_forced_ends_and_continuations_are_kept_by_codes() -> None:
    given = target(continuation=[2, 1], max_tokens=3, end="force")
    done = run(jax.random.key(2), coded(given), 8, num_runs=NUM_RUNS, history="none", resample_below=0.0)
    assert_mean_one_log(done.log_z, exact.enumerated(given).log_z)


def test_wrong_targets_are_named() -> None:
    with pytest.raises(ArgumentError, match="read tokens from the model itself"):
        coded(target(proposal=filtered(filters.TopK(2))))
    assert eqx.is_array(codes.spread(jax.random.key(0), 3)) and jnp.all(codes.spread(jax.random.key(0), 3) < 1.0)
