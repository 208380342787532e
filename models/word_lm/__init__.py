"""A language model of words, small and trained by its recipe: every step of it is one word."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import tokenizers

from smcinfer import nn
from smcinfer.language.networks.tokenizer import Tokenizer
from smcinfer.language.syntax.pos_gram import PosGram
from smcinfer.language.syntax.words import join_words
from smcinfer.models.word_lm.model import BOS, EOS, UNKNOWN, WordLM, build
from smcinfer.nn.half import restore_half

WEIGHTS = Path(__file__).parent / "weights.safetensors"
GRAM = Path(__file__).parent / "gram.safetensors"


class WordTokenizer(Tokenizer):
    """Text whose words are parted by spaces to tokens; back, words are written as one would write them."""

    def decode(self, tokens: list[int]) -> str:
        """The text of some tokens, special ones left out."""
        return join_words(super().decode(tokens).split())


@dataclasses.dataclass(frozen=True)
class WordModel:
    """The model with its words; what `language.generation` takes.

    Attributes:
        lm: the network.
        tokenizer: words parted by spaces to tokens and back.
        words: the word of each token.
        bos_id, eos_id: tokens that begin and end a sentence.
    """

    lm: WordLM
    tokenizer: Tokenizer
    words: tuple[str, ...]
    bos_id: int = BOS
    eos_id: int = EOS


def load(path: Path = WEIGHTS) -> WordModel:
    """The trained model.

    Raises:
        CheckpointError: if its weights are damaged or of another version.
    """
    words = nn.read_metadata(path)["words"]
    return WordModel(restore_half(path, lambda key: build(key, len(words))), word_tokenizer(words), tuple(words))


def load_gram(path: Path = GRAM) -> PosGram:
    """Parts of speech of the model's words, counted by the recipe.

    Raises:
        CheckpointError: if the file is damaged or of another version.
    """
    found = nn.read_metadata(path)
    names, size = tuple(found["names"]), found["num_words"]
    return restore_half(path, lambda key: PosGram(jnp.zeros((len(names), size)), jnp.zeros((size,)), names))


def word_tokenizer(words: Sequence[str]) -> WordTokenizer:
    """The tokenizer of a vocabulary."""
    names = {word: number for number, word in enumerate(words)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(names, unk_token=words[UNKNOWN]))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    inner.add_special_tokens([words[UNKNOWN], words[BOS], words[EOS]])
    # A prompt is the beginning of a sentence.
    inner.post_processor = tokenizers.processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{words[BOS]} $A", special_tokens=[(words[BOS], BOS)]
    )
    return WordTokenizer(inner, BOS, EOS)
