r"""Generation as inference: a language model's sequences, weighed by what is asked of them.

.. math:: \sigma(s_{1:T}) \propto p_0(s_{1:T} \mid \text{prompt}) \prod_{t=0}^{T} \phi_t(s_{1:t})

A sequence may end before T, by EOS. What happens then:

- nothing is asked of it any more: all potentials after its end are one, and so is the twist;
- at the limit T, ``end="open"`` takes it as it is, cut off; ``end="force"`` asks for sequences that have ended by then. An
  unfinished one gets EOS at step T, and the weight :math:`p(\mathrm{EOS} \mid s_{1:T-1})` that goes with it: without that
  weight sequences that the model would rather continue count as if they had ended by themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.compose import Composed, compose
from smcinfer.core.feynman_kac import Mutation
from smcinfer.core.nouns import Bootstrap, Process, Proposal, Time, Twist, TwistInduced
from smcinfer.core.status import Status, raise_bit
from smcinfer.ground.arrays import Array, Int, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.host import HostGeneration, HostLM, HostProcess
from smcinfer.language.networks.lm import CausalLM
from smcinfer.language.networks.loading import ends_of
from smcinfer.language.networks.tokenizer import Tokenizer
from smcinfer.language.process import LanguageProcess, Rules, TokenState, language_process
from smcinfer.language.proposals.forced import FREE, Forced, Given
from smcinfer.language.texts import WeightedText, weighted_texts
from smcinfer.language.vocabularies import check_vocabularies, told

TokenPotential = Callable[[Time, TokenState], Scalar]
"""``(t, state) -> Float[""]``, log phi_t in nats, of one sequence after step t."""

ENDS = ("open", "force")


class Terminal(eqx.Module):
    """A potential that is asked for once, at the step where the sequence ends (made by `terminal`)."""

    function: Callable[[TokenState], Scalar]

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """log phi of the whole sequence at its last step, zero before and after."""
        value = jax.eval_shape(self.function, state)
        return jax.lax.cond(state.just_ended(t), self.function, lambda _: jnp.zeros(value.shape, value.dtype), state)


def terminal(function: Callable[[TokenState], Scalar]) -> Terminal:
    """A potential on whole sequences: ``function(state)`` in nats, paid once, when the sequence ends.

    Where sequences all have the same length it is not evaluated before the last step; else at every step, for those that end.
    """
    return Terminal(function)


class Asked(eqx.Module):
    """The potential of a generation: the user's while the sequence lasts, and the tokens that are given."""

    potential: TokenPotential | None
    given: Given

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """log phi_t, zero after the end."""
        value = jnp.zeros(()) if self.potential is None else self.potential(t, state)
        value = jnp.where(self.given.allows(t, state), value, -jnp.inf)
        return jnp.where(state.just_read(t), value, 0.0)


class Generation(Composed):
    """Sequences of a language model after a prompt, weighed by a potential (made by `generation`).

    Attributes:
        tokenizer: for `decode`; ``None`` where the model came without one.
    """

    tokenizer: Tokenizer | None = eqx.field(static=True, default=None)

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

    def with_twist(self, twist: Any, proposal: Proposal | None = None) -> "Generation":
        """The same target with another twist, and the proposal that it induces unless one is given.

        Args:
            twist: a `Twist`, any function ``(t, state) -> Float[""]``, or ``None``.
            proposal: how free tokens are drawn; the given ones stay given.
        """
        potential: Any = self.potential
        process: Any = self.process
        return _generation(process, potential.potential, potential.given, twist, proposal, self.ahead, self.tokenizer)

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
    temperature: float = 1.0,
    eos_id: int | Sequence[int] | None | str = "model",
    end: str = "open",
) -> Generation | HostGeneration:
    """A language model's continuations of a prompt, weighed by a potential; ready for `smcinfer.sample` and for bounds.

    Args:
        lm: a `CausalLM`; or what `load` or `from_transformers` returned, which brings a tokenizer and EOS.
        prompt: text, or tokens; at least one token. It is read here, once.
        potential: ``(t, state) -> Float[""]``, log phi_t in nats, of a `TokenState` after step t = 0 .. T (0 is the prompt
            alone). It is asked while a sequence lasts, its last token included. `terminal` makes one of whole sequences.
        max_tokens: how many tokens may be generated before the continuation.
        continuation: text, or tokens, that must follow the generated ones: infilling. Each is proposed with probability one
            and weighs p; T is then max_tokens and these together.
        twist: log psi_t: a `Twist`, or ``(t, state) -> Float[""]``. One that has ``next`` brings the proposal it induces.
        proposal: how tokens are drawn, or a function of the process that makes it; the model itself by default.
        look_ahead: see `compose`.
        temperature: divides the logits; part of the base law.
        eos_id: the token that ends a sequence; of several, the first is drawn with the probability of all, so that a sequence
            ends in one way. ``"model"`` for the loaded model's own, ``None`` for sequences that all have T tokens.
        end: ``"open"`` or ``"force"``, see the module.

    Returns:
        A `Generation`: a `Composed` whose x_1 .. x_T are tokens. For a model outside JAX a `HostGeneration`, which has
        neither twists nor bounds from above.

    Raises:
        ArgumentError: for a prompt that is empty, unknown to the model or too long for it, and settings out of range.
        TargetError: for a potential, twist or proposal that does not keep its contract.

    Properly weighted for: ``p0(s) prod_t phi_t(s)``, restricted to sequences that have the continuation, and that have
    ended by T where ``end="force"``.
    """
    tokenizer: Tokenizer | None = getattr(lm, "tokenizer", None)
    eos_id, also_eos = ends_of(lm, eos_id)
    model: Any = lm if isinstance(lm, CausalLM | HostLM) else getattr(lm, "lm", None)
    if not isinstance(model, CausalLM | HostLM):
        raise ArgumentError(
            "lm is no language model",
            expected="a CausalLM, or what language.load or language.from_transformers returned",
            got=type(lm).__name__,
        )
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
    rules = Rules(total, eos_id, float(temperature), also_eos)
    if isinstance(model, HostLM):
        if twist is not None or look_ahead is not None:
            raise ArgumentError(
                "a model outside JAX takes no twist and no look-ahead", expected="twist=None", got=twist
            )
        mover = _mover(HostProcess(), None, proposal, given)
        check_vocabularies(tokenizer, potential=potential, proposal=mover)
        asked = Asked(told(potential, jnp.asarray(start), eos_id), given)
        prompt_ids = tuple(map(int, start))
        return HostGeneration(model, prompt_ids, asked, mover, total, rules, tokenizer)
    process = language_process(model, jnp.asarray(start, jnp.int32), rules)
    return _generation(process, potential, given, twist, proposal, look_ahead, tokenizer)


def _check(model: CausalLM | HostLM, max_tokens: int, temperature: float, end: str, ends: tuple[Any, ...]) -> None:
    """Settings in their ranges."""
    if max_tokens < 1:
        raise ArgumentError("max_tokens is out of range", expected="at least 1", got=max_tokens)
    if not temperature > 0:
        raise ArgumentError("temperature is out of range", expected="above 0", got=temperature)
    if end not in ENDS:
        raise ArgumentError("unknown end", expected=" | ".join(ENDS), got=end)
    for token in ends if ends != (None,) else ():
        if not isinstance(token, int) or not 0 <= token < model.vocab_size:
            raise ArgumentError("eos_id is no token of the model", expected=f"0 .. {model.vocab_size - 1}", got=token)
    if end == "force" and ends == (None,):
        raise ArgumentError("nothing ends a sequence", expected="an eos_id", got=None, hint='give one, or end="open"')


def _mover(process: Process, twist: Any, proposal: Any, given: Given) -> Proposal:
    """The proposal that was given, or made, or that the twist induces; given tokens come with probability one."""
    if proposal is None:
        induced = isinstance(twist, Twist) and type(twist).next is not Twist.next
        proposal = TwistInduced(process, twist) if induced else Bootstrap(process)
    elif not isinstance(proposal, Proposal):
        proposal = proposal(process)
    if given.tokens is None and given.end is None:
        return proposal
    return Forced(process, proposal.inner if isinstance(proposal, Forced) else proposal, given)


def _generation(
    process: LanguageProcess,
    potential: TokenPotential | None,
    given: Given,
    twist: Any,
    proposal: Any,
    look_ahead: TokenPotential | None,
    tokenizer: Tokenizer | None,
) -> Generation:
    mover = _mover(process, twist, proposal, given)
    check_vocabularies(
        tokenizer, constraint=process.lm, potential=potential, twist=twist, proposal=mover, look_ahead=look_ahead
    )
    potential = told(potential, process.prompt, process.eos_id)
    made = compose(process, Asked(potential, given), twist, mover, num_steps=process.max_tokens, look_ahead=look_ahead)
    return Generation(made.process, made.potential, made.twist, made.proposal, made.num_steps, made.ahead, tokenizer)


def _tokens(text: Any, name: str, lm: CausalLM | HostLM, tokenizer: Tokenizer | None) -> Int[np.ndarray, " tokens"]:
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


def _continuation(
    prompt: Any, text: Any, lm: CausalLM | HostLM, tokenizer: Tokenizer | None
) -> Int[np.ndarray, " tokens"]:
    """Tokens of what must follow generated text: encoded as if it followed the prompt."""
    if isinstance(text, str) and isinstance(prompt, str) and tokenizer is not None:
        text = tokenizer.encode_continuation(prompt, text)
    elif isinstance(text, str) and tokenizer is not None:
        text = tokenizer.encode_plain(text)
    return _tokens(text, "continuation", lm, tokenizer)
