r"""Constraints that are answered on the host: a grammar engine that is asked once a step, for all particles together.

The state of a particle is what it wrote, and nothing else: the host finds the engine's matcher by the prefix, in a memo, forks
the parent's where a child is new, and reads the whole prefix again where the parent was forgotten. So a matcher travels with
its particle through resampling, checkpoint and resume without the device knowing of it, and equal prefixes cost one answer.
"""

import abc
import hashlib
import threading
from collections import OrderedDict
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Bool, Int, Time, UInt
from smcinfer.ground.errors import call_on_host
from smcinfer.language.constraints.constraint import Constraint, only

MEMO = 1 << 16
"""Prefixes whose matchers are remembered."""

BITS = 8
"""Tokens a byte of a packed mask."""


class Matcher(abc.ABC):
    """An engine's state after a prefix (host)."""

    @abc.abstractmethod
    def fork(self, token: int) -> "Matcher | None":
        """The state after one token more, leaving this one as it is; ``None`` where the token is not allowed."""

    @abc.abstractmethod
    def mask(self) -> np.ndarray:
        """UInt8["V/8"], which tokens may come next, the first token in the lowest bit; that of EOS is not looked at."""

    @abc.abstractmethod
    def complete(self) -> bool:
        """Whether the prefix belongs to the set."""


class Memo:
    """Answers of one grammar by prefix.

    Attributes:
        num_asked: prefixes that the device asked about.
        num_answered: those that were new, and went to the engine.
    """

    def __init__(self, root: Matcher, identity: str) -> None:
        self._known: OrderedDict[bytes, tuple[Matcher | None, np.ndarray, bool]] = OrderedDict()
        self._root = root
        self._digest = hashlib.sha256(identity.encode()).digest()
        self._lock = threading.Lock()
        self._nothing = np.zeros_like(root.mask())
        self.num_asked = self.num_answered = 0

    @property
    def width(self) -> int:
        """Bytes of a packed mask."""
        return self._nothing.size

    @property
    def digest(self) -> np.ndarray:
        """UInt32["8"], what tells this grammar and vocabulary from any other."""
        return np.frombuffer(self._digest, np.uint32)

    def ask(self, tokens: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Masks and completeness of many prefixes.

        Args:
            tokens: Int32["... T"].
            lengths: Int32["..."], tokens of each that count.

        Returns:
            UInt8["... V/8"], and Bool["..."].
        """
        flat, sizes = tokens.reshape(-1, tokens.shape[-1]), lengths.reshape(-1)
        masks = np.empty((len(flat), self.width), np.uint8)
        complete = np.empty(len(flat), bool)
        with self._lock:
            for row, (prefix, size) in enumerate(zip(flat, sizes, strict=True)):
                _, masks[row], complete[row] = self._answer(np.ascontiguousarray(prefix[:size]))
            self.num_asked += len(flat)
            while len(self._known) > max(MEMO, 2 * len(flat)):
                self._known.popitem(last=False)
        return masks.reshape(*lengths.shape, -1), complete.reshape(lengths.shape)

    def _answer(self, prefix: np.ndarray) -> tuple[Matcher | None, np.ndarray, bool]:
        name = prefix.tobytes()
        found = self._known.get(name)
        if found is not None:
            self._known.move_to_end(name)
            return found
        matcher = self._reach(prefix)
        self.num_answered += 1
        answer = (None, self._nothing, False) if matcher is None else (matcher, matcher.mask(), matcher.complete())
        self._known[name] = answer
        return answer

    def _reach(self, prefix: np.ndarray) -> Matcher | None:
        """The matcher after a prefix: a child of the longest one that is remembered."""
        depth, matcher = len(prefix), self._root
        while depth:
            depth -= 1
            parent = self._known.get(prefix[:depth].tobytes())
            if parent is not None:
                matcher = parent[0]
                break
        for token in prefix[depth:].tolist():
            matcher = None if matcher is None else matcher.fork(token)
        return matcher

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Memo) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)


class Written(eqx.Module):
    """What a particle carries: what it wrote, and what the engine says of it.

    Attributes:
        tokens: Int["T"].
        length: Int[""], EOS not counted.
        mask: UInt8["V/8"], packed.
        complete: Bool[""].
    """

    tokens: Int[Array, " max_tokens"]
    length: Int[Array, ""]
    mask: UInt[Array, " bytes"]
    complete: Bool[Array, ""]


class Engine(Constraint):
    """A constraint that an engine on the host answers (made by `regex`, `json_schema`, `lark`).

    Attributes:
        memo: the answers, shared by all particles of all runs.
        identity: UInt32["8"], the grammar's digest: it is part of the model's arrays, so that a checkpoint of another
            grammar is refused.
    """

    memo: Memo = eqx.field(static=True)
    identity: UInt[Array, " words"]
    vocab_size: int = eqx.field(static=True)
    eos_id: int = eqx.field(static=True)
    vocabulary: str | None = eqx.field(static=True, default=None)

    def _ask(self, tokens: Array, length: Array) -> Written:
        def ask(tokens: Any, length: Any) -> tuple[np.ndarray, np.ndarray]:
            return call_on_host(self.memo.ask, np.asarray(tokens), np.asarray(length))

        shapes = (jax.ShapeDtypeStruct((self.memo.width,), jnp.uint8), jax.ShapeDtypeStruct((), jnp.bool_))
        mask, complete = jax.pure_callback(ask, shapes, tokens, length, vmap_method="broadcast_all")
        return Written(tokens, length, mask, complete)

    def start(self, max_tokens: int) -> Written:
        """The answer before anything was written: asked now, once."""
        tokens = jnp.zeros((max_tokens,), jnp.int32)
        mask, complete = self.memo.ask(np.zeros((1,), np.int32), np.zeros((), np.int32))
        return Written(tokens, jnp.zeros((), jnp.int32), jnp.asarray(mask), jnp.asarray(complete))

    def read(self, t: Time, carried: Written, token: Int[Array, ""]) -> Written:
        """One callback for all particles."""
        del t
        place = jnp.minimum(carried.length, carried.tokens.shape[0] - 1)
        more = token != self.eos_id
        tokens = carried.tokens.at[place].set(jnp.where(more, token, carried.tokens[place]).astype(jnp.int32))
        return self._ask(tokens, carried.length + more.astype(jnp.int32))

    def allowed(self, carried: Written) -> Bool[Array, " vocab"]:
        """The engine's mask unpacked, EOS where it is complete."""
        bits = jnp.unpackbits(carried.mask, bitorder="little")[: self.vocab_size].astype(bool)
        at_eos = jnp.arange(self.vocab_size) == self.eos_id
        return jnp.where(at_eos, False, bits) | only(self.eos_id, self.vocab_size, carried.complete)

    def complete(self, carried: Written) -> Bool[Array, ""]:
        """What the engine said."""
        return carried.complete
