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

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Count, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.hosts import only_in_jax
from smcinfer.language.networks.lm import CausalLM, as_model
from smcinfer.language.networks.symbols import draw_symbols
from smcinfer.language.networks.tokenizer import Tokenizer
from smcinfer.results.chains import Chains
from smcinfer.run.chains.finish import chains_of
from smcinfer.run.chains.loop import drive
from smcinfer.run.chains.plan import checked, doubling
from smcinfer.run.chains.sampler import Info, Sampler
from smcinfer.static.contract import check_scalar

Span = tuple[int, int]
"""First token of a segment and the one after its last."""


class SegmentChains(Chains):
    """Texts that the chains went through: draws ``tokens`` (Int, (chains, draws, L), whole texts) and ``log_joint`` (their
    log p0 phi, nats); ``acceptance`` is the share of segments that changed."""

    WEIGHTED_FOR = "p0(text) phi(text) given the given parts, once a chain has forgotten its start; there is no log Z"

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where the free segments are."""
        return tuple((int(start), int(stop)) for start, stop in self.settings["spans"])

    def texts(self) -> list[str]:
        """The text of every chain at its last draw.

        Raises:
            ArgumentError: the model came without a tokenizer.
        """
        if self.settings["texts"] is None:
            raise ArgumentError("the model came without a tokenizer", expected="tokens, not texts", got=None)
        return list(self.settings["texts"])

    def _title(self) -> str:
        size = f"{self.num_chains} chains, {self.num_draws} draws"
        return f"smcinfer Gibbs over {len(self.spans)} segments: {size}"

    def _lines(self) -> list[tuple[str, str]]:
        last = self.draws["log_joint"][:, -1]
        moved = ", ".join(f"{share:.2f}" for share in self.settings["moved"])
        return [
            ("moved", f"{moved} of the sweeps, by segment"),
            ("log p0 phi", f"{last.mean():.2f} nats on average at the last draw"),
            ("warm-up", f"{self.settings['num_warmup']} sweeps a chain"),
        ]


def segment_gibbs(
    key: Any,
    lm: Any,
    parts: Sequence[str | Sequence[int] | int],
    potential: Callable[[Int[Array, " length"]], Scalar] | None = None,
    *,
    num_candidates: int = 16,
    num_chains: int = 16,
    num_draws: int = 100,
    num_warmup: int = 0,
    thin: int = 1,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> SegmentChains:
    """Draw the free segments of a text whose other parts are given.

    Args:
        key: one random key; the same key gives the same texts, resumed or not.
        lm: a `CausalLM`, or what `language.load` returned.
        parts: given parts, each text or token ids, and free segments, each the number of its tokens; the first is given.
        potential: ``(tokens) -> Float[""]``, log phi of the whole text in nats, a JAX function of Int["L"]; none by default.
        num_candidates: M, the segment as it is included.
        num_chains: independent chains, side by side; they start from the model's left-to-right draws.
        num_draws: texts kept of each chain.
        num_warmup, thin: sweeps over all segments before them, sweeps a draw.
        progress, checkpoint, checkpoint_seconds: as in `smcinfer.mcmc`.

    Returns:
        `SegmentChains`.

    Raises:
        ArgumentError: for parts that are no text with at least one free segment, or that do not fit into the model's context.
        TargetError: for a potential that is no scalar.
        CheckpointError: a checkpoint that is damaged or belongs to another run.
        Interrupted: after Ctrl-C where there is a bar or a checkpoint, at the end of the sweep under way.

    Invariant law: ``p0(s) phi(s)`` given the given parts; chains, not weighted draws, so no log Z.
    """
    model = as_model(lm)
    only_in_jax(model, "segment_gibbs")
    tokenizer = getattr(lm, "tokenizer", None)
    template, spans = _layout(parts, model, tokenizer)
    num_chains, num_draws, num_warmup, thin = checked(num_chains, num_draws, num_warmup, thin)
    num_candidates = validate.count("num_candidates", num_candidates, at_least=2)
    sampler = SegmentGibbs(model, potential, jnp.asarray(template), spans, num_candidates)
    check_scalar("potential", sampler.log_potential, jax.ShapeDtypeStruct(template.shape, jnp.int32))
    plan = doubling(num_draws, num_warmup, thin)
    driven = drive(
        key,
        sampler,
        plan,
        num_chains=num_chains,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        description="text Gibbs",
    )
    draws = {name: driven.records[name] for name in ("tokens", "log_joint")}
    settings = {
        "kernel": "segments",
        "thin": thin,
        "num_warmup": num_warmup,
        "pace": "in step",
        "num_candidates": num_candidates,
        "spans": [list(span) for span in spans],
        "moved": (driven.records["moved"].mean(axis=(0, 1)) / thin).tolist(),
        "texts": None if tokenizer is None else [tokenizer.decode(row.tolist()) for row in draws["tokens"][:, -1]],
    }
    return chains_of(SegmentChains, key, driven, draws, settings)


class SegmentGibbs(Sampler):
    """The moves on one text.

    Attributes:
        lm, potential: the law.
        template: Int["L"], the given tokens, anything in the free segments.
        spans: where the free segments are.
        num_candidates: M.
    """

    lm: CausalLM
    potential: Callable[[Array], Scalar] | None
    template: Int[Array, " length"]
    spans: tuple[Span, ...] = eqx.field(static=True)
    num_candidates: int = eqx.field(static=True)

    def log_potential(self, tokens: Int[Array, " length"]) -> Any:
        """log phi of a whole text, nats; zero where there is no potential."""
        return jnp.zeros(()) if self.potential is None else self.potential(tokens)

    def log_tail(self, tokens: Int[Array, " length"], start: int) -> Scalar:
        """log p0 of the tokens from ``start`` on, given those before, times phi."""
        log_p = jax.nn.log_softmax(self.lm.forward(tokens).logits[start - 1 : -1])
        said = jnp.take_along_axis(log_p, tokens[start:, None], axis=-1)
        return jnp.sum(said) + self.log_potential(tokens)

    def propose(self, key: KeyArray, tokens: Int[Array, " length"], span: Span, num: int) -> Int[Array, "num length"]:
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

    def begin(self, key: KeyArray, chain: Count) -> Int[Array, " length"]:
        """Segments drawn from left to right, each given what stands before it."""
        tokens = self.template
        for index, span in enumerate(self.spans):
            tokens = self.propose(jax.random.fold_in(key, index), tokens, span, 1)[0]
        return tokens

    def step(self, key: KeyArray, state: Int[Array, " length"], params: None) -> tuple[Int[Array, " length"], Info]:
        """Redraw every free segment once, in their order."""
        tokens, moved = state, []
        for index, (start, stop) in enumerate(self.spans):
            draw_key, choose_key = jax.random.split(jax.random.fold_in(key, index))
            others = self.propose(draw_key, tokens, (start, stop), self.num_candidates - 1)
            candidates = jnp.concatenate([tokens[None], others])
            log_w = jax.vmap(lambda row, stop=stop: self.log_tail(row, stop))(candidates)
            # A text that weighs nothing, or NaN, is never chosen over one that does.
            log_w = jnp.where(jnp.isnan(log_w), -jnp.inf, log_w)
            chosen = jax.random.categorical(choose_key, jnp.where(jnp.all(log_w == -jnp.inf), 0.0, log_w))
            moved.append(jnp.any(candidates[chosen] != tokens))
            tokens = candidates[chosen]
        changed = jnp.stack(moved).astype(jnp.result_type(float))
        evals = jnp.asarray(self.num_candidates * len(self.spans), jnp.int32)
        return tokens, {"acceptance": jnp.mean(changed), "num_evals": evals, "moved": changed}

    def record(self, state: Int[Array, " length"], info: Info) -> dict[str, Array]:
        """The text, and log p0 phi of it."""
        return {"tokens": state, "log_joint": self.log_tail(state, 1)}


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
