"""Readers beside the model: several at once, each with its own state, through resampling, against the sum over all strings."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.language import Reader, companion, generation, second_model, table_lm, terminal
from smcinfer.language.constraints import allowed_texts, constrained
from smcinfer.language.networks.callables import from_callable
from smcinfer.run.runner import run
from tests.exact_language import EOS, LENGTH, PROMPT, VOCAB, small_lm, strings
from tests.statistics import assert_mean_one_log

WORDS = [b"", b"a", b"b", b"ab", b"c"]
TEXTS = ["abc", "ca", "abab", "b"]


class Count(Reader):
    """How often a token was generated."""

    token: int = eqx.field(static=True)
    vocab_size: int = eqx.field(static=True, default=VOCAB)

    def start(self, max_tokens: int) -> jax.Array:
        return jnp.zeros((), jnp.int32)

    def read(self, t: jax.Array, carried: jax.Array, token: jax.Array) -> jax.Array:
        return carried + (token == self.token).astype(jnp.int32)


def test_a_constraint_a_second_model_and_a_counter_read_along(x64: None) -> None:
    def score(string: tuple[int, ...]) -> float:
        allowed = string[-1:] == (EOS,) and b"".join(WORDS[token] for token in string).decode() in TEXTS
        return 0.7 * string.count(1) if allowed else -np.inf

    model = constrained(
        small_lm(),
        PROMPT,
        allowed_texts(TEXTS, WORDS, EOS),
        terminal(lambda state: 0.7 * state.readings["a"]),
        max_tokens=LENGTH,
        readers={"companion": companion(table_lm(jax.random.key(11), VOCAB, 1)), "a": Count(1)},
        proposal=second_model(1.3),
    )
    done = run(jax.random.key(0), model, 32, num_runs=400)
    assert_mean_one_log(done.log_z, strings(score).log_z)
    state: Any = done.particles.state
    np.testing.assert_array_equal(state.readings["a"], (np.asarray(state.tokens) == 1).sum(axis=-1))
    assert set(state.readings) == {"companion", "a", "constraint"}


def test_readers_that_do_not_fit_are_refused() -> None:
    short = from_callable(lambda tokens, length: jnp.zeros(VOCAB), VOCAB, max_positions=3)
    with pytest.raises(ArgumentError, match="the reader 'a' has another vocabulary than the model"):
        generation(small_lm(), PROMPT, max_tokens=2, readers={"a": Count(1, VOCAB + 1)})
    with pytest.raises(ArgumentError, match="do not fit into the companion's context"):
        generation(small_lm(), PROMPT, max_tokens=2, readers={"companion": companion(short)})
