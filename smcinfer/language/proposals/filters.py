r"""Filters of the logits: what sampling heuristics do to a model's next-token law.

A filter is any function ``Float["V"] -> Float["V"]`` of one row of logits; minus infinity removes a token. Those that have
names are here. As a proposal (`filtered`) a filter is honest: the weight undoes the renormalisation that a
sampler with the same filter silently makes at every token.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float
from smcinfer.ground.errors import ArgumentError

Filter = Callable[[Array], Array]
"""``Float["V"] -> Float["V"]``: logits to logits, nats, unnormalised on both sides."""

Logits = Float[Array, " vocab"]


class NamedFilter(eqx.Module):
    """A filter with settings of its own, compared by them."""

    @abc.abstractmethod
    def __call__(self, logits: Logits) -> Logits:
        """The logits after the filter, minus infinity for tokens that it removes."""


class Temperature(NamedFilter):
    """Logits divided by a temperature; below one it sharpens. Removes nothing."""

    value: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        validate.number("temperature", self.value, above=0.0)

    def __call__(self, logits: Logits) -> Logits:
        """The logits divided by the temperature."""
        return logits / self.value


class TopK(NamedFilter):
    """The k likeliest tokens (and what ties with the last of them). Source: Fan, Lewis & Dauphin (2018)."""

    k: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        validate.count("top_k", self.k)

    def __call__(self, logits: Logits) -> Logits:
        """The logits of the k likeliest tokens, minus infinity for the others."""
        least = jax.lax.top_k(logits, min(self.k, logits.shape[-1]))[0][-1]
        return jnp.where(logits >= least, logits, -jnp.inf)


class Nucleus(NamedFilter):
    """The smallest set of likeliest tokens that has this mass. Source: Holtzman et al. (2020)."""

    mass: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        validate.number("nucleus", self.mass, above=0.0, at_most=1.0)

    def __call__(self, logits: Logits) -> Logits:
        """The logits of the smallest set of likeliest tokens, minus infinity for the others."""
        return _smallest_set(logits, -logits, self.mass)


class MinP(NamedFilter):
    """Tokens at least this share as likely as the likeliest. Source: Nguyen et al. (2024)."""

    share: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        validate.fraction("min_p", self.share)

    def __call__(self, logits: Logits) -> Logits:
        """The logits of tokens that are likely enough, minus infinity for the others."""
        least = jnp.max(logits) + (jnp.log(self.share) if self.share > 0 else -jnp.inf)
        return jnp.where(logits >= least, logits, -jnp.inf)


class Eta(NamedFilter):
    r"""Tokens with :math:`p(v) > \min(\epsilon, \sqrt\epsilon\, e^{-H})`, H the entropy of p.

    Source: Hewitt, Manning & Liang (2022).
    """

    epsilon: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        validate.number("eta", self.epsilon, above=0.0, below=1.0)

    def __call__(self, logits: Logits) -> Logits:
        """The filtered logits; the likeliest token is always kept."""
        log_p = jax.nn.log_softmax(logits)
        log_epsilon = jnp.log(self.epsilon)
        least = jnp.minimum(log_epsilon, 0.5 * log_epsilon - _entropy(log_p))
        return jnp.where((log_p > least) | (log_p == jnp.max(log_p)), logits, -jnp.inf)


class Epsilon(NamedFilter):
    """Tokens of at least this probability, and the likeliest. Source: Hewitt, Manning & Liang (2022)."""

    epsilon: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        validate.number("epsilon", self.epsilon, above=0.0, below=1.0)

    def __call__(self, logits: Logits) -> Logits:
        """The logits of tokens that are likely enough, minus infinity for the others."""
        log_p = jax.nn.log_softmax(logits)
        return jnp.where((log_p >= jnp.log(self.epsilon)) | (log_p == jnp.max(log_p)), logits, -jnp.inf)


class TopNSigma(NamedFilter):
    """Tokens whose logits are at most n standard deviations of all logits below the largest.

    The set does not change with a temperature. Source: Tang, Liu, Xu, Zhang & Lin (2024), *Top-n-sigma*.
    """

    n: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        validate.number("top_n_sigma", self.n, above=0.0)

    def __call__(self, logits: Logits) -> Logits:
        """The logits near enough to the largest, minus infinity for the others."""
        spread = jnp.std(logits, where=logits > -jnp.inf)
        return jnp.where(logits >= jnp.max(logits) - self.n * spread, logits, -jnp.inf)


class TopH(NamedFilter):
    r"""As many of the likeliest tokens as have together, renormalised, at most a share of the entropy.

    .. math:: H(q) \le \alpha H(p)

    Source: Potraghloo, Azizi, Kundu & Pedram (2025), *Top-H decoding*, algorithm 1.
    """

    share: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        validate.number("top_h", self.share, above=0.0, at_most=1.0)

    def __call__(self, logits: Logits) -> Logits:
        """The logits of the set, minus infinity for the others; the likeliest token is always kept."""
        log_p = jax.nn.log_softmax(logits)
        ranked = -jnp.sort(-log_p)
        p = jnp.exp(ranked)
        mass = jnp.cumsum(p)
        # Entropy of the first k renormalised: log of their mass, less their mean log probability.
        surprise = jnp.cumsum(jnp.where(ranked == -jnp.inf, 0.0, p * ranked))
        fits = jnp.log(mass) - surprise / mass <= self.share * _entropy(log_p)
        # The entropy of the first k grows with k, but for rounding where it is small.
        last = jnp.max(jnp.cumprod(fits.at[0].set(True)) * jnp.arange(1, p.shape[0] + 1))
        return jnp.where(log_p >= ranked[last - 1], logits, -jnp.inf)


class TailFree(NamedFilter):
    """The likeliest tokens, cut where the sorted probabilities stop bending: by this share of all bends.

    Source: Bricken (2019), *Tail free sampling*.
    """

    share: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        validate.number("tail_free", self.share, above=0.0, at_most=1.0)

    def __call__(self, logits: Logits) -> Logits:
        """The logits before the tail, minus infinity for it; the likeliest token is always kept."""
        p = -jnp.sort(-jax.nn.softmax(logits))
        bends = jnp.abs(jnp.diff(p, 2))
        total = jnp.sum(bends)
        before = jnp.cumsum(bends) - bends
        # Token k + 1 goes with the bend at k; the last two have none of their own.
        inside = jnp.where(total > 0, before < self.share * total, True)
        kept = jnp.concatenate([jnp.ones((1,), bool), inside, jnp.full((1,), self.share == 1.0)])
        last = jnp.max(jnp.cumprod(kept) * jnp.arange(1, p.shape[0] + 1))
        return jnp.where((jax.nn.softmax(logits) >= p[last - 1]) & (logits > -jnp.inf), logits, -jnp.inf)


class Typical(NamedFilter):
    r"""The smallest set of this mass among the tokens whose surprise :math:`-\log p(v)` is nearest to the entropy.

    Source: Meister, Pimentel, Wiher & Cotterell (2023).
    """

    mass: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        validate.number("typical", self.mass, above=0.0, at_most=1.0)

    def __call__(self, logits: Logits) -> Logits:
        """The logits of the most typical tokens, minus infinity for the others."""
        log_p = jax.nn.log_softmax(logits)
        return _smallest_set(logits, jnp.abs(log_p + _entropy(log_p)), self.mass)


class Chain(NamedFilter):
    """Filters one after the other."""

    filters: tuple[Filter, ...]

    def __call__(self, logits: Logits) -> Logits:
        """The logits after all filters, in their order."""
        for one in self.filters:
            logits = one(logits)
        return logits


_BY_NAME: dict[str, tuple[type, type]] = {
    "temperature": (Temperature, float),
    "top_k": (TopK, int),
    "nucleus": (Nucleus, float),
    "min_p": (MinP, float),
    "eta": (Eta, float),
    "typical": (Typical, float),
    "epsilon": (Epsilon, float),
    "top_n_sigma": (TopNSigma, float),
    "top_h": (TopH, float),
    "tail_free": (TailFree, float),
}


def by_name(text: str) -> NamedFilter:
    """A filter from words: ``"temperature=0.8,top_k=40"``, applied from left to right.

    Raises:
        ArgumentError: for an unknown name, or a setting that is no number or out of range.
    """
    made = []
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in _BY_NAME:
            raise ArgumentError(
                "unknown filter", expected=" | ".join(f"{known}=NUMBER" for known in _BY_NAME), got=part
            )
        kind, number = _BY_NAME[name]
        try:
            made.append(kind(number(value)))
        except ValueError as error:
            if isinstance(error, ArgumentError):
                raise
            raise ArgumentError(f"the setting of {name} is no number", expected=f"{name}=NUMBER", got=part) from error
    return made[0] if len(made) == 1 else Chain(tuple(made))


def _smallest_set(logits: Logits, order: Logits, mass: float) -> Logits:
    """Logits of the smallest set of this mass that comes first in an order (the first token and ties are always kept)."""
    rank = jnp.argsort(order)
    p = jax.nn.softmax(logits)[rank]
    before = jnp.cumsum(p) - p
    last = jnp.max(jnp.where(before < mass, order[rank], -jnp.inf))
    return jnp.where(order <= last, logits, -jnp.inf)


def _entropy(log_p: Logits) -> Array:
    """Entropy in nats; a token of probability zero adds nothing."""
    return -jnp.sum(jnp.where(log_p == -jnp.inf, 0.0, jnp.exp(log_p) * log_p))
