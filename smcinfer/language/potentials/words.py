"""Potentials on what a sequence contains: words of its text, or runs of tokens."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Flag, Int, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.tokenizer import as_tokenizer
from smcinfer.language.potentials.factor import AtEnd, EveryStep, Factor
from smcinfer.language.process import TokenState
from smcinfer.language.spelling import Spelling, occurs, spelling


class _Text(eqx.Module):
    """Whether a word is in the text, whatever the tokens that spell it."""

    spelling: Spelling
    word: bytes = eqx.field(static=True)
    ignore_case: bool = eqx.field(static=True)
    whole: bool = eqx.field(static=True)

    def __call__(self, state: TokenState, ended: Flag) -> Bool[Array, ""]:
        """Whether it occurs in what was generated."""
        text, size = self.spelling.read(state.tokens, state.length)
        return occurs(text, size, self.word, ignore_case=self.ignore_case, whole=self.whole, ended=ended)


class _Run(eqx.Module):
    """Whether a run of tokens is in the sequence."""

    run: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, state: TokenState, ended: Flag) -> Bool[Array, ""]:
        """Whether it occurs in what was generated."""
        del ended
        size = state.tokens.shape[0]
        if size < len(self.run):
            return jnp.zeros((), bool)
        starts = jnp.arange(size - len(self.run) + 1)
        match = starts + len(self.run) <= state.length
        for offset, token in enumerate(self.run):
            match = match & (jax.lax.dynamic_slice_in_dim(state.tokens, offset, starts.shape[0]) == token)
        return jnp.any(match)


class _Has(eqx.Module):
    """Zero where one of some patterns occurs, ``log_miss`` where none does."""

    patterns: tuple[_Text | _Run, ...]
    log_miss: float = eqx.field(static=True)

    def __call__(self, state: TokenState, wanted: Flag) -> Scalar:
        """log phi of the whole sequence."""
        found = jnp.stack([pattern(state, wanted) for pattern in self.patterns])
        return jnp.where(jnp.any(found), 0.0, self.log_miss)


class _HasNone(eqx.Module):
    """Minus infinity as soon as one of some patterns occurs."""

    patterns: tuple[_Text | _Run, ...]

    def __call__(self, state: TokenState, wanted: Flag, ended: Flag) -> Scalar:
        """log phi_t of the sequence so far."""
        del wanted
        found = jnp.stack([pattern(state, ended) for pattern in self.patterns])
        return jnp.where(jnp.any(found), -jnp.inf, 0.0)


def contains(
    what: Any,
    tokenizer: Any = None,
    *,
    ignore_case: bool = False,
    whole_words: bool = False,
    log_miss: float = float("-inf"),
) -> Factor:
    """The sequence contains this, or one of these; several are asked for by a product.

    Args:
        what: text, found whatever the tokens that spell it; or a run of token ids; or a list of either.
        tokenizer: a `Tokenizer`, or the loaded model that has one; for text.
        ignore_case: of ASCII letters.
        whole_words: whether an occurrence inside a longer word does not count.
        log_miss: log phi of a sequence without it, nats, at most 0.

    Returns:
        A terminal factor: one or ``exp(log_miss)``.
    """
    if not log_miss <= 0:
        raise ArgumentError("log_miss is out of range", expected="at most 0", got=log_miss)
    return AtEnd(_Has(_patterns(what, tokenizer, ignore_case, whole_words), float(log_miss)), 0.0)


def avoids(what: Any, tokenizer: Any = None, *, ignore_case: bool = False, whole_words: bool = False) -> Factor:
    """The sequence contains none of these: one or zero, paid at the token that breaks it.

    Over a whole sequence it is the negation of `contains`; but a particle that breaks it is dropped at once.

    Args:
        what, tokenizer, ignore_case, whole_words: as in `contains`.
    """
    return EveryStep(_HasNone(_patterns(what, tokenizer, ignore_case, whole_words)), 0.0)


def _patterns(what: Any, tokenizer: Any, ignore_case: bool, whole_words: bool) -> tuple[_Text | _Run, ...]:
    listed = isinstance(what, Sequence) and not isinstance(what, str)
    several = listed and any(isinstance(one, str) or np.ndim(one) for one in what)
    entries = list(what) if several else [what]
    table = spelling(as_tokenizer(tokenizer)) if any(isinstance(one, str) for one in entries) else None
    return tuple(_pattern(one, table, ignore_case, whole_words) for one in entries)


def _pattern(what: Any, table: Spelling | None, ignore_case: bool, whole_words: bool) -> _Text | _Run:
    if isinstance(what, str):
        if not what or table is None:
            raise ArgumentError("there is nothing to look for", expected="at least one letter", got=what)
        return _Text(table, what.encode(), ignore_case, whole_words)
    run: Int[np.ndarray, " run"] = np.asarray(what)
    if run.ndim != 1 or run.size == 0 or not np.issubdtype(run.dtype, np.integer):
        raise ArgumentError(
            "neither text nor a run of tokens", expected="str, or at least one token id", got=f"{what!r}"[:60]
        )
    if ignore_case or whole_words:
        raise ArgumentError("tokens have neither case nor words", expected="text, or plain tokens", got=run.tolist())
    return _Run(tuple(int(token) for token in run))
