"""Models that are given as functions, or live outside JAX: the same strings with the same weights."""

import gc
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer import twists
from smcinfer.ground.errors import ArgumentError, CheckpointError, TargetError
from smcinfer.language import (
    HostLM,
    TableLM,
    companion,
    exact,
    filtered,
    from_callable,
    from_transformers,
    generation,
    load,
    second_model,
    terminal,
)
from smcinfer.language.constraints import allowed_texts, constrained
from smcinfer.language.decoding.cascade import cascade
from smcinfer.language.decoding.segment_gibbs import segment_gibbs
from smcinfer.language.infilling import infilling_head
from smcinfer.language.proposals.filters import TopK
from smcinfer.run.runner import run
from tests import exact_language
from tests.exact_language import EOS, LENGTH, PROMPT, VOCAB, TabulatedTwist, strings
from tests.language.test_models import GOLDEN
from tests.statistics import assert_mean_one_log


def jax_function(lm: TableLM):  # noqa: ANN201
    """The table as a JAX function of one padded sequence."""

    def next_logits(tokens: jax.Array, length: jax.Array) -> jax.Array:
        window = jax.lax.dynamic_slice_in_dim(tokens, length - 2, 2)
        return lm.table[window[0] * (VOCAB + 1) + window[1]]

    return next_logits


class Kept:
    """What the table keeps of its sequences: the sequences."""

    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = tokens


class NumpyTable(HostLM):
    """The table in numpy.

    Attributes:
        steps, moves: calls of `step`, and those that went on from other rows.
        breaks_at: the call that raises, or ``None``.
        kept: what it has kept so far, as far as somebody still holds it.
    """

    def __init__(self, table: np.ndarray) -> None:
        self.vocab_size, self.max_positions, self.table = VOCAB, None, table
        self.steps, self.moves = 0, 0
        self.breaks_at: int | None = None
        self.kept: weakref.WeakSet[Kept] = weakref.WeakSet()

    def _keep(self, tokens: np.ndarray) -> tuple[np.ndarray, Kept]:
        kept = Kept(tokens)
        self.kept.add(kept)
        return self.table[tokens[:, -2] * (VOCAB + 1) + tokens[:, -1]], kept

    def start(self, prompt: Sequence[int], num_sequences: int) -> tuple[np.ndarray, Kept]:
        logits, kept = self._keep(np.tile([VOCAB, *prompt], (num_sequences, 1)))
        return logits[0], kept

    def step(self, tokens: np.ndarray, rows: np.ndarray | None, kept: Kept) -> tuple[np.ndarray, Kept]:
        if self.steps == self.breaks_at:
            raise ConnectionError("the network is gone")
        self.steps += 1
        self.moves += rows is not None
        before = kept.tokens if rows is None else kept.tokens[rows]
        return self._keep(np.concatenate([before, tokens[:, None]], axis=1))


def numpy_table() -> NumpyTable:
    """The enumerable model outside JAX."""
    return NumpyTable(np.asarray(exact_language.small_lm().table))


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


@pytest.mark.slow
def test_a_model_on_the_host_is_weighed_right() -> None:
    lm = numpy_table()
    model = generation(lm, PROMPT, exact_language.stepwise_score, max_tokens=LENGTH, eos_id=EOS, end="force")
    done = run(jax.random.key(1), model, 40, num_runs=40, resample_below=0.9)
    assert_mean_one_log(done.log_z, strings(end="force").log_z)
    # One call a step for all runs together; sequences that did not change their rows are not moved.
    assert lm.steps == LENGTH and 0 < lm.moves < LENGTH
    # What the model says at the end is what it would say of the tokens that the particle shows.
    state = done.particles.state
    tokens, alive = np.asarray(state.tokens), ~np.asarray(state.finished)
    expected = lm.table[tokens[..., -2] * (VOCAB + 1) + tokens[..., -1]]
    np.testing.assert_allclose(np.asarray(state.logits)[alive], expected[alive], rtol=1e-6)
    assert set(model.exported(done.particles)) == {"tokens", "length", "finished"}
    assert sum(entry.weight for entry in model.decode(done)) == pytest.approx(1.0, abs=1e-5)
    assert not lm.kept


WORDS = [b"", b"a", b"b", b"ab", b"c"]
WAYS = {
    "constraint": lambda lm: constrained(lm, PROMPT, allowed_texts(["abc", "ca", "abab"], WORDS, EOS), max_tokens=4),
    "continuation and filter": lambda lm: generation(
        lm, PROMPT, max_tokens=2, continuation=[2, 1], eos_id=None, proposal=filtered(TopK(3), model_share=0.1)
    ),
    "twist": lambda lm: generation(
        lm, PROMPT, exact_language.stepwise_score, max_tokens=LENGTH, eos_id=EOS, twist=TabulatedTwist.of(strings())
    ),
    "companion": lambda lm: generation(
        exact_language.small_lm(), PROMPT, max_tokens=4, eos_id=EOS,
        readers={"companion": companion(lm, [3, 0])}, proposal=second_model(1.3),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_what_a_model_in_jax_can_do_one_on_the_host_can(way: str) -> None:
    on_host, in_jax = (
        run(jax.random.key(2), WAYS[way](lm), 8, num_runs=2, resample_below=0.9)
        for lm in (numpy_table(), exact_language.small_lm())
    )
    np.testing.assert_array_equal(on_host.particles.state.tokens, in_jax.particles.state.tokens)
    np.testing.assert_allclose(on_host.log_z, in_jax.log_z, rtol=1e-5)


def test_bounds_from_above_and_enumeration_call_the_host() -> None:
    options = {"max_tokens": 3, "eos_id": EOS}
    on_host, in_jax = (
        exact.enumerated(generation(lm, PROMPT, terminal(lambda state: -0.3 * state.last_token), **options))
        for lm in (numpy_table(), exact_language.small_lm())
    )
    np.testing.assert_allclose(on_host.log_joint, in_jax.log_joint, rtol=1e-5)
    tokens = jnp.asarray([3, 1, 4, 0])
    np.testing.assert_allclose(
        numpy_table().lm.forward(tokens).logits, exact_language.small_lm().forward(tokens).logits, rtol=1e-6
    )


@pytest.mark.slow
def test_a_run_that_is_cut_keeps_nothing_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    lm = numpy_table()
    model = generation(lm, PROMPT, exact_language.stepwise_score, max_tokens=LENGTH, eos_id=EOS)

    def go(**options: Any) -> Any:
        return run(jax.random.key(4), model, 8, num_runs=2, resample_below=0.9, chunk_steps=2, **options)

    whole = go()
    saved = {"checkpoint": tmp_path / "run", "checkpoint_seconds": 1e-9}
    lm.steps, lm.breaks_at = 0, 3
    with pytest.raises(TargetError, match="the model on the host raised ConnectionError: the network is gone"):
        go(**saved)
    gc.collect()
    assert not lm.kept
    lm.breaks_at = None
    resumed = go(**saved)
    np.testing.assert_array_equal(resumed.log_z, whole.log_z)
    np.testing.assert_array_equal(resumed.particles.state.tokens, whole.particles.state.tokens)
    # Three steps before the break, two of them read again, and the other half of the run.
    assert lm.steps == 3 + 2 + (LENGTH - 2) and not lm.kept
    other = NumpyTable(lm.table[:, ::-1])
    with pytest.raises(CheckpointError, match="another run"):
        model = generation(other, PROMPT, exact_language.stepwise_score, max_tokens=LENGTH, eos_id=EOS)
        go(**saved)


def test_a_transformers_model_keeps_its_cache_in_order() -> None:
    transformers = pytest.importorskip("transformers")
    torch_model = transformers.AutoModelForCausalLM.from_pretrained(GOLDEN / "llama2")
    prefers_small = lambda t, state: -0.1 * state.last_token.astype(jnp.float32)  # noqa: E731
    model = generation(from_transformers(torch_model), [1, 5, 9], prefers_small, max_tokens=8, eos_id=None)
    done = run(jax.random.key(3), model, 24, resample_below=0.8, num_runs=2)
    assert np.asarray(done.history["resampled"]).any()
    lm = load(GOLDEN / "llama2").lm
    for tokens, logits in zip(done.particles.state.tokens[:, :5], done.particles.state.logits[:, :5], strict=True):
        sequences = jnp.concatenate([jnp.broadcast_to(jnp.asarray([1, 5, 9]), (5, 3)), jnp.asarray(tokens)], axis=1)
        expected = jax.vmap(lm.forward)(sequences).logits[:, -1]
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_recurrent_transformers_model_reads_its_tokens_again() -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    sizes = {"vocab_size": 11, "hidden_size": 8, "state_size": 4, "num_hidden_layers": 2, "eos_token_id": 0}
    torch_model = transformers.MambaForCausalLM(transformers.MambaConfig(**sizes)).eval()
    prefers_small = lambda t, state: -0.3 * state.last_token.astype(jnp.float32)  # noqa: E731
    model = generation(from_transformers(torch_model), [1, 5, 9], prefers_small, max_tokens=5, eos_id=None)
    done = run(jax.random.key(3), model, 12, resample_below=0.9)
    assert np.asarray(done.history["resampled"]).any()
    tokens = np.concatenate([np.tile([1, 5, 9], (12, 1)), np.asarray(done.particles.state.tokens[0])], axis=1)
    with torch.no_grad():
        expected = torch_model(torch.from_numpy(tokens.astype(np.int64)), use_cache=False).logits[:, -1].numpy()
    np.testing.assert_allclose(done.particles.state.logits[0], expected, atol=1e-5)


class ThreeLogits(NumpyTable):
    """A model that says too little."""

    def start(self, prompt: Sequence[int], num_sequences: int) -> tuple[np.ndarray, Kept]:
        logits, kept = super().start(prompt, num_sequences)
        return logits[:3], kept


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: cascade(jax.random.key(0), numpy_table(), PROMPT, lambda *_: 0.0, max_tokens=2),
         ArgumentError, "reads sequences of"),
        (lambda: segment_gibbs(jax.random.key(0), numpy_table(), [[1], 2]), ArgumentError, "reads sequences of"),
        (lambda: twists.linear_head(numpy_table().lm.dim, VOCAB), ArgumentError, "no hidden state to read"),
        (lambda: infilling_head(jax.random.key(0), numpy_table().lm, jnp.asarray([1]), num_tokens=1, num_given=1),
         ArgumentError, "output is not its embedding"),
        (lambda: generation(ThreeLogits(np.zeros((36, VOCAB))), PROMPT, max_tokens=2), TargetError, "returned the wrong shape"),
        (lambda: generation("a name", PROMPT, max_tokens=2), ArgumentError, "lm is no language model"),
        (lambda: from_transformers(numpy_table()), ArgumentError, "not a transformers model"),
        (lambda: generation(from_callable(lambda tokens, length: jnp.zeros(3), VOCAB), PROMPT, max_tokens=2),
         TargetError, "next_logits returned the wrong shape"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_what_a_function_on_the_host_raises_comes_out() -> None:
    def broken(rows: list[list[int]]) -> np.ndarray:
        raise KeyError("lost")

    with pytest.raises(TargetError, match="next_logits raised KeyError(.|\n)*lost"):
        generation(from_callable(broken, VOCAB, host=True), PROMPT, max_tokens=2)
