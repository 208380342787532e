"""Models that are given as functions, or live outside JAX: the same strings with the same weights."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.language import HostLM, TableLM, from_callable, from_transformers, generation, load
from smcinfer.run.runner import run
from tests import exact_language
from tests.exact_language import EOS, LENGTH, PROMPT, VOCAB, strings
from tests.language.test_models import GOLDEN
from tests.statistics import assert_mean_one_log


def jax_function(lm: TableLM):  # noqa: ANN201
    """The table as a JAX function of one padded sequence."""

    def next_logits(tokens: jax.Array, length: jax.Array) -> jax.Array:
        window = jax.lax.dynamic_slice_in_dim(tokens, length - 2, 2)
        return lm.table[window[0] * (VOCAB + 1) + window[1]]

    return next_logits


class NumpyTable(HostLM):
    """The table in numpy: what it keeps of a sequence is the sequence."""

    def __init__(self, table: np.ndarray) -> None:
        self.vocab_size, self.max_positions, self.table, self.moves = VOCAB, None, table, 0

    def _logits(self, kept: np.ndarray) -> np.ndarray:
        return self.table[kept[:, -2] * (VOCAB + 1) + kept[:, -1]]

    def start(self, prompt: Sequence[int], num_sequences: int) -> tuple[np.ndarray, np.ndarray]:
        kept = np.tile(np.asarray(prompt), (num_sequences, 1))
        return self._logits(kept)[0], kept

    def step(self, tokens: np.ndarray, rows: np.ndarray | None, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if rows is not None:
            self.moves += 1
            kept = kept[rows]
        kept = np.concatenate([kept, tokens[:, None]], axis=1)
        return self._logits(kept), kept


@pytest.mark.slow
def test_functions_are_models() -> None:
    lm = exact_language.small_lm()

    def on_host(rows: list[list[int]]) -> np.ndarray:
        return np.stack([np.asarray(lm.table)[row[-2] * (VOCAB + 1) + row[-1]] for row in rows])

    settings = {"max_tokens": LENGTH, "eos_id": EOS, "end": "force"}
    models = [lm, from_callable(jax_function(lm), VOCAB), from_callable(on_host, VOCAB, host=True)]
    runs = [
        run(jax.random.key(0), generation(model, PROMPT, exact_language.stepwise_score, **settings), 16, num_runs=3)
        for model in models
    ]
    for other in runs[1:]:
        np.testing.assert_array_equal(other.particles.state.tokens, runs[0].particles.state.tokens)
        np.testing.assert_allclose(other.log_z, runs[0].log_z, rtol=1e-5)
    tokens = jnp.asarray([3, 1, 4, 0])
    np.testing.assert_allclose(models[1].forward(tokens).logits[1:], lm.forward(tokens).logits[1:])


def test_a_model_on_the_host_is_weighed_right() -> None:
    lm = NumpyTable(np.asarray(exact_language.small_lm().table))
    model = generation(lm, PROMPT, exact_language.stepwise_score, max_tokens=LENGTH, eos_id=EOS, end="force")
    done = run(jax.random.key(1), model, 40, num_runs=40, resample_below=0.9)
    assert_mean_one_log(done.log_z, strings(end="force").log_z)
    assert lm.moves > 0 and not model.memories
    assert set(model.exported(done.particles)) == {"tokens", "length", "finished"}
    assert sum(entry.weight for entry in model.decode(done)) == pytest.approx(1.0, abs=1e-5)


def test_rows_follow_their_ancestors() -> None:
    """What the model says at the end is what it would say of the tokens that the particle shows."""
    lm = NumpyTable(np.asarray(exact_language.small_lm().table))
    model = generation(lm, PROMPT, exact_language.stepwise_score, max_tokens=LENGTH)
    done = run(jax.random.key(2), model, 32, resample_below=1.0)
    tokens = np.asarray(done.particles.tokens[0])
    expected = lm.table[tokens[:, -2] * (VOCAB + 1) + tokens[:, -1]]
    np.testing.assert_allclose(done.particles.logits[0], expected, rtol=1e-6)
    assert lm.moves == LENGTH - 1 or lm.moves == LENGTH - 2  # the first reward comes with the second token


def test_a_transformers_model_keeps_its_cache_in_order() -> None:
    transformers = pytest.importorskip("transformers")
    torch_model = transformers.AutoModelForCausalLM.from_pretrained(GOLDEN / "llama2")
    prefers_small = lambda t, state: -0.1 * state.last_token.astype(jnp.float32)  # noqa: E731
    model = generation(from_transformers(torch_model), [1, 5, 9], prefers_small, max_tokens=8, eos_id=None)
    done = run(jax.random.key(3), model, 24, resample_below=0.8, num_runs=2)
    assert np.asarray(done.history["resampled"]).any()
    lm = load(GOLDEN / "llama2").lm
    for tokens, logits in zip(done.particles.tokens[:, :5], done.particles.logits[:, :5], strict=True):
        sequences = jnp.concatenate([jnp.broadcast_to(jnp.asarray([1, 5, 9]), (5, 3)), jnp.asarray(tokens)], axis=1)
        expected = jax.vmap(lm.forward)(sequences).logits[:, -1]
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_what_cannot_be_is_refused() -> None:
    lm = NumpyTable(np.zeros((36, VOCAB)))
    with pytest.raises(ArgumentError, match="takes no twist"):
        generation(lm, PROMPT, max_tokens=2, twist=lambda t, state: jnp.zeros(()))
    with pytest.raises(ArgumentError, match="not a transformers model"):
        from_transformers(lm)
    with pytest.raises(TargetError, match="next_logits returned the wrong shape"):
        generation(from_callable(lambda tokens, length: jnp.zeros(3), VOCAB), PROMPT, max_tokens=2)


def test_what_a_function_on_the_host_raises_comes_out() -> None:
    def broken(rows: list[list[int]]) -> np.ndarray:
        raise KeyError("lost")

    with pytest.raises(TargetError, match="next_logits raised KeyError(.|\n)*lost"):
        generation(from_callable(broken, VOCAB, host=True), PROMPT, max_tokens=2)
