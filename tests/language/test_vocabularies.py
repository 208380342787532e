"""Parts of a target speak of the model's own tokens and text: others are refused, and functions see what `decode` shows."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import tokenizers

from smcinfer.ground.errors import ArgumentError
from smcinfer.language import Pretrained, Tokenizer, generation
from smcinfer.language.constraints import (
    adaptive_rejection,
    allowed_texts,
    constrained,
    lark,
    on_host,
    regex,
    starts_with,
)
from smcinfer.language.potentials import avoids, contains, on_text
from smcinfer.language.proposals.companion import companion
from smcinfer.run.runner import run
from tests.exact_language import EOS, LENGTH, PROMPT, small_lm, strings
from tests.statistics import assert_mean

PIECES = ["</s>", "▁a", "b", "ab", "."]
STOP = 4


def tokenizer_of(pieces: list[str]) -> Tokenizer:
    """Tokens of a sentencepiece vocabulary, whose decoder strips the space that a text begins with."""
    inner = tokenizers.Tokenizer(tokenizers.models.BPE({piece: place for place, piece in enumerate(pieces)}, []))
    steps = [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.Fuse(), tokenizers.decoders.Strip(" ", 1, 0)]
    inner.decoder = tokenizers.decoders.Sequence(steps)
    inner.add_special_tokens([pieces[0]])
    return Tokenizer(inner, None, 0)


def model_of(pieces: list[str]) -> Pretrained:
    return Pretrained(small_lm(), tokenizer_of(pieces), None, EOS, "", {})


MODEL, OTHER = model_of(PIECES), model_of([PIECES[0], "b", "▁a", "ab", "."])


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("potential", lambda: generation(MODEL, PROMPT, contains("ab", OTHER), max_tokens=2)),
        ("potential", lambda: generation(MODEL, PROMPT, avoids(["b"], OTHER) * contains("ab", MODEL), max_tokens=2)),
        ("potential", lambda: generation(MODEL, PROMPT, ~contains("ab", OTHER.tokenizer), max_tokens=2)),
        ("potential", lambda: generation(MODEL, PROMPT, on_text(len, OTHER, every_step=True), max_tokens=2)),
        ("potential", lambda: generation(MODEL.lm, PROMPT, contains("b", OTHER) * contains("b", MODEL), max_tokens=2)),
        ("constraint", lambda: constrained(MODEL, PROMPT, regex("ab", OTHER), max_tokens=2)),
        ("constraint", lambda: constrained(MODEL, PROMPT, lark('start: "b"', OTHER), max_tokens=2)),
        ("constraint", lambda: constrained(MODEL, PROMPT, allowed_texts(["b"], OTHER), max_tokens=2)),
        ("constraint", lambda: constrained(MODEL, PROMPT, starts_with("b", OTHER), max_tokens=2)),
        ("constraints", lambda: regex("ab", OTHER) & regex("ab", MODEL)),
        ("companion", lambda: generation(MODEL, PROMPT, max_tokens=2, readers={"companion": companion(OTHER)})),
        (
            "proposal",
            lambda: generation(
                MODEL, PROMPT, max_tokens=2, proposal=adaptive_rejection(on_host(lambda text, ended: True, OTHER))
            ),
        ),
    ],
)
def test_parts_of_another_model_are_refused(name: str, make: Callable[[], Any]) -> None:
    with pytest.raises(ArgumentError, match=f"the {name} .*(another|different) vocabular"):
        make()


def test_the_same_vocabulary_read_twice_is_the_same() -> None:
    again = model_of(PIECES)
    assert again.tokenizer is not None and again.tokenizer is not MODEL.tokenizer
    target = constrained(MODEL, PROMPT, regex("( a|b|ab)*", again), contains("ab", again), max_tokens=2)
    assert target.num_steps == 2


@pytest.mark.dealt
@pytest.mark.parametrize("every_step", [False, True])
def test_a_function_of_text_sees_what_decode_shows(every_step: bool) -> None:
    seen: list[str] = []

    def note(text: str) -> float:
        seen.append(text)
        return 0.0

    target = generation(MODEL, PROMPT, on_text(note, MODEL, every_step=every_step), max_tokens=LENGTH, eos_id=STOP)
    shown = {text.text for text in target.decode(run(jax.random.key(0), target, 64, history="none"))}
    assert any(text.startswith(" a") for text in shown) and not any("." in text for text in shown)
    assert shown <= set(seen) and all("." not in text for text in seen)
    assert every_step or shown == set(seen)


@pytest.mark.slow
def test_its_normaliser_is_that_of_the_text(x64: None) -> None:
    def reward(text: str) -> float:
        return 0.8 * text.count(" ")

    def score(string: tuple[int, ...]) -> float:
        return 0.8 * string.count(1)

    exact = strings(score, eos=STOP)
    model = model_of(PIECES)
    target = generation(model, PROMPT, on_text(reward, model), max_tokens=LENGTH, eos_id=STOP)
    done = run(jax.random.key(0), target, 64, num_runs=256)
    assert_mean(np.exp(np.asarray(done.log_z) - exact.log_z), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("batched", [False, True])
def test_yes_and_no_are_a_condition(batched: bool, x64: None) -> None:
    def condition(text: Any) -> Any:
        return ["b" in one for one in text] if batched else "b" in text

    model = model_of(PIECES)
    log_z = [
        run(jax.random.key(0), generation(model, PROMPT, potential, max_tokens=2), 512).log_z
        for potential in (on_text(condition, model, batched=batched), contains("b", model))
    ]
    np.testing.assert_allclose(log_z[0], log_z[1], rtol=1e-12)


def test_a_prompt_that_is_given_is_seen() -> None:
    seen: list[str] = []

    def note(text: str) -> float:
        seen.append(text)
        return 0.0

    target = generation(MODEL, PROMPT, on_text(note, MODEL, prompt="Once"), max_tokens=1)
    run(jax.random.key(0), target, 16)
    assert seen and all(text.startswith("Once") for text in seen)
