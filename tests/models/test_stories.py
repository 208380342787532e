"""The embedded story model: its directory, its card, and the parts of its recipe against sums done by hand."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from smcinfer import language
from smcinfer.ground.errors import ArgumentError
from smcinfer.language import Pretrained, Tokenizer, table_lm
from smcinfer.models import stories
from smcinfer.models.stories.corpus import BOS, EOS, VOCAB_SIZE, bits_per_byte, read, train_tokenizer
from smcinfer.models.stories.lessons import Lessons, lessons
from smcinfer.models.stories.recipe import CONFIG, STAGES, schedules

TEXTS = ["Once upon a time, a café had 3 cats.", 'The end.\n"Yes!" said Zoë.']
NUMBER = re.compile(r"(\d\.\d{3,4})")


@pytest.fixture(scope="module")
def words() -> tokenizers.Tokenizer:
    """The tokenizer of the directory."""
    return tokenizers.Tokenizer.from_file(str(stories.FOLDER / "tokenizer.json"))


def test_the_directory_loads_as_any_other() -> None:
    model = stories.load()
    assert (model.bos_id, model.eos_id, model.lm.vocab_size) == (BOS, EOS, VOCAB_SIZE)
    assert model.lm.config == CONFIG
    assert sum(path.stat().st_size for path in stories.FOLDER.glob("*.safetensors")) < 8e6


def test_it_knows_how_stories_go() -> None:
    model = stories.load()
    assert model.tokenizer is not None
    likely, unlikely = (
        "Once upon a time, there was a little girl named Lily.",
        "Lily there named upon a time little was.",
    )
    assert bits_per_byte(model, [likely]) < 0.6 < bits_per_byte(model, [unlikely])
    assert bits_per_byte(model, ["She was very happy. They played all day."]) < 2.0


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_spells_every_text(text: str, words: tokenizers.Tokenizer) -> None:
    ids = words.encode(text).ids
    assert ids[0] == BOS and words.decode(ids) == text


def test_bits_per_byte_is_the_sum_over_tokens(words: tokenizers.Tokenizer) -> None:
    lm = table_lm(jax.random.key(0), VOCAB_SIZE, 1)
    model = Pretrained(lm, Tokenizer(words, BOS, EOS), BOS, EOS, "", {})
    log_p = np.asarray(jax.nn.log_softmax(lm.table), np.float64)
    nats = 0.0
    for text in TEXTS:
        ids = words.encode(text).ids
        nats -= sum(log_p[one, two] for one, two in zip(ids, ids[1:], strict=False))
    expected = nats / np.log(2) / sum(len(text.encode()) for text in TEXTS)
    assert bits_per_byte(model, TEXTS) == pytest.approx(expected, rel=1e-5)


def coarse_words() -> tokenizers.Tokenizer:
    """A teacher's vocabulary: single letters and one merge, spaces as ▁, BOS in front."""
    pieces = ["<unk>", "<s>", "</s>", "▁", *"abcdefghijklmnopqrstuvwxyz.", "he"]
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE({piece: place for place, piece in enumerate(pieces)}, [("h", "e")], unk_token="<unk>")
    )
    made.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made


@pytest.fixture(scope="module")
def taught(words: tokenizers.Tokenizer) -> tuple[Lessons, Pretrained]:
    """What a made-up teacher says of two short texts."""
    coarse = coarse_words()
    lm = table_lm(jax.random.key(1), coarse.get_vocab_size(), 1)
    teacher = Pretrained(lm, Tokenizer(coarse, 1, 2), 1, 2, "", {})
    return lessons(teacher, coarse, words, ["the cat was happy.", "they played"]), teacher


def test_a_lesson_is_what_the_teacher_says_at_the_same_place(
    taught: tuple[Lessons, Pretrained], words: tokenizers.Tokenizer
) -> None:
    found, teacher = taught
    own = words.encode("the cat was happy.")
    assert found.tokens[: len(own.ids) + 1].tolist() == [*own.ids, EOS]
    log_p = np.asarray(jax.nn.log_softmax(teacher.lm.table))
    letters = coarse_words()
    for place, (_, end) in enumerate(own.offsets[:-1]):
        before = letters.encode("the cat was happy."[:end]).ids[-1] if place else 1
        likeliest = np.sort(log_p[before])[::-1][: found.log_p.shape[1]]
        assert bool(found.shared[place])
        np.testing.assert_allclose(found.log_p[place].astype(jnp.float32), likeliest, atol=2e-3)
    assert not found.shared[len(own.ids) - 1], "nothing is taught after the last word"


def test_the_divergence_sums_tokens_that_begin_alike(
    taught: tuple[Lessons, Pretrained], words: tokenizers.Tokenizer
) -> None:
    found, _ = taught
    place = jnp.arange(4)
    log_p = jax.nn.log_softmax(jax.random.normal(jax.random.key(2), (4, VOCAB_SIZE)))
    letters = coarse_words()
    spelled = {token: letters.get_vocab().get(token) for token in words.get_vocab()}
    first = {
        token: known if known is not None else letters.model.tokenize(token)[0].id for token, known in spelled.items()
    }
    members: dict[int, list[int]] = {}
    for token, group in first.items():
        members.setdefault(group, []).append(words.get_vocab()[token])
    expected = []
    for row in range(4):
        teacher = np.asarray(found.log_p[row], np.float64)
        terms = 0.0
        for value, group in zip(teacher, found.kept[row].tolist(), strict=True):
            if group in members:
                terms += np.exp(value) * (
                    value - np.logaddexp.reduce(np.asarray(log_p[row], np.float64)[members[group]])
                )
        expected.append(terms)
    assert float(found.divergence(place, log_p)) == pytest.approx(np.mean(expected), rel=1e-3)


def test_the_learning_rate_falls_without_a_jump() -> None:
    first, second = schedules()
    assert float(first(20)) == pytest.approx(1.0)
    assert float(first(STAGES[0][2])) == pytest.approx(float(second(0)), rel=1e-3)
    assert float(second(STAGES[1][2])) < 0.01


def test_held_out_stories_are_not_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    path.write_text("<|endoftext|>".join(f"story {number}" for number in range(300)))
    train, held_out = read(path)
    assert len(held_out) == 116 and set(train).isdisjoint(held_out) and "story 299" not in train + held_out
    path.write_text("one<|endoftext|>two")
    with pytest.raises(ArgumentError, match="too few stories"):
        read(path)


@pytest.mark.slow
def test_the_tokenizer_is_what_the_recipe_makes(shared_data: Path, words: tokenizers.Tokenizer) -> None:
    train, _ = read(shared_data / "text" / "tinystories_cased_2MB.txt")
    assert train_tokenizer(train).to_str() == words.to_str()


@pytest.mark.slow
def test_the_card_says_what_the_weights_do(shared_data: Path) -> None:
    _, held_out = read(shared_data / "text" / "tinystories_cased_2MB.txt")
    card = (stories.FOLDER / "README.md").read_text(encoding="utf8")
    for name, model in {
        "this model": stories.load(),
        "stories260K": language.load(shared_data / "language_models/stories260K"),
    }.items():
        stated = float(NUMBER.findall(next(line for line in card.splitlines() if line.startswith(f"| {name}")))[0])
        assert bits_per_byte(model, held_out[16:]) == pytest.approx(stated, abs=0.002)
