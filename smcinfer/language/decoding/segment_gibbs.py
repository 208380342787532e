r"""Gibbs sampling over the free segments of a text whose other parts are given.

A text is given parts and free segments in turn, :math:`s = g_1 f_1 g_2 f_2 \dots`, with the law

.. math:: \sigma(f_1, f_2, \dots) \propto p_0(s)\, \phi(s),

:math:`p_0` the model's probability of all its tokens. Left-to-right generation does not see the given parts that come later. A
sweep draws every segment anew given all others: M - 1 candidates from the model, given what stands before, and the segment as
it is; one of them is kept in proportion to

.. math:: w(f_i) = p_0(\text{what follows} \mid \dots f_i)\, \phi(s),

which leaves :math:`\sigma` invariant whatever M is (iterated sampling importance resampling).

Source: Andrieu, Lee & Vihola (2018), section 2, for the move.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError, surfacing
from smcinfer.language.networks.hosts import only_in_jax
from smcinfer.language.networks.lm import CausalLM, as_model
from smcinfer.language.networks.symbols import draw_symbols
from smcinfer.language.networks.tokenizer import Tokenizer
from smcinfer.run.runner import as_typed_key

Span = tuple[int, int]
"""First token of a segment and the one after its last."""


@dataclasses.dataclass(frozen=True)
class SegmentChains:
    """What the chains went through.

    Attributes:
        tokens: Int["sweeps chains L"], the whole text after every sweep, warm-up left out.
        log_joint: Float["sweeps chains"], log p0 phi of it, nats.
        moved: Float["segments"], how often a segment changed.
        spans: where the free segments are.
        tokenizer: for `texts`.
    """

    tokens: Int[np.ndarray, "sweeps chains length"]
    log_joint: Float[np.ndarray, "sweeps chains"]
    moved: Float[np.ndarray, " segments"]
    spans: tuple[Span, ...]
    tokenizer: Tokenizer | None

    def texts(self) -> list[str]:
        """The text of every chain after the last sweep."""
        if self.tokenizer is None:
            raise ArgumentError("the model came without a tokenizer", expected="tokens, not texts", got=None)
        return [self.tokenizer.decode(row.tolist()) for row in self.tokens[-1]]

    def __str__(self) -> str:
        moved = ", ".join(f"{share:.2f}" for share in self.moved)
        last = self.log_joint[-1]
        return (
            f"Gibbs over {len(self.spans)} segments: {self.tokens.shape[1]} chains, {self.tokens.shape[0]} sweeps\n"
            f"  moved        {moved} of the sweeps, by segment\n"
            f"  log p0 phi   {last.mean():.2f} nats on average after the last sweep"
        )


def segment_gibbs(
    key: Any,
    lm: Any,
    parts: Sequence[str | Sequence[int] | int],
    potential: Callable[[Int[Array, " length"]], Scalar] | None = None,
    *,
    num_sweeps: int = 100,
    num_warmup: int = 0,
    num_chains: int = 16,
    num_candidates: int = 16,
) -> SegmentChains:
    """Draw the free segments of a text whose other parts are given.

    Args:
        key: one random key.
        lm: a `CausalLM`, or what `language.load` returned.
        parts: given parts, each text or token ids, and free segments, each the number of its tokens; the first is given.
        potential: ``(tokens) -> Float[""]``, log phi of the whole text in nats, a JAX function of Int["L"]; none by default.
        num_sweeps: sweeps that are kept, each over all segments.
        num_warmup: sweeps before them that are not.
        num_chains: independent chains; they start from the model's own left-to-right draws.
        num_candidates: M, the segment as it is included.

    Returns:
        `SegmentChains`.

    Raises:
        ArgumentError: for parts that are no text with at least one free segment, or that do not fit into the model's context.
        TargetError: for a potential that is no scalar.

    Invariant law: ``p0(s) phi(s)`` given the given parts; chains, not weighted draws, so no log Z.
    """
    model = as_model(lm)
    only_in_jax(model, "segment_gibbs")
    tokenizer = getattr(lm, "tokenizer", None)
    template, spans = _layout(parts, model, tokenizer)
    for name, value, least in (
        ("num_sweeps", num_sweeps, 1),
        ("num_warmup", num_warmup, 0),
        ("num_chains", num_chains, 1),
        ("num_candidates", num_candidates, 2),
    ):
        if value < least:
            raise ArgumentError(f"{name} is out of range", expected=f"at least {least}", got=value)
    sampler = _Sampler(model, potential, spans, num_candidates)
    row = jax.ShapeDtypeStruct(template.shape, jnp.int32)
    value = eqx.filter_eval_shape(sampler.log_potential, row)
    if getattr(value, "shape", None) != ():
        raise TargetError("potential did not return a scalar", expected="Float['']", got=getattr(value, "shape", value))
    start_key, sweep_key = jax.random.split(as_typed_key(key))
    with surfacing():
        start = _start(sampler, start_key, jnp.asarray(template), num_chains)
        tokens, log_joint, moved = _sweeps(sampler, sweep_key, start, num_warmup + num_sweeps)
        kept = [np.asarray(leaf[num_warmup:]) for leaf in (tokens, log_joint, moved)]
    return SegmentChains(kept[0], kept[1], kept[2].mean(axis=(0, 1)), spans, tokenizer)


class _Sampler(eqx.Module):
    """The moves on one chain."""

    lm: CausalLM
    potential: Callable[[Array], Scalar] | None
    spans: tuple[Span, ...] = eqx.field(static=True)
    num_candidates: int = eqx.field(static=True)

    def log_potential(self, tokens: Int[Array, " length"]) -> Any:
        """log phi."""
        return jnp.zeros(()) if self.potential is None else self.potential(tokens)

    def log_tail(self, tokens: Int[Array, " length"], start: int) -> Scalar:
        """log p0 of the tokens from ``start`` on, given those before, times phi."""
        log_p = jax.nn.log_softmax(self.lm.forward(tokens).logits[start - 1 : -1])
        said = jnp.take_along_axis(log_p, tokens[start:, None], axis=-1)
        return jnp.sum(said) + self.log_potential(tokens)

    def draw(self, key: KeyArray, tokens: Int[Array, " length"], span: Span, num: int) -> Int[Array, "num length"]:
        """Texts whose segment is drawn anew from the model, given what stands before."""
        start, stop = span
        first, prefix = self.lm.prefill(tokens[:start])
        size = stop - start
        cache = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), self.lm.empty(size))
        logits = jnp.broadcast_to(first.logits, (num, first.logits.shape[0]))

        def once(carry: tuple[Array, Any], slot: Array) -> tuple[tuple[Array, Any], Array]:
            logits, cache = carry
            drawn = draw_symbols(jax.random.fold_in(key, slot), logits)
            output, cache = jax.vmap(lambda token, cache: self.lm.step(token, slot, cache, prefix))(drawn, cache)
            return (output.logits, cache), drawn

        _, drawn = jax.lax.scan(once, (logits, cache), jnp.arange(size, dtype=jnp.int32))
        return jnp.broadcast_to(tokens, (num, tokens.shape[0])).at[:, start:stop].set(drawn.T)

    def sweep(self, key: KeyArray, tokens: Int[Array, " length"]) -> tuple[Array, Scalar, Array]:
        """Every segment once, the text after it, log p0 phi, and which segments changed."""
        moved = []
        for index, (start, stop) in enumerate(self.spans):
            draw_key, choose_key = jax.random.split(jax.random.fold_in(key, index))
            others = self.draw(draw_key, tokens, (start, stop), self.num_candidates - 1)
            candidates = jnp.concatenate([tokens[None], others])
            log_w = jax.vmap(lambda row, stop=stop: self.log_tail(row, stop))(candidates)
            # A text that weighs nothing, or NaN, is never chosen over one that does.
            log_w = jnp.where(jnp.isnan(log_w), -jnp.inf, log_w)
            chosen = jax.random.categorical(choose_key, jnp.where(jnp.all(log_w == -jnp.inf), 0.0, log_w))
            moved.append(jnp.any(candidates[chosen] != tokens))
            tokens = candidates[chosen]
        return tokens, self.log_tail(tokens, 1), jnp.stack(moved)


@eqx.filter_jit
def _start(sampler: _Sampler, key: KeyArray, template: Int[Array, " length"], num: int) -> Int[Array, "chains length"]:
    """Segments drawn from left to right, each given what stands before it."""

    def one(key: KeyArray) -> Array:
        tokens = template
        for index, span in enumerate(sampler.spans):
            tokens = sampler.draw(jax.random.fold_in(key, index), tokens, span, 1)[0]
        return tokens

    return jax.vmap(one)(jax.random.split(key, num))


@eqx.filter_jit
def _sweeps(sampler: _Sampler, key: KeyArray, tokens: Int[Array, "chains length"], num: int) -> tuple[Array, ...]:
    def once(tokens: Array, index: Array) -> tuple[Array, tuple[Array, ...]]:
        keys = jax.random.split(jax.random.fold_in(key, index), tokens.shape[0])
        tokens, log_joint, moved = jax.vmap(sampler.sweep)(keys, tokens)
        return tokens, (tokens, log_joint, moved)

    return jax.lax.scan(once, tokens, jnp.arange(num))[1]


def _layout(parts: Sequence[Any], lm: CausalLM, tokenizer: Tokenizer | None) -> tuple[np.ndarray, tuple[Span, ...]]:
    """The text with zeros in its free segments, and where they are."""
    tokens: list[int] = []
    spans: list[Span] = []
    for part in parts:
        if isinstance(part, int | np.integer):
            if part < 1 or not tokens:
                raise ArgumentError(
                    "a free segment has at least one token and something before it",
                    expected="given, free, ...",
                    got=parts,
                )
            spans.append((len(tokens), len(tokens) + int(part)))
            tokens += [0] * int(part)
        elif isinstance(part, str):
            if tokenizer is None:
                raise ArgumentError(
                    "a part is text and the model has no tokenizer", expected="token ids", got=part[:40]
                )
            tokens += tokenizer.encode_plain(part) if tokens else tokenizer.encode(part)
        else:
            tokens += map(int, part)
    if not spans:
        raise ArgumentError("nothing is free", expected="at least one number of tokens among the parts", got=parts)
    if min(tokens) < 0 or max(tokens) >= lm.vocab_size:
        raise ArgumentError(
            "a part has tokens that the model does not know", expected=f"0 .. {lm.vocab_size - 1}", got=max(tokens)
        )
    if lm.max_positions is not None and len(tokens) > lm.max_positions:
        raise ArgumentError(
            "the text does not fit into the model's context",
            expected=f"at most {lm.max_positions} tokens",
            got=len(tokens),
        )
    return np.asarray(tokens, np.int32), tuple(spans)
