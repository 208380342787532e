"""Predicates on prefixes from a user's Python functions of text: asked on the host, for all particles together."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Flag, Int, PyTree, Time
from smcinfer.ground.errors import ArgumentError, TargetError, call_on_host, calling
from smcinfer.language.constraints.vocabulary import Vocabulary, fingerprint, read_vocabulary


class HostPredicate:
    """A predicate on what would be written, for `adaptive_rejection` (made by `on_host`).

    Attributes:
        num_calls: calls of the user's function so far; equal prefixes asked for together cost one.
        vocabulary: as of a `Constraint`.
    """

    def __init__(
        self, function: Callable[[str, bool], bool], words: Vocabulary, eos_id: int, vocabulary: str | None
    ) -> None:
        self.vocabulary = vocabulary
        self._function = function
        self._words = words
        self._eos_id = eos_id
        self.num_calls = 0

    def __call__(self, t: Time, state: PyTree[Any], token: Int[Array, ""], active: Flag) -> Array:
        """Whether the text may go on with ``token``, or end there where it is EOS."""
        shape = jax.ShapeDtypeStruct((), jnp.bool_)

        def ask(tokens: Any, length: Any, token: Any, active: Any) -> np.ndarray:
            return call_on_host(self._ask, *map(np.asarray, (tokens, length, token, active)))

        return jax.pure_callback(ask, shape, state.tokens, t - 1, token, active, vmap_method="broadcast_all")

    def _ask(self, tokens: np.ndarray, length: np.ndarray, token: np.ndarray, active: np.ndarray) -> np.ndarray:
        answers = np.zeros(token.shape, bool)
        known: dict[tuple[bytes, bool], bool] = {}
        for place in zip(*np.nonzero(active), strict=True):
            ids = [*tokens[place][: length[place]].tolist(), int(token[place])]
            ended = ids[-1] == self._eos_id
            text = b"".join(self._words[index] for index in ids)
            if (text, ended) not in known:
                known[text, ended] = self._answer(text.decode(errors="replace"), ended)
            answers[place] = known[text, ended]
        return answers

    def _answer(self, text: str, ended: bool) -> bool:
        self.num_calls += 1
        name = getattr(self._function, "__name__", type(self._function).__name__)
        with calling(f"the predicate {name}", expected="yes or no", got=f"a call with {text[:60]!r}"):
            answer = self._function(text, ended)
        if not isinstance(answer, bool | np.bool_):
            raise TargetError("a predicate answers yes or no", expected="bool", got=type(answer).__name__)
        return bool(answer)


def on_host(function: Callable[[str, bool], bool], vocabulary: Any, eos_id: int | None = None) -> HostPredicate:
    """A predicate for `adaptive_rejection` from any Python function of text.

    Args:
        function: ``(text, ended) -> bool``: whether what was generated may be ``text`` so far; where ``ended``, whether it
            may be all. It need not be a JAX function.
        vocabulary, eos_id: as in `regex`.

    Raises:
        ArgumentError: for something that is no function.

    What the function raises ends the run as a `TargetError` with the function's name and the text.
    """
    if not callable(function):
        raise ArgumentError("a predicate is a function", expected="(text, ended) -> bool", got=type(function).__name__)
    words, eos_id = read_vocabulary(vocabulary, eos_id)
    return HostPredicate(function, words, eos_id, fingerprint(vocabulary))
