"""The figure of endings: its numbers against a sum done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError
from smcinfer.language import generation
from smcinfer.plots.endings import ending_log_probability, plot_endings
from tests import exact_language as exact
from tests.synthetic import make_result

ENDING = [2, 1]


def test_what_an_ending_is_worth_is_the_sum_over_its_tokens() -> None:
    target = generation(exact.small_lm(), exact.PROMPT, max_tokens=3, continuation=ENDING, eos_id=None, temperature=2.0)
    texts = np.array([[0, 4, 3], [1, 1, 2]])
    table = np.asarray(exact.small_lm().table, np.float64) / 2.0
    log_p = table - np.logaddexp.reduce(table, axis=1, keepdims=True)
    expected = []
    for text in texts.tolist():
        path = [*text, *ENDING]
        triples = list(zip(path, path[1:], path[2:], strict=False))[-len(ENDING) :]
        expected.append(sum(log_p[a * (exact.VOCAB + 1) + b, c] for a, b, c in triples))
    found = ending_log_probability(target.process, jnp.asarray(texts), jnp.asarray(ENDING))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_both_histograms_are_drawn() -> None:
    target = generation(exact.small_lm(), exact.PROMPT, max_tokens=3, continuation=ENDING, eos_id=None)
    result = smcinfer.sample(jax.random.key(0), target, num_particles=16, num_runs=2, progress=False)
    labels = [text.get_text() for text in plot_endings(target, result).axes[0].get_legend().get_texts()]
    assert labels == ["told with no ending in mind", "drawn given the ending"]


def test_without_an_ending_there_is_nothing_to_draw() -> None:
    target = generation(exact.small_lm(), exact.PROMPT, max_tokens=3, eos_id=None)
    with pytest.raises(ArgumentError, match="nothing is given"):
        plot_endings(target, make_result())
