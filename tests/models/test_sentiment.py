"""The classifier of sentiment: its features against plain Python, and the same answer on text, on bytes and on tokens."""

import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from smcinfer.ground.errors import ArgumentError
from smcinfer.language import Tokenizer, generation, table_lm
from smcinfer.language.potentials import Factor
from smcinfer.models import sentiment
from smcinfer.models.sentiment.features import BASE, NUM_ROWS, PAIR, rows
from smcinfer.models.sentiment.model import as_bytes

TEXTS = [
    "A happy, HAPPY day; isn't it? Yes 2 times!",
    "the end",
    "",
    "...",
    "naïve — très bien",
    "one two one two",
    "x" * 40,
]


def mix(value: int) -> int:
    """The last steps of MurmurHash3."""
    value = (value ^ value >> 16) * 0x85EBCA6B % 2**32
    value = (value ^ value >> 13) * 0xC2B2AE35 % 2**32
    return value ^ value >> 16


def plain_features(text: str) -> list[int]:
    """Rows of words and pairs, in order, by a loop over a regular expression."""
    words = re.findall(rb"[a-z0-9'\x80-\xff]+", text.encode().lower())
    hashes = [mix(sum(byte * pow(BASE, place, 2**32) for place, byte in enumerate(word)) % 2**32) for word in words]
    pairs = [mix((one * PAIR + before) % 2**32) for before, one in zip(hashes, hashes[1:], strict=False)]
    return sorted(value % NUM_ROWS for value in hashes + pairs)


def test_features_are_the_words_and_pairs_of_the_text(precision: str) -> None:
    table, sizes = as_bytes(TEXTS)
    found, there = jax.vmap(rows)(jnp.asarray(table), jnp.asarray(sizes))
    for text, one, real in zip(TEXTS, np.asarray(found), np.asarray(there), strict=True):
        assert sorted(one[real].tolist()) == plain_features(text), text


def byte_words() -> Tokenizer:
    """A token a byte, as GPT-2 writes them, and some longer ones."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, "ha", "pp", "happ"]
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {piece: place for place, piece in enumerate(pieces)}, [("h", "a"), ("p", "p"), ("ha", "pp")]
        )
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return Tokenizer(made)


def test_tokens_and_text_have_the_same_probability() -> None:
    model, words = sentiment.load(), byte_words()
    for label, text in (("positive", "so happy"), ("negative", "a sad end")):
        factor: Factor = model.potential(words, label)
        assert factor.terminal and factor.log_bound == 0.0
        ids = words.encode_plain(text)
        lm = table_lm(jax.random.key(0), words.vocab_size, 1)
        state = generation(lm, [0], max_tokens=len(ids), eos_id=None).process.advance(jnp.asarray(0), None, None)
        state = eqx.tree_at(lambda tree: (tree.tokens, tree.length), state, (jnp.asarray(ids), jnp.asarray(len(ids))))
        log_p = model.log_probabilities([text])[0, sentiment.LABELS.index(label)]
        np.testing.assert_allclose(factor(jnp.asarray(len(ids)), state), log_p, rtol=1e-5)


def test_it_tells_good_from_bad() -> None:
    model = sentiment.load()
    good = ["What a wonderful, delightful film.", "Excellent food and very friendly service!", "I love this phone."]
    bad = [
        "A dull and boring mess.",
        "The food was terrible and the service worse.",
        "It broke after a day. Waste of money.",
    ]
    assert all(model(text) > np.log(0.5) for text in good)
    assert all(model(text) < np.log(0.5) for text in bad)
    assert model("") == pytest.approx(float(jax.nn.log_sigmoid(model.bias)), abs=1e-6)


def test_an_unknown_label_is_named() -> None:
    with pytest.raises(ArgumentError, match="unknown label"):
        sentiment.load().potential(byte_words(), "neutral")


@pytest.mark.slow
def test_the_card_says_what_the_weights_do(shared_data: Path) -> None:
    from smcinfer.models.sentiment.recipe import SEED, read, split
    from smcinfer.nn import read_metadata

    stated = read_metadata(sentiment.WEIGHTS)["held_out_accuracy"]
    key, _ = jax.random.split(jax.random.key(SEED))
    model = sentiment.load()
    for number, (name, (texts, labels)) in enumerate(read(shared_data / "sentiment").items()):
        places = split(jax.random.fold_in(key, number), len(texts))["test"]
        guesses = model.log_probabilities([texts[place] for place in places]).argmax(1)
        assert np.mean(guesses == labels[places]) == pytest.approx(stated[name], abs=0.005)
