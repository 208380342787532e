"""Potentials of sequences against plain Python on every string of the enumerable model, and how they compose."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.language import Tokenizer, generation, table_lm
from smcinfer.language.letters import in_words
from smcinfer.language.potentials import (
    Factor,
    avoids,
    classifier,
    contains,
    length,
    on_text,
    on_tokens,
    repetition,
)
from smcinfer.language.spelling import is_word, occurs, spelling
from smcinfer.run.runner import run
from tests import exact_language as exact
from tests.statistics import assert_mean_one_log

PIECES = ["", "▁a", "b", "ab", "▁"]


def tiny_tokenizer() -> Tokenizer:
    """Five tokens that spell some texts in several ways; 0 ends a sequence."""
    vocabulary = {piece or "</s>": place for place, piece in enumerate(PIECES)}
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    inner.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.Fuse()])
    inner.add_special_tokens(["</s>"])
    return Tokenizer(inner, None, exact.EOS)


WORDS = tiny_tokenizer()


def tokens_of(string: tuple[int, ...]) -> tuple[int, ...]:
    """Up to and with the end."""
    return string if exact.EOS not in string else string[: string.index(exact.EOS) + 1]


def text_of(string: tuple[int, ...]) -> str:
    """The text that a string spells."""
    return "".join(PIECES[token] for token in string).replace("▁", " ")


def has_run(string: tuple[int, ...], run: tuple[int, ...]) -> bool:
    """Whether tokens follow each other somewhere."""
    return any(string[place : place + len(run)] == run for place in range(len(string)))


def num_repeats(string: tuple[int, ...], size: int) -> int:
    """How many tokens complete a run that came before."""
    runs = [string[place : place + size] for place in range(len(string) - size + 1)]
    return sum(run in runs[:place] for place, run in enumerate(runs))


def log_of(truth: bool) -> float:
    """Log of an indicator."""
    return 0.0 if truth else -math.inf


def two_classes(tokens: jax.Array, length: jax.Array) -> jax.Array:
    """Log probabilities of a made-up classifier."""
    logit = 0.7 * jnp.sum(jnp.where(jnp.arange(tokens.shape[0]) < length, tokens == 2, False)) - 0.5
    return jnp.stack([jax.nn.log_sigmoid(-logit), jax.nn.log_sigmoid(logit)])


def probability(string: tuple[int, ...]) -> float:
    """Of class 1, in plain Python."""
    return 1 / (1 + math.exp(0.5 - 0.7 * string.count(2)))


B_COUNTS = on_text(lambda text: -0.3 * text.count("b"), WORDS, largest=0.0)
LABEL = classifier(two_classes, 1)

CASES: dict[str, tuple[Factor, Callable[[tuple[int, ...]], float]]] = {
    "contains text": (contains("ab", WORDS), lambda s: log_of("ab" in text_of(s))),
    "contains one of": (
        contains(["aab", "bab"], WORDS, log_miss=-2.0),
        lambda s: 0.0 if "aab" in text_of(s) or "bab" in text_of(s) else -2.0,
    ),
    "contains a word": (contains("ab", WORDS, whole_words=True), lambda s: log_of("ab" in text_of(s).split())),
    "contains any case": (contains("AB", WORDS, ignore_case=True), lambda s: log_of("ab" in text_of(s))),
    "contains tokens": (contains([2, 3]), lambda s: log_of(has_run(s, (2, 3)))),
    "contains one of the runs": (contains([[4], [1, 1]]), lambda s: log_of(has_run(s, (4,)) or has_run(s, (1, 1)))),
    "avoids text": (avoids("ba", WORDS), lambda s: log_of("ba" not in text_of(s))),
    "avoids a word": (avoids("a", WORDS, whole_words=True), lambda s: log_of("a" not in text_of(s).split())),
    "avoids tokens": (avoids([3, 3]), lambda s: log_of(not has_run(s, (3, 3)))),
    "length": (length(2, 4, log_per_token=-0.4), lambda s: -0.4 * len(s) if 2 <= len(s) <= 4 else -math.inf),
    "repetition": (repetition(-0.7, 2), lambda s: -0.7 * num_repeats(s, 2)),
    "classifier": (LABEL, lambda s: math.log(probability(s))),
    "negated classifier": (~LABEL, lambda s: math.log(1 - probability(s))),
    "negated event": (~contains("ab", WORDS), lambda s: log_of("ab" not in text_of(s))),
    "power": (LABEL**3.0, lambda s: 3 * math.log(probability(s))),
    "threshold": (LABEL.at_least(math.log(0.5)), lambda s: log_of(probability(s) >= 0.5)),
    "soft threshold": (B_COUNTS.at_least(-0.5, -4.0), lambda s: 0.0 if text_of(s).count("b") < 2 else -4.0),
    "product": (
        LABEL * length(1, 5) * (lambda t, state: -0.1 * (state.last_token == 4)),
        lambda s: math.log(probability(s)) + log_of(len(s) <= 5) - 0.1 * s.count(4),
    ),
    "text": (B_COUNTS, lambda s: -0.3 * text_of(s).count("b")),
    "text at every step": (
        on_text(lambda text: 0.2 * len(text), WORDS, every_step=True),
        lambda s: 0.2 * sum(len(text_of(s[: size + 1])) for size in range(len(s))),
    ),
    "tokens at every step": (
        on_tokens(lambda tokens, length: 0.1 * tokens[length - 1], every_step=True),
        lambda s: 0.1 * sum(s),
    ),
}


@pytest.fixture(scope="module")
def totals() -> dict[str, np.ndarray]:
    """What each potential adds up to along every string, in one compiled program."""
    process = generation(exact.small_lm(), exact.PROMPT, max_tokens=exact.LENGTH, eos_id=exact.EOS).process
    factors = [factor for factor, _ in CASES.values()]

    def along(string: jax.Array) -> jax.Array:
        def step(state, at):  # noqa: ANN001, ANN202
            t, token = at
            state = process.advance(t, state, token)
            paid = jnp.stack([factor(t, state).astype(jnp.float32) for factor in factors])
            return state, jnp.where(state.just_read(t), paid, 0.0)

        start = process.advance(jnp.asarray(0), None, None)
        return jnp.sum(jax.lax.scan(step, start, (jnp.arange(1, exact.LENGTH + 1), string))[1], axis=0)

    values = jax.jit(jax.vmap(along))(jnp.asarray(exact.strings().strings, jnp.int32))
    return dict(zip(CASES, np.asarray(values).T, strict=True))


@pytest.mark.dealt
@pytest.mark.parametrize("name", CASES)
def test_potentials_say_what_plain_python_says(name: str, totals: dict[str, np.ndarray]) -> None:
    factor, reference = CASES[name]
    expected = [reference(tokens_of(tuple(string))) for string in exact.strings().strings.tolist()]
    np.testing.assert_allclose(totals[name], expected, rtol=2e-5, atol=1e-6)
    if factor.log_bound is not None:
        assert max(expected) <= factor.log_bound + 1e-6
    assert len(set(np.round(expected, 3))) > 1, "the case is the same for all strings"


@pytest.mark.slow
def test_a_run_with_text_on_the_host_is_unbiased_and_asks_once_a_text() -> None:
    asked: list[str] = []

    def reward(texts: list[str]) -> list[float]:
        asked.extend(texts)
        return [-0.3 * text.count("b") for text in texts]

    target = generation(
        exact.small_lm(),
        exact.PROMPT,
        on_text(reward, WORDS, batched=True) * avoids("ba", WORDS),
        max_tokens=exact.LENGTH,
        eos_id=exact.EOS,
    )
    log_z = run(jax.random.key(0), target, 32, num_runs=400, history="none").log_z

    def score(string: tuple[int, ...]) -> float:
        return -0.3 * text_of(string).count("b") + log_of("ba" not in text_of(string))

    assert_mean_one_log(np.asarray(log_z), exact.strings(score).log_z)
    # Once a different text among those that end at the same step, whatever the number of particles.
    assert len(asked) <= exact.LENGTH * len({text_of(tuple(string)) for string in exact.strings().strings.tolist()})


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda text: {}[text], "raised KeyError"),
        (lambda text: [1.0, 2.0], "returned the wrong shape"),
        (lambda text: "good", "raised ValueError"),
    ],
)
def test_what_a_text_function_does_wrong_is_named(function: Callable[[str], float], words: str) -> None:
    target = generation(table_lm(jax.random.key(0), 5, 1), [1], on_text(function, WORDS), max_tokens=1)
    with pytest.raises(TargetError, match=words):
        run(jax.random.key(0), target, 4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: contains("", WORDS), "nothing to look for"),
        (lambda: contains("a"), "no tokenizer"),
        (lambda: contains([]), "neither text nor a run"),
        (lambda: contains([1.5]), "neither text nor a run"),
        (lambda: contains([1], ignore_case=True), "neither case nor words"),
        (lambda: contains("a", WORDS, log_miss=1.0), "log_miss is out of range"),
        (lambda: length(4, 2), "no length is in this range"),
        (lambda: repetition(0.5), "no such penalty"),
        (lambda: ~avoids("a", WORDS), "only an event can be negated"),
        (lambda: ~on_tokens(lambda tokens, length: 0.0), "only an event can be negated"),
        (lambda: repetition(-1.0).at_least(0.0), "only a terminal potential"),
        (lambda: LABEL**0.0, "asks for nothing"),
        (lambda: LABEL * 3.0, "a potential is a function"),
        (lambda: on_text("reward", WORDS), "is a function"),
        (lambda: on_text(len, "words"), "no tokenizer"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


def test_bounds_of_compositions() -> None:
    assert (LABEL * B_COUNTS).log_bound == 0.0
    assert (length(2, 4, log_per_token=0.5) ** 2.0).log_bound == 4.0
    assert (LABEL**-1.0).log_bound is None
    assert (LABEL * (lambda t, state: jnp.zeros(()))).log_bound is None
    assert LABEL.terminal and not (LABEL * avoids("a", WORDS)).terminal


SPELLED = 'Zoë said: "It\'s 5€!"\nThe café… '


def sentencepiece_words() -> tokenizers.Tokenizer:
    """A vocabulary with spaces as ▁ and bytes for what it lacks."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"Zosaid:It's5!Thecf", "▁s"]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("▁", "s")], byte_fallback=True, unk_token="<unk>"))
    made.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def byte_level_words() -> tokenizers.Tokenizer:
    """A vocabulary as GPT-2 has it."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate([*letters, "<|endoftext|>", "Ġs"])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("Ġ", "s")]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(["<|endoftext|>"])
    return made


@pytest.mark.parametrize("make", [sentencepiece_words, byte_level_words])
def test_bytes_of_tokens_spell_the_text(make: Callable[[], tokenizers.Tokenizer]) -> None:
    words = Tokenizer(make(), None, None)
    ids = words.encode_plain(SPELLED)
    padded = jnp.asarray([*ids, 0, 0], jnp.int32)
    text, size = spelling(words).read(padded, jnp.asarray(len(ids)))
    assert bytes(np.asarray(text[: int(size)]).tolist()) == SPELLED.encode()
    assert not np.asarray(text[int(size) :]).any()


def test_a_special_token_spells_nothing() -> None:
    table = spelling(Tokenizer(byte_level_words(), None, 256))
    text, size = table.read(jnp.asarray([256, 257]), jnp.asarray(2))
    assert bytes(np.asarray(text[: int(size)]).tolist()) == b" s"


@pytest.mark.slow
@pytest.mark.parametrize("ended", [True, False])
def test_a_whole_word_at_the_end_of_a_text_may_still_grow(ended: bool) -> None:
    def found(text: str) -> bool:
        data = jnp.asarray(np.frombuffer(text.encode(), np.uint8))
        return bool(occurs(data, jnp.asarray(len(text)), b"sad", whole=True, ended=jnp.asarray(ended)))

    assert found("a sad cat") and found("sad, he") and not found("Sadie is sadder") and not found("unsad")
    assert found("she is sad") == ended


def test_letters_of_words() -> None:
    text = jnp.asarray(np.frombuffer("aZ9'é- .\n".encode(), np.uint8))
    np.testing.assert_array_equal(is_word(text), [True] * 6 + [False] * 4)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("dog\u2014cat", True), ("a dog.", True), ("\u00abdog\u00bb", True), ("'dog'", True), ("\u2018dog\u2019", True),
        ("dog's", False), ("dog\u2019s", False), ("dog\u00e9", False), ("dog\u0301", False), ("\u0434dog", False),
        ("dog\u0663", False), ("dog\u4e2d", False), ("dog\U0001f600", True), ("\U0001d538dog", False),
        ("dog\u2026", True), ("dogs dog", True), ("do g", False),
    ],
)  # fmt: skip
def test_words_have_the_boundaries_of_unicode(text: str, found: bool) -> None:
    data = np.zeros(24, np.uint8)
    data[: len(text.encode())] = np.frombuffer(text.encode(), np.uint8)
    assert bool(occurs(jnp.asarray(data), jnp.asarray(len(text.encode())), b"dog", whole=True)) == found


@pytest.mark.slow
def test_letters_are_those_of_unicode() -> None:
    text = "a\u00e9 \u2014\u0434\u4e2d\U0001d538.\U0001f600_1"
    data = np.frombuffer(text.encode(), np.uint8)
    expected = [sign.isalnum() for sign in text for _ in sign.encode()]
    np.testing.assert_array_equal(in_words(jnp.asarray(data), jnp.asarray(len(data))), expected)
    # A letter that is cut off may be one yet.
    cut = jnp.asarray(data[:2])
    assert in_words(cut, jnp.asarray(2), False).tolist() == [True, True]
    assert in_words(cut, jnp.asarray(2), True).tolist() == [True, False]


def partial_bytes() -> tokenizers.Tokenizer:
    """Byte-level, trained without most of its alphabet; two words were added."""
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE({letter: at for at, letter in enumerate(["d", "o", "g", "Ġ", "Ġdog"])}, [])
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_tokens(["\u00b0C", "\u00e9"])
    return made


def test_bytes_have_their_letters_without_the_whole_alphabet() -> None:
    table = spelling(Tokenizer(partial_bytes(), None, None))
    text, size = table.read(jnp.asarray([4, 5, 6, 3, 0]), jnp.asarray(5))
    assert bytes(np.asarray(text[: int(size)]).tolist()).decode() == " dog\u00b0C\u00e9 d"
    assert Tokenizer(partial_bytes(), None, None).decode([4, 5, 5, 6, 3, 0]) == " dog\u00b0C\u00b0C\u00e9 d"


def with_parts(model: tokenizers.models.Model, decoder: tokenizers.decoders.Decoder | None = None) -> Tokenizer:
    made = tokenizers.Tokenizer(model)
    if decoder is not None:
        made.decoder = decoder
    return Tokenizer(made, None, None)


def bpe(*tokens: str, **options: str) -> tokenizers.models.BPE:
    return tokenizers.models.BPE({token: place for place, token in enumerate(tokens)}, [], **options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: with_parts(tokenizers.models.WordPiece({"[UNK]": 0, "dog": 1, "##s": 2})), "WordPiece"),
        (lambda: with_parts(tokenizers.models.WordLevel({"[UNK]": 0, "dog": 1})), "WordLevel"),
        (lambda: with_parts(bpe("dog</w>", end_of_word_suffix="</w>")), "EndOfWord"),
        (lambda: with_parts(bpe("a", "b"), tokenizers.decoders.CTC()), "not spelt as"),
        (lambda: with_parts(bpe("a", "\u4e2d"), tokenizers.decoders.ByteLevel()), "no sequence of bytes"),
    ],
)
def test_a_vocabulary_that_cannot_be_spelt_is_refused(make: Callable[[], Tokenizer], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        spelling(make())
