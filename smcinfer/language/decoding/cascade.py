r"""Segment-level rejection: a text grows by segments that end where the model is unsure, each kept if its reward is high.

A segment ends before a token whose law has entropy above a threshold (and at EOS). With r the reward of the text so far and
:math:`\tau_k` a level that rises, it is kept with probability

.. math:: a_k = \min\{1, \exp((r(s_{1:k}) - \tau_k) / \beta)\},

else drawn again. Kept segments follow :math:`p(\text{segment})\, a_k / \bar a`, with :math:`\bar a` the mean of :math:`a_k`,
which depends on what came before: taken as they are, the texts are *biased*. The correction costs a second acceptance a
segment: with n rejects on the way to two, :math:`1 / (n + 1)` is unbiased for :math:`\bar a`, and

.. math:: w = e^{r(s) / \beta} \prod_k \frac{1}{(n_k + 1)\, a_k}

makes the texts properly weighted for :math:`p_0(s)\, e^{r(s) / \beta}`.

Source: Li et al. (2024), cascade reward sampling, for the segments; the correction is that of adaptive rejection.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError, surfacing
from smcinfer.ground.programs import compiled
from smcinfer.language.generation import generation
from smcinfer.language.networks.hosts import only_in_jax
from smcinfer.language.networks.lm import as_model
from smcinfer.language.networks.symbols import draw_symbols
from smcinfer.language.networks.tokenizer import Tokenizer
from smcinfer.language.process import LanguageProcess
from smcinfer.results.evidence import Bound
from smcinfer.results.from_run import settings_of
from smcinfer.results.record import Record, arrays, not_kept
from smcinfer.results.survivors import collapsed
from smcinfer.results.words import Lines, counted, with_error
from smcinfer.run.runner import as_typed_key, compile_clock
from smcinfer.static.contract import check_scalar

Reward = Callable[[Int[Array, " max_tokens"], Int[Array, ""]], Scalar]
"""``(tokens, length) -> Float[""]``, JAX code; only the first ``length`` tokens were generated."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Cascade(Record):
    """Texts grown by segments.

    Attributes:
        tokens: Int["N T"], the rest EOS (zero where there is none).
        lengths: Int["N"].
        rewards: Float["N"], of the whole texts.
        log_weights: Float["N"], nats, unnormalised: proper for p0 exp(r / beta); ``None`` where nothing was corrected.
        num_tokens: tokens the model read for each text, on average.
        num_rewards: rewards asked for each text, on average.
        gave_up: share of texts with a segment that was taken after ``max_tries`` rejects: then the weights are biased too.
        tokenizer: for `texts`; a file does not keep it.
    """

    tokens: np.ndarray = arrays("text", "token")
    lengths: np.ndarray = arrays("text")
    rewards: np.ndarray = arrays("text")
    log_weights: np.ndarray | None = arrays("text")
    num_tokens: float
    num_rewards: float
    gave_up: float
    tokenizer: Tokenizer | None = not_kept(None)

    @property
    def biased(self) -> bool:
        """Whether the texts follow no known law: not corrected, or with segments that were taken unwanted."""
        return self.log_weights is None or self.gave_up > 0

    @property
    def weighted_for(self) -> str:
        """The law that the weighted texts follow, or why they follow none."""
        if self.log_weights is None:
            return "nothing: segments are kept by rejection, which was not corrected"
        if self.gave_up > 0:
            return f"nothing: {self.gave_up:.1%} of the texts have a segment taken after too many rejects"
        return "p0(text) exp(reward / temperature); log Z is of its normaliser"

    @property
    def log_z_runs(self) -> Float[np.ndarray, " N"]:
        """log Z_hat of each text, which is a run of its own: its log weight, nats.

        Raises:
            ArgumentError: the texts were not corrected.
        """
        if self.log_weights is None:
            raise ArgumentError("texts that were not corrected have no weights", expected="corrected=True", got=False)
        return self.log_weights

    @property
    def log_z(self) -> float:
        """log of the mean weight, nats."""
        return float(np.logaddexp.reduce(self.log_z_runs)) - math.log(self.log_z_runs.size)

    @property
    def log_z_se(self) -> float:
        """Standard error of `log_z` (delta method), nats."""
        ratios = np.exp(self.log_z_runs - self.log_z)
        return float(ratios.std(ddof=1)) / math.sqrt(ratios.size)

    def texts(self) -> list[str]:
        """The texts as strings, without their weights."""
        if self.tokenizer is None:
            raise ArgumentError("there is no tokenizer", expected="tokens, not texts", got=None)
        rows = zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)
        return [self.tokenizer.decode(row[:length]) for row, length in rows]

    def _title(self) -> str:
        return f"smcinfer cascade of segments: {counted(len(self.tokens), 'text')}{' (BIASED)' * self.biased}"

    def _lines(self) -> Lines:
        lines = [
            ("reward", f"mean {self.rewards.mean():.3f}"),
            ("cost a text", f"{self.num_tokens:.1f} tokens, {self.num_rewards:.1f} rewards"),
        ]
        if self.log_weights is not None:
            lines.append(("log Z", f"{with_error(Bound(self.log_z, self.log_z_se))} nats"))
        return lines


def cascade(
    key: Any,
    lm: Any,
    prompt: str | Sequence[int] | Array,
    reward: Reward,
    *,
    max_tokens: int,
    num_texts: int = 64,
    temperature: float = 1.0,
    level: float = 0.0,
    entropy: float = 2.0,
    max_segment: int = 16,
    max_tries: int = 64,
    corrected: bool = True,
    **options: Any,
) -> Cascade:
    """Grow texts by segments, each kept by its reward.

    Args:
        key: one random key.
        lm, prompt, max_tokens: as in `language.generation`.
        reward: ``(tokens, length) -> Float[""]``, of a text so far, a JAX function.
        num_texts: N, independent of each other.
        temperature: beta, above zero.
        level: the level that the reward of a whole text should reach; a segment's is in proportion to the length so far.
        entropy: nats; a segment ends before a token that is less sure than this.
        max_segment: the most tokens of a segment.
        max_tries: rejects of a segment after which the next one is taken whatever its reward.
        corrected: whether to weigh the texts, at about twice the cost.
        **options: ``eos_id`` of `language.generation`.

    Returns:
        `Cascade`, which says whether it is biased.

    Raises:
        ArgumentError, TargetError: for settings out of range, or a reward that is no scalar.

    Properly weighted for: ``p0(s) exp(r(s) / temperature)`` where ``corrected`` and nothing was given up; else for nothing.
    """
    for name, value in {"num_texts": num_texts, "max_segment": max_segment, "max_tries": max_tries}.items():
        validate.count(name, value)
    validate.number("temperature", temperature, above=0.0)
    validate.number("entropy", entropy, at_least=0.0)
    only_in_jax(as_model(lm), "cascade")
    model: Any = generation(lm, prompt, max_tokens=max_tokens, **options)
    process: Any = model.process
    tokens, length = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((max_tokens,), ()))
    check_scalar("reward", reward, tokens, length)
    machine = _Machine(process, reward, temperature, level, entropy, max_segment, max_tries, 2 if corrected else 1)
    key, started = as_typed_key(key), time.perf_counter()
    with surfacing(), compile_clock() as compiling:
        end = _grow(machine, jax.random.split(key, num_texts))
    weights = np.asarray(end.log_weight + end.reward / temperature, np.float64) if corrected else None
    settings = {"temperature": temperature, "level": level, "entropy": entropy, "max_segment": max_segment}
    return Cascade(
        tokens=np.asarray(end.base.tokens),
        lengths=np.asarray(end.base.length),
        rewards=np.asarray(end.reward, np.float64),
        log_weights=weights,
        num_tokens=float(np.asarray(end.num_tokens).mean()),
        num_rewards=float(np.asarray(end.num_rewards).mean()),
        gave_up=float(np.asarray(end.gave_up).mean()),
        tokenizer=model.tokenizer,
        status=_status(weights),
        settings=settings_of(key, model, num_texts, max_tries=max_tries, corrected=corrected, **settings),
        seconds=time.perf_counter() - started,
        compile_seconds=compiling[0],
    )


class _Lane(eqx.Module):
    """One text under way: what is kept, the segment that is tried, and the one that was accepted first.

    Attributes:
        base, tried, chosen: states of the language process; ``chosen`` counts once a segment was accepted.
        reward: of ``base``; chosen_reward, chosen_log_accept: of ``chosen``.
        num_accepted, num_rejected: of this segment so far.
        tick: steps of the model, the key of the next draw.
    """

    base: PyTree[Any]
    tried: PyTree[Any]
    chosen: PyTree[Any]
    reward: Scalar
    chosen_reward: Scalar
    chosen_log_accept: Scalar
    log_weight: Scalar
    num_accepted: Int[Array, ""]
    num_rejected: Int[Array, ""]
    num_tokens: Int[Array, ""]
    num_rewards: Int[Array, ""]
    gave_up: Array


class _Machine(eqx.Module):
    """One token of one text a tick: texts grow at their own pace, and no lane waits for another's segment."""

    process: LanguageProcess
    reward: Reward
    temperature: float = eqx.field(static=True)
    level: float = eqx.field(static=True)
    entropy: float = eqx.field(static=True)
    max_segment: int = eqx.field(static=True)
    max_tries: int = eqx.field(static=True)
    wanted: int = eqx.field(static=True)

    def start(self) -> _Lane:
        """A lane at the prompt, with nothing generated."""
        state = self.process.advance(jnp.zeros((), jnp.int32), None, None)
        zero, none = jnp.zeros(()), jnp.zeros((), jnp.int32)
        return _Lane(state, state, state, zero, zero, zero, zero, none, none, none, none, jnp.asarray(False))

    def over(self, lane: _Lane) -> Array:
        """Whether the text is complete."""
        return lane.base.finished | (lane.base.length >= self.process.max_tokens)

    def tick(self, key: KeyArray, lane: _Lane) -> _Lane:
        """One token of the segment that is tried, and what follows from it."""
        token_key, accept_key = jax.random.split(jax.random.fold_in(key, lane.num_tokens))
        token = draw_symbols(token_key, lane.tried.logits)
        tried = self.process.advance(lane.tried.length + 1, lane.tried, token)
        log_p = jax.nn.log_softmax(tried.logits)
        unsure = -jnp.sum(jnp.where(log_p > -jnp.inf, jnp.exp(log_p) * log_p, 0.0)) > self.entropy
        size = tried.length - lane.base.length
        closed = tried.finished | (tried.length >= self.process.max_tokens) | unsure | (size >= self.max_segment)
        value = jnp.asarray(self.reward(tried.tokens, tried.length), lane.reward.dtype)
        target = self.level * tried.length / self.process.max_tokens
        log_accept = jnp.minimum(0.0, (value - target) / self.temperature)
        forced = (lane.num_rejected >= self.max_tries) & (lane.num_accepted == 0)
        accepted = closed & ((-jax.random.exponential(accept_key, (), log_accept.dtype) < log_accept) | forced)
        first = accepted & (lane.num_accepted == 0)
        chosen, chosen_reward, chosen_log_accept = _where(
            first, (tried, value, log_accept), (lane.chosen, lane.chosen_reward, lane.chosen_log_accept)
        )
        num_accepted = lane.num_accepted + accepted.astype(jnp.int32)
        num_rejected = lane.num_rejected + (closed & ~accepted).astype(jnp.int32)
        # A second acceptance that does not come is given up as well.
        kept = (num_accepted >= self.wanted) | ((num_rejected >= 2 * self.max_tries) & (num_accepted > 0))
        count = num_rejected.astype(value.dtype)
        weight = jnp.where(kept, -jnp.log(count + 1.0) - chosen_log_accept, 0.0)
        base = _where(kept, chosen, lane.base)
        return _Lane(
            base=base,
            tried=_where(closed, base, tried),
            chosen=chosen,
            reward=jnp.where(kept, chosen_reward, lane.reward),
            chosen_reward=chosen_reward,
            chosen_log_accept=chosen_log_accept,
            log_weight=lane.log_weight + weight,
            num_accepted=jnp.where(kept, 0, num_accepted),
            num_rejected=jnp.where(kept, 0, num_rejected),
            num_tokens=lane.num_tokens + 1,
            num_rewards=lane.num_rewards + closed.astype(jnp.int32),
            gave_up=lane.gave_up | (accepted & forced) | (kept & (num_accepted < self.wanted)),
        )


def _where(condition: Array, yes: PyTree[Any], no: PyTree[Any]) -> PyTree[Any]:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _status(log_weights: np.ndarray | None) -> Status:
    """What the weights of the texts say, where they have any."""
    if log_weights is None:
        return Status.OK
    normalised = log_weights - np.logaddexp.reduce(log_weights)
    return Status.WEIGHTS_COLLAPSED if collapsed(normalised[None]).any() else Status.OK


@compiled
def _grow(machine: _Machine, keys: KeyArray | Array) -> Any:
    """All texts, until the last is complete."""

    def body(lanes: _Lane) -> _Lane:
        moved = jax.vmap(machine.tick)(keys, lanes)
        over = jax.vmap(machine.over)(lanes)
        return jax.vmap(_where)(over, lanes, moved)

    size = keys.shape[0]
    start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *jnp.shape(leaf))), machine.start())
    return jax.lax.while_loop(lambda lanes: ~jnp.all(jax.vmap(machine.over)(lanes)), body, start)
