r"""What a token model says of the next *byte*: text is text, however it was cut into tokens.

A text b that is written so far is covered by every token sequence whose bytes begin with b and whose last token reaches or
crosses its end. With c(b) the set of these coverings,

.. math::
    P(b) = \sum_{s \in c(b)} p(s), \qquad P(\text{byte} \mid b) = P(b\,\text{byte}) / P(b).

Cutting the text into tokens first and asking for the next token takes one covering for all of them: a prompt that ends inside a
word is then continued as if the word had ended (a space at the end of a prompt is the best known case). The sum is over all
coverings as long as they are few, else over the likeliest ``num_beams`` at each place; what was left out is reported.

Source: Vieira et al. (2024), beam summing over coverings.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground import validate
from smcinfer.ground.arrays import Float
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.programs import compiled
from smcinfer.language.constraints.vocabulary import check_vocabulary, read_vocabulary
from smcinfer.language.networks.lm import as_model
from smcinfer.language.networks.loading import ends_of

END = 256
"""Stands for the end of the text among the next bytes."""


@dataclasses.dataclass(frozen=True)
class NextByte:
    """The law of the next byte.

    Attributes:
        log_probabilities: Float["257"], nats; entry 256 is the end of the text.
        log_text: log P(b) of the text so far, nats, given the prompt.
        left_out: share of P(b), at most, that pruned coverings may hold; 0 where none was pruned.
        num_coverings: coverings summed.
    """

    log_probabilities: Float[np.ndarray, " bytes_and_end"]
    log_text: float
    left_out: float
    num_coverings: int

    def __str__(self) -> str:
        best = np.argsort(-self.log_probabilities, kind="stable")[:5]
        shown = ", ".join(f"{_name(int(byte))} {np.exp(self.log_probabilities[byte]):.3f}" for byte in best)
        return f"next byte: {shown} ({self.num_coverings} coverings, left out {self.left_out:.1e})"


def _name(byte: int) -> str:
    return "end" if byte == END else repr(chr(byte)) if 32 <= byte < 127 else f"0x{byte:02x}"


_read = compiled(lambda lm, rows: jax.vmap(lambda row: jax.nn.log_softmax(lm.forward(row).logits))(rows))


def next_byte(
    lm: Any,
    text: str | bytes,
    *,
    prompt: Any = None,
    vocabulary: list[bytes] | None = None,
    eos_id: int | Sequence[int] | None = None,
    num_beams: int = 64,
) -> NextByte:
    """The law of the byte that follows a text, summed over the ways to cut the text into tokens.

    Args:
        lm: what `language.load` returned; or a `CausalLM`, with its vocabulary.
        text: what was written after the prompt; it may end anywhere.
        prompt: Int["P"], tokens read before the text, which are taken as they are; BOS by default.
        vocabulary: the bytes of every token, where ``lm`` came without a tokenizer.
        eos_id: the token that ends a sequence, or several that do; the loaded model's own by default.
        num_beams: coverings kept at each place of the text.

    Returns:
        `NextByte`.

    Raises:
        ArgumentError: for a prompt or text that the model cannot read, or a text that no tokens spell.
    """
    model = as_model(lm)
    end, others = ends_of(lm, "model" if eos_id is None else eos_id)
    words, end = read_vocabulary(lm if vocabulary is None else vocabulary, end)
    ends = [end, *(check_vocabulary(len(words), token) for token in others)]
    for token in ends:
        words[token] = b""
    first = getattr(lm, "bos_id", None)
    start = ([] if first is None else [first]) if prompt is None else list(map(int, np.asarray(prompt)))
    if not start:
        raise ArgumentError(
            "there is nothing to read before the text", expected="a prompt of at least one token", got=prompt
        )
    wanted = text.encode() if isinstance(text, str) else text
    if model.max_positions is not None and len(start) + len(wanted) > model.max_positions:
        raise ArgumentError(
            "the text may not fit into the model's context",
            expected=f"at most {model.max_positions} tokens, and a byte may be one",
            got=f"{len(start)} + {len(wanted)}",
        )
    validate.count("num_beams", num_beams)
    by_first: dict[int, list[int]] = {}
    for token, word in enumerate(words):
        if word:
            by_first.setdefault(word[0], []).append(token)
    # Coverings of the first bytes, by the place that they reach: tokens, and their log probability.
    waiting: dict[int, list[tuple[list[int], float]]] = {0: [(start, 0.0)]}
    mass = np.full(END + 1, -np.inf)
    pruned, total = -np.inf, 0
    length = 1 << (len(start) + len(wanted) - 1).bit_length()
    length = length if model.max_positions is None else min(length, model.max_positions)
    for place in range(len(wanted) + 1):
        here = sorted(waiting.pop(place, []), key=lambda covering: -covering[1])
        for _, log_p in here[num_beams:]:
            pruned = np.logaddexp(pruned, log_p)
        here = here[:num_beams]
        if not here:
            continue
        rows = np.zeros((num_beams, length), np.int32)
        for row, (tokens, _) in zip(rows, here, strict=False):
            row[: len(tokens)] = tokens
        said = np.asarray(_read(model, jnp.asarray(rows)), np.float64)
        for row, (tokens, log_p) in zip(said, here, strict=False):
            log_next = log_p + row[len(tokens) - 1]
            rest = wanted[place:]
            if not rest:
                total += 1
                for byte, owners in by_first.items():
                    mass[byte] = np.logaddexp(mass[byte], np.logaddexp.reduce(log_next[owners]))
                mass[END] = np.logaddexp(mass[END], np.logaddexp.reduce(log_next[ends]))
                continue
            for token in by_first.get(rest[0], ()):
                word = words[token]
                if rest.startswith(word):
                    waiting.setdefault(place + len(word), []).append(([*tokens, token], float(log_next[token])))
                elif word.startswith(rest):
                    total += 1
                    mass[word[len(rest)]] = np.logaddexp(mass[word[len(rest)]], log_next[token])
    log_text = float(np.logaddexp.reduce(mass))
    if log_text == -np.inf:
        raise ArgumentError("no tokens spell the text", expected="bytes that the vocabulary has", got=repr(wanted[:40]))
    left_out = float(np.exp(pruned - np.logaddexp(pruned, log_text)))
    return NextByte(mass - log_text, log_text, left_out, total)
