r"""Words proposed for a tree: as many as it has leaves, from the model or with the help of what the tree says.

.. math:: q(w_t) = (1 - a)\, r_t(w_t) + a\, p_0(w_t \mid w_{<t})

with r from parts of speech alone, from those and the model, or from what a causal tagger says of the likely words. A share of
the model itself keeps every word possible.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Int, PyTree, Time
from smcinfer.language.process import LanguageProcess
from smcinfer.language.proposals.filtered import LogitProposal
from smcinfer.language.syntax.pos_gram import PosGram
from smcinfer.language.syntax.reader import TAGS
from smcinfer.language.syntax.tagger import CausalTagger
from smcinfer.language.syntax.wanted import Wanted

UNTRIED = 0.1
"""Share of words drawn without asking the tagger where the likely ones are tried."""


class Helper(eqx.Module):
    """What helps the model to the next word of a tree."""

    @abc.abstractmethod
    def __call__(self, t: Time, state: PyTree[Any], words: Float[Array, " vocab"]) -> Float[Array, " vocab"]:
        """log r_t, nats, unnormalised; ``words`` is log p_0 of the next word."""


class PosWords(Helper):
    """:math:`r = P(w \\mid c_t)`: words of the next leaf's part of speech, whatever came before."""

    pos: Int[Array, " max_words"]
    gram: PosGram

    def __call__(self, t: Time, state: PyTree[Any], words: Float[Array, " vocab"]) -> Float[Array, " vocab"]:
        """log P(w | c_t)."""
        del state
        # What the model never says is not drawn either.
        return jnp.where(words > -jnp.inf, self.gram.word(_at(self.pos, t)), -jnp.inf)


class PosProduct(Helper):
    """:math:`r \\propto p_0(w)\\, P(c_t \\mid w)`: the model's words, as far as they have the next leaf's part of speech."""

    pos: Int[Array, " max_words"]
    gram: PosGram

    def __call__(self, t: Time, state: PyTree[Any], words: Float[Array, " vocab"]) -> Float[Array, " vocab"]:
        """log p_0(w) + log P(c_t | w)."""
        del state
        return words + self.gram.pos[_at(self.pos, t)]


class Tried(Helper):
    """The most probable words of another helper, each read by the causal tagger before one is chosen.

    :math:`r \\propto r_0(w)\\, (\\psi_t / \\psi_{t-1})^b` over the k most probable words of :math:`r_0`, with a tenth of
    :math:`r_0` itself. Were k all words and :math:`r_0` the model, this would be the proposal that the twist induces.

    Attributes:
        base: r_0.
        wanted: the tree.
        reader: the reading of prefixes, which a `TagReader` carries along.
        vectors: Float["V dim"], of every word of the vocabulary.
        strength: b.
        num_candidates: k.
    """

    base: Helper
    wanted: Wanted
    reader: CausalTagger
    vectors: Float[Array, "vocab dim"]
    strength: Float[Array, ""]
    num_candidates: int = eqx.field(static=True)

    def __call__(self, t: Time, state: PyTree[Any], words: Float[Array, " vocab"]) -> Float[Array, " vocab"]:
        """log r_t of every word, normalised, nats."""
        before = jax.nn.log_softmax(self.base(t, state, words))
        likely, tokens = jax.lax.top_k(before, self.num_candidates)
        place = jnp.clip(t - 1, 0, self.wanted.leaf.shape[0] - 1)

        def gain(vector: Float[Array, " dim"]) -> Float[Array, ""]:
            return self.wanted.gain(place, self.reader.step(state.readings[TAGS].memory, vector)[0])

        tried = jax.nn.log_softmax(likely + self.strength * jax.vmap(gain)(self.vectors[tokens]))
        after = jnp.full_like(before, -jnp.inf).at[tokens].set(tried)
        return jnp.logaddexp(jnp.log1p(-UNTRIED) + after, jnp.log(UNTRIED) + before)


class TreeProposal(LogitProposal):
    """As many words as the tree has leaves, then EOS.

    Attributes:
        process: the base law.
        num_words: N.
        helper: r; the model alone where ``None``.
        share: a, of draws from the model itself.

    Properly weighted for the model's sentences of that many words.
    """

    process: LanguageProcess
    num_words: Int[Array, ""]
    helper: Helper | None
    share: float = eqx.field(static=True)
    includes_potential: bool = eqx.field(static=True, default=False)

    def logits(self, t: Time, state: PyTree[Any]) -> Float[Array, " vocab"]:
        """What is drawn from: words up to the last leaf, EOS after it."""
        is_eos = jnp.arange(state.logits.shape[0]) == self.process.eos_id
        words = jax.nn.log_softmax(jnp.where(is_eos, -jnp.inf, state.logits))
        if self.helper is not None:
            helped = jax.nn.log_softmax(self.helper(t, state, words))
            mixed = jnp.logaddexp(jnp.log(self.share) + words, jnp.log1p(-self.share) + helped)
            words = jnp.where(words > -jnp.inf, mixed, -jnp.inf)
        end = jnp.where(is_eos, state.logits, -jnp.inf)
        return jnp.where(state.finished, state.logits, jnp.where(t <= self.num_words, words, end))


def _at(entries: Array, t: Time) -> Array:
    """What belongs to the word drawn at step t."""
    return entries[jnp.clip(t - 1, 0, entries.shape[0] - 1)]
