r"""What a teacher with another vocabulary says at every place of a text where both have a token's border.

The teacher's law of its next token :math:`u` becomes a law over *groups* of the student's tokens: those that the teacher would
begin to spell with u. Student and teacher are compared there,

.. math:: \mathrm{KL}\Big( r(u) \,\Big\|\, \sum_{v : \text{first}(v) = u} p(v) \Big),

and the student's hidden state is asked to know the teacher's, up to a linear map.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from smcinfer.ground.arrays import Array, Bool, Float, Int
from smcinfer.language import CausalLM, Pretrained
from smcinfer.models.stories.corpus import BOS, EOS

NUM_KEPT = 16
"""The teacher's likeliest tokens that are kept at each place."""
BATCH = 8
NOTHING = 1e-5


class Lessons(eqx.Module):
    """All stories in a row, with what the teacher says before each next token.

    Attributes:
        tokens: Int["n"], the student's, BOS and EOS around every story.
        hidden: Float16["n h"], the teacher's hidden state, mean square one.
        log_p, kept: Float16["n k"] and Int16["n k"], its likeliest next tokens.
        shared: Bool["n"], whether the teacher has a border here too.
        order: Int["V"], the student's tokens sorted by group.
        first, last: Int["U"], where each group begins and ends in that order.
    """

    tokens: Int[Array, " n"]
    hidden: Float[Array, "n h"]
    log_p: Float[Array, "n k"]
    kept: Int[Array, "n k"]
    shared: Bool[Array, " n"]
    order: Int[Array, " vocab"]
    first: Int[Array, " groups"]
    last: Int[Array, " groups"]

    def divergence(self, place: Int[Array, "*places"], log_p: Float[Array, "*places vocab"]) -> Float[Array, ""]:
        """Mean over shared borders of the teacher's divergence from the student, nats."""
        mass = jnp.cumsum(jnp.exp(log_p)[..., self.order], axis=-1)
        mass = jnp.concatenate([jnp.zeros_like(mass[..., :1]), mass], axis=-1)
        kept = self.kept[place].astype(jnp.int32)
        ends = [jnp.take_along_axis(mass, border[kept], axis=-1) for border in (self.last, self.first)]
        student = jnp.log(jnp.maximum(ends[0] - ends[1], NOTHING))
        teacher = self.log_p[place].astype(jnp.float32)
        terms = jnp.where(self.last[kept] > self.first[kept], jnp.exp(teacher) * (teacher - student), 0.0)
        return _mean_where(jnp.sum(terms, axis=-1), self.shared[place])

    def distance(self, place: Int[Array, "*places"], guess: Float[Array, "*places h"]) -> Float[Array, ""]:
        """Mean square distance of a guess from the teacher's hidden state at shared borders."""
        return _mean_where(jnp.mean((guess - self.hidden[place].astype(jnp.float32)) ** 2, axis=-1), self.shared[place])


def _mean_where(values: Array, there: Array) -> Array:
    return jnp.sum(jnp.where(there, values, 0.0)) / jnp.maximum(jnp.sum(there), 1)


@eqx.filter_jit
def _say(lm: CausalLM, tokens: Int[Array, "batch length"]) -> tuple[Array, Array, Array]:
    said = jax.vmap(lm.forward)(tokens)
    log_p, kept = jax.lax.top_k(jax.nn.log_softmax(said.logits), NUM_KEPT)
    return said.hidden.astype(jnp.float16), log_p.astype(jnp.float16), kept.astype(jnp.int16)


def lessons(
    teacher: Pretrained, teacher_words: tokenizers.Tokenizer, words: tokenizers.Tokenizer, stories: list[str]
) -> Lessons:
    """Let the teacher read all stories.

    Args:
        teacher: the model.
        teacher_words: its tokenizer, which says where tokens begin and end.
        words: the student's.
        stories: texts.
    """
    limit = teacher.lm.max_positions or 512
    parts: list[dict[str, np.ndarray]] = [{} for _ in stories]
    by_length = sorted(range(len(stories)), key=lambda place: len(stories[place]))
    for start in range(0, len(stories), BATCH):
        chosen = by_length[start : start + BATCH]
        encoded = [teacher_words.encode(stories[place]) for place in chosen]
        width = min(limit, -(-max(len(one.ids) for one in encoded) // 128) * 128)
        table = np.zeros((BATCH, width), np.int32)
        for row, one in zip(table, encoded, strict=False):
            row[: min(width, len(one.ids))] = one.ids[:width]
        said = [np.asarray(part) for part in _say(teacher.lm, jnp.asarray(table))]
        for row, (place, one) in enumerate(zip(chosen, encoded, strict=True)):
            parts[place] = _one(one.offsets[:width], [part[row] for part in said], words.encode(stories[place]))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    scale = np.sqrt(np.mean(joined["hidden"][joined["shared"]].astype(np.float32) ** 2))
    joined["hidden"] = (joined["hidden"] / scale).astype(np.float16)
    return Lessons(**{name: jnp.asarray(part) for name, part in joined.items()}, **_groups(teacher_words, words))


def _one(offsets: list[tuple[int, int]], said: list[np.ndarray], own: tokenizers.Encoding) -> dict[str, np.ndarray]:
    """One story's tokens, and what the teacher said at the borders that both share."""
    ids = [*own.ids, EOS]
    reached = {0: 0} | {end: place for place, (_, end) in enumerate(offsets) if place > 0}
    borders = [0, *(end for _, end in own.offsets[1:])]
    # The teacher was not trained to end a story: nothing is taken from it after the last word.
    found = np.array([reached.get(end, -1) for end in borders[:-1]] + [-1, -1])
    assert len(found) == len(ids) and ids[0] == BOS, "the student's tokenizer puts BOS, and nothing else, in front"
    names = ("hidden", "log_p", "kept")
    taken = {name: part[np.maximum(found, 0)] for name, part in zip(names, said, strict=True)}
    return {"tokens": np.array(ids, np.int32), "shared": found >= 0, **taken}


def _groups(teacher_words: tokenizers.Tokenizer, words: tokenizers.Tokenizer) -> dict[str, Any]:
    """The student's tokens, grouped by the teacher's token that begins to spell them."""
    known = teacher_words.get_vocab()
    group = np.zeros(words.get_vocab_size(), np.int32)
    for token, place in words.get_vocab().items():
        group[place] = known[token] if token in known else _first_token(teacher_words, token)
    counts = np.bincount(group, minlength=teacher_words.get_vocab_size())
    last = np.cumsum(counts)
    order = np.argsort(group, kind="stable")
    return {"order": jnp.asarray(order), "first": jnp.asarray(last - counts), "last": jnp.asarray(last)}


def _first_token(words: tokenizers.Tokenizer, piece: str) -> int:
    """The token that begins to spell a piece, which may lie inside a word: nothing is put in front of it."""
    ids = words.model.tokenize(piece)
    return ids[0].id
