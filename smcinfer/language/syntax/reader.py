r"""A causal tagger that reads along with a language model, and the twist that it makes.

.. math:: \psi_t(w_{1:t}) = \prod_{i \le t} p_c(l_i \mid w_{1:i})\, p_c(c_i \mid w_{1:i})\, p_c(g_{i-1} \mid w_{1:i})

Each word settles three factors as it is read; what is carried with a particle is the tagger's memory and their product.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from smcinfer.core.nouns import Twist
from smcinfer.ground.arrays import Array, Float, Int, PyTree, Scalar, Time
from smcinfer.language.reader import Reader
from smcinfer.language.syntax.recurrent import Memory
from smcinfer.language.syntax.tagger import CausalTagger
from smcinfer.language.syntax.wanted import Wanted

TAGS = "tags"
"""The name that the causal tagger has among a generation's readers."""


class Tagged(eqx.Module):
    """What a `TagReader` carries with one particle.

    Attributes:
        memory: the causal tagger's.
        log_psi: Float[""], log probability of the tree's tags so far, nats.
    """

    memory: Memory
    log_psi: Float[Array, ""]


class TagReader(Reader):
    """A causal tagger that reads along, and says how well the words so far fit a tree.

    Attributes:
        wanted: the tree.
        tagger: the reading of prefixes.
        vectors: Float["V dim"], of every word of the vocabulary.
    """

    wanted: Wanted
    tagger: CausalTagger
    vectors: Float[Array, "vocab dim"]

    @property
    def vocab_size(self) -> int:
        """V, the number of words."""
        return self.vectors.shape[0]

    def start(self, max_tokens: int) -> Tagged:
        """The causal tagger before the first word, log psi zero."""
        del max_tokens
        return Tagged(self.tagger.start(), jnp.zeros((), self.vectors.dtype))

    def read(self, t: Time, carried: Tagged, token: Int[Array, ""]) -> Tagged:
        """One word: it settles its own tags and that of the gap before it."""
        tags, memory = self.tagger.step(carried.memory, self.vectors[token])
        place = jnp.minimum(t - 1, self.wanted.leaf.shape[0] - 1)
        gain = self.wanted.gain(place, tags)
        return Tagged(memory, carried.log_psi + jnp.where(t <= self.wanted.num_words, gain, 0.0))


class TreeTwist(Twist):
    """log psi: the tags so far by the `TagReader` that reads along, to the potential's power."""

    strength: Float[Array, ""]

    def __call__(self, t: Time, state: PyTree[Any]) -> Scalar:
        """log psi_t of one sentence so far, nats."""
        del t
        return self.strength * state.readings[TAGS].log_psi
