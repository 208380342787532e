"""The stories, the tokenizer that is made of them, and what a model pays for those it has not seen."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from smcinfer.ground.arrays import Array, Int
from smcinfer.ground.errors import ArgumentError
from smcinfer.language import CausalLM, Pretrained

SEPARATOR = "<|endoftext|>"
SPECIAL = ("<unk>", "<s>", "</s>")
BOS, EOS = 1, 2
VOCAB_SIZE = 1024
ALPHABET = 64
"""Characters with a token of their own; rarer ones are spelled in bytes."""
HELD_OUT = 116
"""Stories at the end of the file that training never sees: a twentieth."""
SCORED_BYTES = 900
"""What is scored of each story: its beginning, which every model compared here can hold."""


def read(path: Path) -> tuple[list[str], list[str]]:
    """Stories to train on, and held-out ones; the last of the file is cut off and left out."""
    stories = [story.strip() for story in path.read_text(encoding="utf8").split(SEPARATOR)][:-1]
    if len(stories) < 2 * HELD_OUT:
        raise ArgumentError(
            "too few stories", expected=f"at least {2 * HELD_OUT} separated by {SEPARATOR}", got=len(stories)
        )
    return stories[:-HELD_OUT], stories[-HELD_OUT:]


def train_tokenizer(stories: list[str]) -> tokenizers.Tokenizer:
    """Byte-pair merges inside words, spaces written as in sentencepiece, unknown characters spelled in bytes."""
    made = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token=SPECIAL[0], fuse_unk=True))
    # Words with their space in front; then punctuation and line breaks on their own.
    punctuation = pre_tokenizers.Split(tokenizers.Regex(r"[^\w▁']+"), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), punctuation])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    single_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[*SPECIAL, *single_bytes],
        limit_alphabet=ALPHABET,
        show_progress=False,
    )
    made.train_from_iterator(stories, trainer)
    made.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A", special_tokens=[(SPECIAL[BOS], BOS)]
    )
    # The trainer only reserves tokens that it takes for special; bytes are text.
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][: len(SPECIAL)]
    return tokenizers.Tokenizer.from_str(json.dumps(content))


@eqx.filter_jit
def _nats(lm: CausalLM, tokens: Int[Array, "stories length"], lengths: Int[Array, " stories"]) -> Array:
    """What all tokens but the first of each story cost, nats."""
    log_p = jax.nn.log_softmax(jax.vmap(lm.forward)(tokens).logits[:, :-1])
    costs = -jnp.take_along_axis(log_p, tokens[:, 1:, None], axis=2)[..., 0]
    return jnp.sum(jnp.where(jnp.arange(1, tokens.shape[1]) < lengths[:, None], costs, 0.0))


def bits_per_byte(model: Pretrained, stories: list[str], batch: int = 4) -> float:
    """Mean cost of the beginnings of some stories, each after BOS alone; every model is scored on the same bytes.

    Args:
        model: the model with its tokenizer.
        stories: texts, of which the first `SCORED_BYTES` are scored.
        batch: stories that are scored at once.

    Returns:
        Bits a byte of UTF-8.

    Raises:
        ArgumentError: for a beginning of more than 512 tokens.
    """
    assert model.tokenizer is not None
    nats = num_bytes = 0.0
    for start in range(0, len(stories), batch):
        beginnings = [_beginning(story) for story in stories[start : start + batch]]
        encoded = [model.tokenizer.encode(text) for text in beginnings]
        lengths = np.array([len(ids) for ids in encoded], np.int32)
        tokens = np.zeros((len(encoded), 512), np.int32)
        if lengths.max() > tokens.shape[1]:
            raise ArgumentError("a beginning does not fit", expected=tokens.shape[1], got=int(lengths.max()))
        for row, ids in zip(tokens, encoded, strict=True):
            row[: len(ids)] = ids
        nats += float(_nats(model.lm, jnp.asarray(tokens), jnp.asarray(lengths)))
        num_bytes += sum(len(text.encode()) for text in beginnings)
    return nats / np.log(2) / num_bytes


def _beginning(story: str) -> str:
    """Whole words of the first bytes."""
    data = story.encode()
    if len(data) <= SCORED_BYTES:
        return story
    return data[:SCORED_BYTES].decode(errors="ignore").rsplit(" ", 1)[0]
