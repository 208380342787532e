r"""What reads a sequence along with the model: a grammar, a second model, a tagger, something of your own.

.. math:: r_0 = \mathrm{start}, \qquad r_t = \mathrm{read}(t, r_{t-1}, s_t)

The process carries the reading :math:`r_t` of every sequence under the reader's name, in `TokenState.readings`, through
resampling and checkpoints. Potentials, twists and proposals look there for what the reader knows: which tokens may come next,
what a second model says of them, how well the words fit a tree. The model itself knows nothing of its readers.
"""

import abc
from typing import Any

import equinox as eqx

from smcinfer.ground.arrays import Array, Int, PyTree, Time

Reading = PyTree[Any]
"""What a reader carries with one particle, of static shape."""


class Reader(eqx.Module):
    """Reads every token that is generated, once; written for one sequence.

    A reader that counts a token::

        class Count(Reader):
            token: int = eqx.field(static=True)
            vocab_size: int = eqx.field(static=True)

            def start(self, max_tokens):
                return jnp.zeros((), jnp.int32)

            def read(self, t, carried, token):
                return carried + (token == self.token)

    With ``generation(..., readers={"commas": Count(11, 512)})`` a potential finds the number in ``state.readings["commas"]``.

    Attributes:
        vocab_size: V, the number of tokens that it knows: as many as the model has.
    """

    vocab_size: eqx.AbstractVar[int]

    def begin(self, prompt: Int[Array, " prompt"], max_tokens: int) -> "Reader":
        """The reader once the prompt was read, which happens once for all particles.

        By default the reader itself: what it reads is what is generated.

        Args:
            prompt: Int["P"], the model's prompt.
            max_tokens: T, tokens that may be generated.

        Raises:
            ArgumentError: where it cannot read as much.
        """
        del prompt, max_tokens
        return self

    @abc.abstractmethod
    def start(self, max_tokens: int) -> Reading:
        """What is carried before anything was generated, with room for ``max_tokens`` tokens."""

    @abc.abstractmethod
    def read(self, t: Time, carried: Reading, token: Int[Array, ""]) -> Reading:
        """What is carried after the token that step t drew.

        Args:
            t: Int[""], from 1; the same for all particles.
            carried: what was carried after step t - 1, of the same structure and shapes.
            token: Int[""]; EOS, and EOS again at every step after the end, where the model has one.
        """
