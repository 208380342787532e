r"""Generation as inference: a language model's sequences, weighed by what is asked of them.

.. math:: \sigma(s_{1:T}) \propto p_0(s_{1:T} \mid \text{prompt}) \prod_{t=0}^{T} \phi_t(s_{1:t})

A sequence may end before T, by EOS. What happens then:

- nothing is asked of it any more: all potentials after its end are one, and so is the twist;
- at the limit T, ``end="open"`` takes it as it is, cut off; ``end="force"`` asks for sequences that have ended by then. An
  unfinished one gets EOS at step T, and the weight :math:`p(\mathrm{EOS} \mid s_{1:T-1})` that goes with it: without that
  weight sequences that the model would rather continue count as if they had ended by themselves.

A *power* :math:`\alpha` asks for :math:`p_0(s)^\alpha` over whole sequences, by exponents that rise evenly from
:math:`a_1 = 1` to :math:`a_T = \alpha`. Token t is drawn in proportion to :math:`p_0(v \mid s_{1:t-1})^{a_t}`, and weighs

.. math:: p_0(s_{1:t-1})^{a_t - a_{t-1}} \sum_v p_0(v \mid s_{1:t-1})^{a_t},

which is known before it is drawn. A temperature of :math:`1 / \alpha` draws so and drops these weights, and with them what a
token costs later.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from smcinfer.core.compose import Composed, compose, induced
from smcinfer.core.feynman_kac import Mutation
from smcinfer.core.nouns import Process, Proposal
from smcinfer.core.plan import Plan
from smcinfer.core.status import Status, raise_bit
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Int, LogWeights, Particles, PyTree, Scalar, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.lm import CausalLM, as_model
from smcinfer.language.networks.loading import ends_of
from smcinfer.language.networks.tokenizer import Tokenizer
from smcinfer.language.process import Rules, TokenState, language_process
from smcinfer.language.proposals.forced import FREE, Given
from smcinfer.language.reader import Reader
from smcinfer.language.texts import TEXTS, WeightedText, powered, weighted_texts
from smcinfer.language.vocabularies import check_vocabularies, told

TokenPotential = Callable[[Time, TokenState], Scalar]
"""``(t, state) -> Float[""]``, log phi_t in nats, of one sequence after step t."""

ENDS = ("open", "force")


class Asked(eqx.Module):
    """The potential of a generation: the user's while the sequence lasts, and the tokens that are given."""

    potential: TokenPotential | None
    given: Given
    rules: Rules

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """log phi_t, zero after the end."""
        value = jnp.zeros(()) if self.potential is None else self.potential(t, state)
        value = jnp.where(self.given.allows(t, state), value, -jnp.inf)
        return jnp.where(state.just_read(t), value, 0.0) + self.rules.log_rise(t, state)


class Generation(Composed):
    """Sequences of a language model after a prompt, weighed by a potential (made by `generation`).

    Attributes:
        tokenizer: for `decode`; ``None`` where the model came without one.
    """

    tokenizer: Tokenizer | None = eqx.field(static=True, default=None)

    @property
    def plan(self) -> Plan:
        """Particles stand for the texts that the potential asks for."""
        power: float = self.process.rules.power  # pyright: ignore[reportAttributeAccessIssue]
        return Plan(TEXTS if power == 1.0 else powered(power), label="generating")

    def _log_twist(self, t: Time, state: PyTree[Any]) -> Scalar:
        """The twist, one after the sequence's end: nothing is asked of it any more."""
        if self.twist is None:
            return jnp.zeros(())
        return jnp.where(state.finished, 0.0, super()._log_twist(t, state))

    def _log_ahead(self, t: Time, state: PyTree[Any], log_twist: Scalar) -> Scalar | None:
        """Nothing where the next token is not drawn: resampling waits for its whole weight, potential included."""
        known = super()._log_ahead(t, state, log_twist)
        if known is None:
            return None
        given: Given = self.potential.given  # pyright: ignore[reportFunctionMemberAccess]
        return jnp.where(state.finished | given.any_at(t, self.num_steps), 0.0, known)

    def advance(self, t: Time, particles: Particles, x: Particles, log_w: LogWeights) -> Mutation:
        """As every composed model; a limit that no sequence has reached its end by is named."""
        moved = super().advance(t, particles, x, log_w)
        going: Any = particles.state  # pyright: ignore[reportAttributeAccessIssue]
        short = (t == self.num_steps) & jnp.all((moved.log_weights == -jnp.inf) & ~going.finished)
        return eqx.tree_at(lambda tree: tree.status, moved, raise_bit(moved.status, Status.CUT_OFF, short))

    def exported(self, particles: Particles) -> PyTree[Any]:
        """The sequences: tokens, length, and whether they ended by EOS; not the model's cache."""
        state: Any = particles.state  # pyright: ignore[reportAttributeAccessIssue]
        return {"tokens": state.tokens, "length": state.length, "finished": state.finished}

    def mover(self, twist: Any, proposal: Any) -> Proposal:
        """How free tokens are drawn, with the given ones put in; a function of the process that makes a proposal will do."""
        potential: Any = self.potential
        return _mover(self.process, potential.given, twist, proposal)

    def decode(self, result: Any) -> list[WeightedText]:
        """The sequences of a result as text, the heaviest first.

        Args:
            result: what `smcinfer.sample` (or `smcinfer.run`) made of this target.

        Returns:
            One entry a different sequence; weights are pooled over runs, each in proportion to its Z_hat, and sum to one.
        """
        process: Any = self.process
        shown: Any = result.particles if isinstance(result.particles, dict) else self.exported(result.particles)
        return weighted_texts(shown, result, np.asarray(process.prompt).tolist(), self.tokenizer, process.eos_id)


def generation(
    lm: Any,
    prompt: str | Sequence[int] | Array,
    potential: TokenPotential | None = None,
    *,
    max_tokens: int,
    continuation: str | Sequence[int] | Array | None = None,
    twist: Any = None,
    proposal: Proposal | Callable[[Any], Proposal] | None = None,
    look_ahead: TokenPotential | None = None,
    readers: Mapping[str, Reader] | None = None,
    temperature: float = 1.0,
    power: float = 1.0,
    eos_id: int | Sequence[int] | None | str = "model",
    end: str = "open",
) -> Generation:
    """A language model's continuations of a prompt, weighed by a potential; ready for `smcinfer.sample` and for bounds.

    Args:
        lm: a `CausalLM` or a `HostLM`; or what `load` or `from_transformers` returned, which brings a tokenizer and EOS.
        prompt: text, or tokens; at least one token. It is read here, once.
        potential: ``(t, state) -> Float[""]``, log phi_t in nats, of a `TokenState` after step t = 0 .. T (0 is the prompt
            alone). It is asked while a sequence lasts, its last token included. `terminal` makes one of whole sequences.
        max_tokens: how many tokens may be generated before the continuation.
        continuation: text, or tokens, that must follow the generated ones: infilling. Each is proposed with probability one
            and weighs p; T is then max_tokens and these together.
        twist: log psi_t: a `Twist`, or ``(t, state) -> Float[""]``. One that has ``next`` brings the proposal it induces.
        proposal: how tokens are drawn, or a function of the process that makes it; the model itself by default.
        look_ahead: see `compose`.
        readers: what reads every token along with the model, by name (see `smcinfer.language.reader`): potentials, twists and
            proposals find what each carries in ``state.readings``.
        temperature: divides the logits; part of the base law.
        power: whole sequences count by their probability to this power, above zero (see the module).
        eos_id: the token that ends a sequence; of several, the first is drawn with the probability of all, so that a sequence
            ends in one way. ``"model"`` for the loaded model's own, ``None`` for sequences that all have T tokens.
        end: ``"open"`` or ``"force"``, see the module.

    Returns:
        A `Generation`: a `Composed` whose x_1 .. x_T are tokens.

    Raises:
        ArgumentError: for a prompt that is empty, unknown to the model or too long for it, and settings out of range.
        TargetError: for a potential, twist or proposal that does not keep its contract.

    Properly weighted for: ``p0(s)^power prod_t phi_t(s)``, restricted to sequences that have the continuation, and that have
    ended by T where ``end="force"``.
    """
    tokenizer: Tokenizer | None = getattr(lm, "tokenizer", None)
    eos_id, also_eos = ends_of(lm, eos_id)
    model = as_model(lm)
    validate.number("power", power, above=0.0)
    _check(model, max_tokens, temperature, end, (eos_id, *also_eos))
    start = _tokens(prompt, "prompt", model, tokenizer)
    after = None if continuation is None else _continuation(prompt, continuation, model, tokenizer)
    total = max_tokens + (0 if after is None else len(after) + (end == "force"))
    if model.max_positions is not None and len(start) + total > model.max_positions:
        raise ArgumentError(
            "prompt and generation do not fit into the model's context",
            expected=f"at most {model.max_positions} tokens",
            got=f"a prompt of {len(start)} and up to {total} more",
            hint="shorten the prompt or lower max_tokens",
        )
    wanted = None
    if after is not None:
        wanted = jnp.full((total,), FREE, jnp.int32).at[max_tokens : max_tokens + len(after)].set(jnp.asarray(after))
    given = Given(wanted, eos_id if end == "force" else None)
    rules = Rules(total, eos_id, float(temperature), also_eos, float(power))
    process = language_process(model, jnp.asarray(start, jnp.int32), rules, readers)
    mover = _mover(process, given, twist, proposal)
    parts = {"potential": potential, "twist": twist, "proposal": mover, "look-ahead": look_ahead}
    check_vocabularies(tokenizer, dict(readers or {}) | parts)
    asked = Asked(told(potential, process.prompt, eos_id), given, rules)
    made = compose(process, asked, twist, mover, num_steps=total, look_ahead=look_ahead)
    return Generation.extending(made, tokenizer=tokenizer)


def _mover(process: Process, given: Given, twist: Any, proposal: Any) -> Proposal:
    """The proposal that was given, or made, or that the twist induces; given tokens come with probability one."""
    if proposal is None:
        proposal = induced(process, twist)
    elif not isinstance(proposal, Proposal):
        if not callable(proposal):
            raise ArgumentError(
                "proposal is no proposal", expected="a Proposal, or process -> Proposal", got=repr(proposal)
            )
        proposal = proposal(process)
    return given.put_into(process, proposal)


def _check(model: CausalLM, max_tokens: int, temperature: float, end: str, ends: tuple[Any, ...]) -> None:
    """Settings in their ranges."""
    validate.count("max_tokens", max_tokens)
    validate.number("temperature", temperature, above=0.0)
    if end not in ENDS:
        raise ArgumentError("unknown end", expected=" | ".join(ENDS), got=end)
    for token in ends if ends != (None,) else ():
        if not isinstance(token, int) or not 0 <= token < model.vocab_size:
            raise ArgumentError("eos_id is no token of the model", expected=f"0 .. {model.vocab_size - 1}", got=token)
    if end == "force" and ends == (None,):
        raise ArgumentError("nothing ends a sequence", expected="an eos_id", got=None, hint='give one, or end="open"')


def _tokens(text: Any, name: str, lm: CausalLM, tokenizer: Tokenizer | None) -> Int[np.ndarray, " tokens"]:
    """Token ids of a text or of ids, checked against the model."""
    if isinstance(text, str):
        if tokenizer is None:
            raise ArgumentError(
                f"the {name} is text and the model has no tokenizer", expected="token ids", got=text[:40]
            )
        ids = np.asarray(tokenizer.encode(text), np.int64)
    else:
        ids = np.asarray(text)
    if ids.ndim != 1 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise ArgumentError(
            f"the {name} is no sequence of tokens",
            expected="text, or at least one token id",
            got="nothing" if ids.size == 0 else f"shape {ids.shape}, dtype {ids.dtype}",
        )
    if ids.min() < 0 or ids.max() >= lm.vocab_size:
        raise ArgumentError(
            f"the {name} has tokens that the model does not know",
            expected=f"ids in 0 .. {lm.vocab_size - 1}",
            got=f"{ids.min()} .. {ids.max()}",
        )
    return ids.astype(np.int32)


def _continuation(prompt: Any, text: Any, lm: CausalLM, tokenizer: Tokenizer | None) -> Int[np.ndarray, " tokens"]:
    """Tokens of what must follow generated text: encoded as if it followed the prompt."""
    if isinstance(text, str) and isinstance(prompt, str) and tokenizer is not None:
        text = tokenizer.encode_continuation(prompt, text)
    elif isinstance(text, str) and tokenizer is not None:
        text = tokenizer.encode_plain(text)
    return _tokens(text, "continuation", lm, tokenizer)
