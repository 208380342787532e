"""Potentials from a user's Python functions: on text, by a call to the host; on tokens, compiled with the rest."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Flag, Int, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError, calling
from smcinfer.ground.host import host_values
from smcinfer.language.networks.tokenizer import Tokenizer, as_tokenizer
from smcinfer.language.potentials.factor import AtEnd, EveryStep, Factor
from smcinfer.language.process import TokenState
from smcinfer.language.vocabularies import TextReader


class _HostText(TextReader):
    """A function of text, called on the host once for every different text that is wanted.

    Attributes:
        function, tokenizer, prompt, batched: as in `on_text`.
        before: Int["P"], the tokens that the text goes on from: they say how its first token is spelt.
        eos_id: the token that ends it and is no part of it.
    """

    function: Callable[..., Any] = eqx.field(static=True)
    tokenizer: Tokenizer = eqx.field(static=True)
    prompt: str = eqx.field(static=True)
    batched: bool = eqx.field(static=True)
    before: Int[Array, " prompt"]
    eos_id: int | None = eqx.field(static=True)

    @property
    def vocabulary(self) -> str:
        """Fingerprint of the tokenizer whose tokens it reads."""
        return self.tokenizer.fingerprint

    def after(self, prompt: Int[Array, " prompt"], eos_id: int | None) -> "_HostText":
        """The same function of what follows a prompt."""
        return _HostText(self.function, self.tokenizer, self.prompt, self.batched, prompt, eos_id)

    def __call__(self, state: TokenState, wanted: Flag) -> Scalar:
        """log phi where wanted, zero elsewhere."""
        return host_values(self._evaluate, self.before, state.tokens, state.length, wanted)

    def _evaluate(self, before: np.ndarray, tokens: np.ndarray, length: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        values = np.zeros(wanted.shape)
        places = np.nonzero(wanted.ravel())[0]
        if places.size == 0:
            return values
        rows, sizes = tokens.reshape(-1, tokens.shape[-1]), length.ravel()
        start = before[(0,) * (before.ndim - 1)].tolist()
        texts = [self._text(start, rows[place][: sizes[place]].tolist()) for place in places]
        different = list(dict.fromkeys(texts))
        found = dict(zip(different, self._values(different), strict=True))
        values.reshape(-1)[places] = [found[text] for text in texts]
        return values

    def _text(self, before: list[int], ids: list[int]) -> str:
        shown = ids[:-1] if ids and ids[-1] == self.eos_id else ids
        return self.prompt + self.tokenizer.decode_after(before, shown)

    def _values(self, texts: list[str]) -> list[float]:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        shown = repr(texts[0][:60]) + (f" and {len(texts) - 1} more" if self.batched else "")
        with calling(
            f"the potential {name}", expected="log phi in nats, one number a text", got=f"a call with {shown}"
        ):
            raw = self.function(texts) if self.batched else [self.function(text) for text in texts]
            raw = np.asarray(raw)
            # A condition: what it says no to has no weight.
            values = np.where(raw, 0.0, -np.inf) if raw.dtype == bool else raw.astype(np.float64)
        if values.shape != (len(texts),):
            raise TargetError("a potential on text returned the wrong shape", expected=(len(texts),), got=values.shape)
        return values.tolist()


class _TextSoFar(eqx.Module):
    """`_HostText` at every step."""

    inner: _HostText

    def __call__(self, state: TokenState, wanted: Flag, ended: Flag) -> Scalar:
        """log phi_t of the text so far."""
        del ended
        return self.inner(state, wanted)


class _OfTokens(eqx.Module):
    """A JAX function of tokens and their number, not evaluated where the compiler can leave it out."""

    function: Callable[[Array, Array], Scalar]

    def __call__(self, state: TokenState, wanted: Flag, ended: Flag | None = None) -> Scalar:
        """log phi where wanted, zero elsewhere."""
        del ended
        value = jax.eval_shape(self.function, state.tokens, state.length)
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise TargetError("a potential on tokens returned no number", expected="Float['']", got=value)
        return jax.lax.cond(
            wanted, lambda: self.function(state.tokens, state.length), lambda: jnp.zeros((), value.dtype)
        )


def on_text(
    function: Any,
    tokenizer: Any,
    *,
    prompt: str = "",
    largest: float | None = None,
    batched: bool = False,
    every_step: bool = False,
) -> Factor:
    """A potential from any Python function of text; it runs on the host, outside the compiled program.

    Args:
        function: text to log phi, nats; minus infinity forbids a text. A bool is a condition: ``True`` is 0, ``False`` minus
            infinity. Called once for every different text, as `Generation.decode` shows it, without the end. It need not
            be a JAX function.
        tokenizer: a `Tokenizer`, or the loaded model that has one.
        prompt: text that the function sees in front of what was generated; the generation's prompt, say, or nothing.
        largest: a bound on log phi, nats, where there is one: 0 for a log probability.
        batched: whether the function takes a list of texts and returns as many numbers.
        every_step: whether it is paid after every token, log phi_t of the text so far, and not once at the end.

    Raises:
        ArgumentError: for something that is no function, or no tokenizer.

    What the function raises ends the run as a `TargetError` with the function's name and the text.
    """
    if not callable(function):
        raise ArgumentError("a potential on text is a function", expected="str -> float", got=type(function).__name__)
    words = as_tokenizer(tokenizer)
    inner = _HostText(function, words, prompt, batched, jnp.zeros((0,), jnp.int32), words.eos_id)
    return EveryStep(_TextSoFar(inner), largest) if every_step else AtEnd(inner, largest)


def on_tokens(
    function: Any,
    *,
    largest: float | None = None,
    every_step: bool = False,
) -> Factor:
    """A potential from a JAX function of the tokens.

    Args:
        function: ``(tokens, length) -> Float[""]``, log phi in nats; only the first ``length`` tokens were generated, EOS
            included.
        largest: a bound on log phi (its sum over the steps, where paid at every one), nats, or ``None``.
        every_step: whether it is paid after every token, and not once at the end.
    """
    if not callable(function):
        raise ArgumentError("a potential on tokens is a function", expected="(tokens, length) -> scalar", got=function)
    return (EveryStep if every_step else AtEnd)(_OfTokens(function), largest)
