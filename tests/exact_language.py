"""A language model of five tokens and strings of six, with the sum over all its strings: what every test is held against."""

import dataclasses
import itertools
from collections.abc import Callable
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.nouns import Twist
from smcinfer.language import TableLM, TokenState, table_lm

VOCAB, LENGTH, EOS = 5, 6, 0
PROMPT = (3, 1)


@cache
def _table() -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(table_lm(jax.random.key(7), VOCAB, 2, 1.2).table, np.float64)


def small_lm() -> TableLM:
    """The model, in the precision that is on."""
    lm = table_lm(jax.random.key(7), VOCAB, 2, 1.2)
    return eqx.tree_at(lambda tree: tree.table, lm, jnp.asarray(_table(), jnp.result_type(float)))


SCORES = np.array(
    [
        [0.5, -1.0, 0.3, 0.0, -0.4],
        [-0.8, 0.9, -1.3, 0.6, 0.2],
        [0.1, -0.6, 1.1, -1.5, 0.4],
        [-1.2, 0.7, -0.2, 0.8, -0.9],
        [0.6, -0.3, -1.1, 0.2, 1.0],
    ]
)
"""Reward of each pair of neighbours, nats: a potential that depends on the whole string."""


def terminal_score(state: TokenState) -> jax.Array:
    """Sum of the rewards of neighbours in one sequence, nats, for `terminal`."""
    table = jnp.asarray(SCORES)
    pairs = table[state.tokens[:-1], state.tokens[1:]]
    return jnp.sum(jnp.where(jnp.arange(LENGTH - 1) + 1 < state.length, pairs, 0.0))


def stepwise_score(t: jax.Array, state: TokenState) -> jax.Array:
    """The same rewards, each paid when its second token comes, nats."""
    table = jnp.asarray(SCORES)
    before = state.tokens[jnp.maximum(t - 2, 0)]
    return jnp.where(t >= 2, table[before, state.tokens[jnp.maximum(t - 1, 0)]], 0.0)


def string_score(string: tuple[int, ...]) -> float:
    """The same sum, of a plain tuple."""
    return float(sum(SCORES[a, b] for a, b in itertools.pairwise(string)))


@dataclasses.dataclass(frozen=True)
class Strings:
    """All strings of a target.

    Attributes:
        strings: (K, T), padded by EOS.
        log_base: (K,), log p0 of each as the target has it.
        log_joint: (K,), log p0 phi.
        eos: the token that ends a string, or ``None``.
    """

    strings: np.ndarray
    log_base: np.ndarray
    log_joint: np.ndarray
    eos: int | None

    @property
    def everything(self) -> "Strings":
        """The base law itself: all strings, cut off at T."""
        return strings(lambda string: 0.0, eos=self.eos)

    @property
    def log_z(self) -> float:
        """Exact log normaliser."""
        return float(np.logaddexp.reduce(self.log_joint))

    @property
    def probabilities(self) -> np.ndarray:
        """(K,), the target."""
        return np.exp(self.log_joint - self.log_z)

    def draw(self, key: jax.Array) -> jax.Array:
        """An exact draw, x_1 .. x_T."""
        return jnp.asarray(self.strings, jnp.int32)[jax.random.categorical(key, jnp.asarray(self.log_joint))]

    def counts(self, tokens: np.ndarray) -> np.ndarray:
        """(K,), how often each string is among rows of tokens; all rows must be strings of the target."""
        names = {tuple(row): place for place, row in enumerate(self.strings.tolist())}
        seen = np.zeros(len(self.strings))
        for row in np.asarray(tokens).tolist():
            seen[names[tuple(row)]] += 1
        return seen

    def exact_twist(self) -> list[np.ndarray]:
        """log psi*_t of every prefix, t = 0 .. T: array t has shape (V,) * t; -inf where nothing continues.

        psi*_t(s) is the expected product of the potentials still to come; for a `terminal` potential.
        """
        joint = np.full((VOCAB,) * LENGTH, -np.inf)
        base = np.full((VOCAB,) * LENGTH, -np.inf)
        joint[tuple(self.strings.T)] = self.log_joint
        base[tuple(self.everything.strings.T)] = self.everything.log_base
        tables = []
        for t in range(LENGTH + 1):
            rest = (-1,) if t < LENGTH else (1,)
            up, down = (np.logaddexp.reduce(table.reshape((VOCAB,) * t + rest), axis=-1) for table in (joint, base))
            with np.errstate(invalid="ignore"):
                tables.append(np.where(np.isfinite(down), up - down, -np.inf))
        return tables


def strings(
    score: Callable[[tuple[int, ...]], float] = string_score, *, eos: int | None = EOS, end: str = "open"
) -> Strings:
    """Enumerate a target: every string with its probability, by a loop that shares nothing with the package.

    Args:
        score: log phi of a string (up to and with its EOS), nats.
        eos: the token that ends a string, or ``None``.
        end: ``"open"`` or ``"force"``.
    """
    table = _table()
    log_p = table - np.logaddexp.reduce(table, axis=1, keepdims=True)
    found: list[tuple[list[int], float, float]] = []
    for string in itertools.product(range(VOCAB), repeat=LENGTH):
        kept = string if eos is None or eos not in string else string[: string.index(eos) + 1]
        if any(token != eos for token in string[len(kept) :]):
            continue
        if end == "force" and eos not in kept:
            continue
        context, base = PROMPT, 0.0
        for token in kept:
            base += log_p[context[0] * (VOCAB + 1) + context[1], token]
            context = (context[1], token)
        found.append((list(string), base, base + score(kept)))
    rows, base, joint = zip(*found, strict=True)
    return Strings(np.array(rows), np.array(base), np.array(joint), eos)


class TabulatedTwist(Twist):
    """A twist read off a table of prefixes (see `Strings.exact_twist`); floors keep minus infinity out of differences."""

    tables: list[jax.Array]
    strength: float = eqx.field(static=True, default=1.0)

    @classmethod
    def of(cls, exact: Strings, strength: float = 1.0) -> "TabulatedTwist":
        """The exact twist, to a power."""
        tables = [np.maximum(table, -30.0).reshape(-1) for table in exact.exact_twist()]
        size = VOCAB**LENGTH
        return cls([jnp.asarray(np.pad(table, (0, size - table.size))) for table in tables], strength)

    def _code(self, t: jax.Array, state: TokenState) -> jax.Array:
        """The first t tokens as a number in base V."""
        place = jnp.where(jnp.arange(LENGTH) < t, VOCAB ** jnp.clip(t - 1 - jnp.arange(LENGTH), 0), 0)
        return jnp.sum(state.tokens * place)

    def __call__(self, t: jax.Array, state: TokenState) -> jax.Array:
        """log psi of the prefix."""
        return self.strength * jnp.stack(self.tables)[t, self._code(t, state)]

    def next(self, t: jax.Array, state: TokenState) -> jax.Array:
        """log psi of the prefix with each next token."""
        codes = self._code(t - 1, state) * VOCAB + jnp.arange(VOCAB)
        return self.strength * jnp.stack(self.tables)[jnp.minimum(t, LENGTH), jnp.clip(codes, 0, VOCAB**LENGTH - 1)]
