r"""Syntactic control: sentences of a language model that a tagger reads as a given tree.

.. math::
    \sigma(w_{1:N}) \propto p_0(w_{1:N}, \mathrm{EOS})\, \phi(w_{1:N}), \qquad
    \phi(w) = \prod_{i} p(l_i \mid w)\, p(c_i \mid w)\, p(g_i \mid w), \qquad
    \psi_t(w_{1:t}) = \prod_{i \le t} p_c(l_i \mid w_{1:i})\, p_c(c_i \mid w_{1:i})\, p_c(g_{i-1} \mid w_{1:i})

The tree's tetra-tags :math:`l_i, g_i` fix the number of words N, its leaves name their parts of speech :math:`c_i`. The
potential reads the whole sentence, once it has ended; the twist is the same product from a causal tagger, three factors a
word. Every step is one word, so the tokens of the language model must be words. How words are proposed:
`smcinfer.language.syntax.proposals`.

Source: Xefteri, Vieira, Cotterell & Amini (2025), "Syntactic control of language models by posterior inference".
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.plan import Plan
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, Scalar, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.generation import Generation, generation
from smcinfer.language.networks.lm import CausalLM
from smcinfer.language.process import LanguageProcess, TokenState
from smcinfer.language.syntax.features import WordFeatures
from smcinfer.language.syntax.pos_gram import PosGram
from smcinfer.language.syntax.proposals import Helper, PosProduct, PosWords, TreeProposal, Tried
from smcinfer.language.syntax.reader import TAGS, TagReader, TreeTwist
from smcinfer.language.syntax.tagger import BidirectionalTagger, Tagger
from smcinfer.language.syntax.tetra import encode
from smcinfer.language.syntax.trees import Tree
from smcinfer.language.syntax.wanted import Wanted

PROPOSALS = ("lm", "mixture", "product", "tried")
NUM_TRIED = 32
"""Likely words that the causal tagger reads before one is chosen."""


class TreePotential(eqx.Module):
    """log phi: zero until the sentence has ended, then its tags' log probability; minus infinity for a wrong length.

    Attributes:
        wanted: the tree.
        reader: the reading of whole sentences.
        vectors: Float["V dim"], of every word of the vocabulary.
        strength: b, the power of the tags' probability.
    """

    wanted: Wanted
    reader: BidirectionalTagger
    vectors: Float[Array, "vocab dim"]
    strength: Float[Array, ""]

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """log phi_t of one sentence, nats."""
        end = self.wanted.num_words + 1
        # All sentences end at the same step: before it the tagger does not run.
        value = jax.lax.cond(
            t == end, lambda tokens: self.log_prob(tokens), lambda _: jnp.zeros((), self.vectors.dtype), state.tokens
        )
        return jnp.where(state.finished == (t == end), self.strength * value, -jnp.inf)

    def log_prob(self, tokens: Int[Array, " max_tokens"]) -> Scalar:
        """Log probability of the tree's tags given a sentence, nats."""
        wanted = self.wanted
        place = jnp.arange(wanted.leaf.shape[0])
        found = self.reader(self.vectors[tokens[: place.size]], place == 0, place == wanted.num_words - 1)
        return jnp.sum(jnp.where(wanted.is_word(), jax.vmap(wanted.gain)(place, found), 0.0))


class Sentences(Generation):
    """Sentences that have a tree's structure (made by `syntax_generation`)."""

    @property
    def plan(self) -> Plan:
        """Resamples late: what a word earns is uneven, and a reading that the tagger dislikes midway the whole may redeem."""
        words = "sentences, the model's law times the power of what the tagger says of the tree; log Z is the log of its mean"
        return dataclasses.replace(super().plan, weighted_for=words, resample_below=0.25)


def syntax_generation(
    lm: Any,
    tree: Tree,
    tagger: Tagger,
    *,
    causal: bool = True,
    proposal: str | Callable[[LanguageProcess], Any] = "product",
    gram: PosGram | None = None,
    share: float | None = None,
    parts_of_speech: bool = True,
    max_words: int | None = None,
    prompt: Any = None,
    temperature: float = 1.0,
    strength: float = 1.0,
) -> Sentences:
    """Sentences that have a tree's structure; ready for `smcinfer.sample`.

    Args:
        lm: a model of words: ``lm``, the `CausalLM`; ``words``, the word of each token; ``bos_id``, ``eos_id``, ``tokenizer``
            (`smcinfer.models.word_lm` has one).
        tree: the structure, whose words, if any, do not matter.
        tagger: `smcinfer.models.tagger` has one.
        causal: whether the causal reading is the twist; without it the tree is asked for at the end only.
        proposal: ``"lm"``, ``"mixture"``, ``"product"`` or ``"tried"``, see `smcinfer.language.syntax.proposals`; or what
            `generation` takes.
        gram: the parts of speech that all but the first need (`pos_gram`).
        share: a, of draws from the model itself, in (0, 1); half for a mixture and else a tenth where ``None``.
        parts_of_speech: whether the leaves' parts of speech are asked for too, or brackets alone.
        max_words: room for trees up to this size, which then share a compiled program; the tree's own size where ``None``.
        prompt: token ids before the sentence; BOS alone where ``None``.
        temperature: the model's logits are divided by it; this is part of the base law.
        strength: b > 0, the power of phi and psi. Above one the tree counts for more against the model's taste; a tagger that
            is seldom sure needs it.

    Returns:
        `Sentences`, a `Generation` whose x_1 .. x_N are words.

    Raises:
        ArgumentError: for a model whose tokens are no words, a tree too large, settings out of range.

    Properly weighted for: ``p0(w_1 .. w_N, EOS) phi(w)^b``, whatever the twist and the proposal.
    """
    words = getattr(lm, "words", None)
    model = getattr(lm, "lm", None)
    if not isinstance(model, CausalLM) or words is None or len(words) != model.vocab_size:
        raise ArgumentError(
            "lm is no model of words",
            expected="lm.lm, a CausalLM, and lm.words, the word of each token",
            got=type(lm).__name__,
        )
    size = len(tree.leaves())
    room = size if max_words is None else max_words
    if size > room:
        raise ArgumentError("the tree has too many leaves", expected=f"at most max_words = {room}", got=size)
    if isinstance(proposal, str) and proposal not in PROPOSALS:
        raise ArgumentError("unknown proposal", expected=" | ".join(PROPOSALS), got=proposal)
    if isinstance(proposal, str) and proposal != "lm" and gram is None:
        raise ArgumentError(f"{proposal!r} needs parts of speech", expected="gram=pos_gram(trees, words)", got=None)
    if proposal == "tried" and not causal:
        raise ArgumentError("'tried' needs the causal reading", expected="causal=True", got=False)
    if share is not None:
        validate.number("share", share, above=0.0, below=1.0)
    validate.number("strength", strength, above=0.0)
    power = jnp.asarray(strength, jnp.result_type(float))
    leaf, internal = tagger.tags.ids(encode(tree))
    pos = tagger.tags.pos_ids(tree) if parts_of_speech else np.zeros(size, np.int64)
    tags = (_padded(ids, room) for ids in (leaf, np.concatenate([[0], internal]), pos))
    end = jnp.asarray(size, jnp.int32)
    wanted = Wanted(*tags, end)
    vectors = tagger.vectors(_rows(tagger.features, tuple(words)))
    helper: Helper | None = None
    if isinstance(proposal, str) and proposal != "lm" and gram is not None:
        helper = (PosWords if proposal == "mixture" else PosProduct)(_padded(np.asarray(gram.ids(tree)), room), gram)
        if proposal == "tried":
            helper = Tried(helper, wanted, tagger.causal, vectors, power, min(NUM_TRIED, len(words)))

    def make(process: LanguageProcess) -> TreeProposal:
        amount = share if share is not None else 0.5 if proposal == "mixture" else 0.1
        return TreeProposal(process, end, helper, amount)

    made = generation(
        lm,
        [lm.bos_id] if prompt is None else prompt,
        TreePotential(wanted, tagger.bidirectional, vectors, power),
        max_tokens=room + 1,
        twist=TreeTwist(power) if causal else None,
        proposal=make if isinstance(proposal, str) else proposal,
        readers={TAGS: TagReader(wanted, tagger.causal, vectors)} if causal else None,
        temperature=temperature,
    )
    return Sentences.extending(made)


@functools.lru_cache(maxsize=8)
def _rows(features: WordFeatures, words: tuple[str, ...]) -> Int[Array, "words kinds"]:
    """Rows of a whole vocabulary: the same for every tree."""
    return jnp.asarray(features(words))


def _padded(ids: Int[np.ndarray, " words"], room: int) -> Int[Array, " room"]:
    return jnp.asarray(np.concatenate([ids, np.zeros(room - len(ids), np.int64)]), jnp.int32)
