r"""Exact draws of a generation's target, for bounds from above.

- `enumerated`: every string, where there are few.
- `rejected`: draw from the base law, keep with probability :math:`\phi / \phi_{\max}`, where the potential is bounded.
- `simulated_infilling`: draw the text *and* its continuation from the base law,
  :math:`(s, o) \sim p_0(s)\, p_0(o \mid s)`; given that very continuation, s is an exact draw of the infilling target.
"""

import functools
import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.conditional import log_joint
from smcinfer.ground.arrays import Array, Float, Int, KeyArray
from smcinfer.ground.errors import ArgumentError, TargetError, surfacing
from smcinfer.language.generation import Generation, generation
from smcinfer.run.runner import as_typed_key, run

MOST_STRINGS = 2_000_000
"""More than this are not enumerated."""

BATCH = 4096
"""Strings weighed at once."""


class Enumerated(eqx.Module):
    """All strings of a target that have any weight; called with a key it gives an exact draw.

    Attributes:
        strings: Int["K T"], x_1 .. x_T, what comes after the end being EOS.
        log_joint: Float["K"], log p0 phi, nats.
    """

    strings: Int[Array, "K T"]
    log_joint: Float[Array, " K"]

    @property
    def log_z(self) -> float:
        """Exact log normaliser, nats."""
        return float(jax.nn.logsumexp(self.log_joint))

    def __call__(self, key: KeyArray) -> Int[Array, " T"]:
        """One string, drawn from the target."""
        return self.strings[jax.random.categorical(key, self.log_joint)]


def enumerated(model: Generation) -> Enumerated:
    """The target summed over all strings.

    Raises:
        ArgumentError: where there are too many.
    """
    process: Any = model.process
    vocab, length = process.lm.vocab_size, model.num_steps
    if vocab**length > MOST_STRINGS:
        raise ArgumentError(
            "too many strings to enumerate", expected=f"at most {MOST_STRINGS}", got=f"{vocab}^{length}"
        )
    strings = np.array(list(itertools.product(range(vocab), repeat=length)), np.int32)
    weigh = eqx.filter_jit(lambda model, paths: jax.vmap(lambda path: log_joint(model, path))(paths))
    # The last batch is filled up, so that one program serves all.
    filled = np.concatenate([strings, np.zeros((-len(strings) % BATCH, length), np.int32)])
    with surfacing():
        parts = [np.asarray(weigh(model, jnp.asarray(batch))) for batch in np.split(filled, len(filled) // BATCH)]
    joint = np.concatenate(parts)[: len(strings)]
    alive = joint > -np.inf
    if not alive.any():
        raise TargetError("no string has any weight", expected="a potential above -inf somewhere")
    return Enumerated(jnp.asarray(strings[alive]), jnp.asarray(joint[alive]))


class Distortion(NamedTuple):
    """How far the law of a sampler that renormalises at every token is from the model restricted to the same strings.

    Attributes:
        log_mass: log of the probability that the model gives the strings that are kept, nats.
        kl: from the sampler's law to the restricted model, nats.
        tv: total variation of the two, in [0, 1].
    """

    log_mass: float
    kl: float
    tv: float


def distortion(model: Generation) -> Distortion:
    """What a filter that forgets its weights does to the law of whole strings, by enumeration.

    Args:
        model: a target without potential whose ``proposal`` is the sampler, ``filtered(TopK(3))`` say.

    Raises:
        ArgumentError: where there are too many strings.
    """
    everything = enumerated(model)
    log_w = eqx.filter_jit(jax.vmap(functools.partial(_log_weight_of, model)))(everything.strings)
    log_w = np.asarray(log_w, np.float64)
    joint = np.asarray(everything.log_joint, np.float64)
    kept = log_w > -np.inf
    log_q, log_p = joint[kept] - log_w[kept], joint[kept]
    log_mass = float(np.logaddexp.reduce(log_p))
    q, p = np.exp(log_q), np.exp(log_p - log_mass)
    return Distortion(log_mass, float(q @ (log_q - log_p + log_mass)), float(0.5 * np.abs(q - p).sum()))


def _log_weight_of(model: Generation, path: Int[Array, " T"]) -> Array:
    """Sum of log p / q over the tokens of a path; minus infinity where one of them is never drawn."""

    def step(state: Any, given: tuple[Array, Array]) -> tuple[Any, Array]:
        t, x = given
        return model.process.advance(t, state, x), model.proposal.log_weight(t, state, x)

    start = model.process.advance(jnp.zeros((), jnp.int32), None, None)
    steps = jnp.arange(1, model.num_steps + 1, dtype=jnp.int32)
    return jnp.sum(jax.lax.scan(step, start, (steps, path))[1])


class Pool(eqx.Module):
    """Independent exact draws; called with a key it gives one of them.

    Runs that are given draws of a small pool share some: keep it several times larger than the number of runs.

    Attributes:
        paths: Int["K T"].
        accepted: share of the base law's draws that were kept: an unbiased estimate of Z / phi_max.
    """

    paths: Int[Array, "K T"]
    accepted: float = eqx.field(static=True)

    def __call__(self, key: KeyArray) -> Int[Array, " T"]:
        """One of the paths, with replacement."""
        return self.paths[jax.random.randint(key, (), 0, self.paths.shape[0])]


def rejected(
    key: Any, model: Generation, log_bound: float, *, num_draws: int, batch: int = 512, max_batches: int = 200
) -> Pool:
    r"""Exact draws by rejection: :math:`s \sim p_0` is kept with probability :math:`\phi(s) / e^{b}`.

    Args:
        key: one random key.
        model: the target. Tokens that are given are proposed with probability one and weigh p, so that they cost no rejections
            of their own.
        log_bound: b, no less than the sum of all log potentials of any string, nats.
        num_draws: how many are wanted.
        batch, max_batches: strings drawn at a time, and how often at most.

    Raises:
        TargetError: where a string weighs more than the bound, or too few are kept.
    """
    plain = model.with_twist(None)
    paths, total = [], 0
    for one in jax.random.split(as_typed_key(key), max_batches):
        draw_key, keep_key = jax.random.split(one)
        done = run(draw_key, plain, batch, resample_below=0.0, history="none")
        # Nothing was resampled: each weight is that of its own string.
        log_w = np.asarray(done.log_weights[0] + done.log_z[0], np.float64) + np.log(batch)
        if (log_w > log_bound + 1e-4).any():
            raise TargetError(
                "a string weighs more than the bound", expected=f"at most {log_bound} nats", got=float(log_w.max())
            )
        kept = -np.asarray(jax.random.exponential(keep_key, (batch,))) < log_w - log_bound
        state: Any = done.particles.state
        paths.append(np.asarray(state.tokens[0])[kept])
        total += batch
        if sum(map(len, paths)) >= num_draws:
            break
    found = np.concatenate(paths)
    if len(found) < num_draws:
        raise TargetError(
            "too few draws were accepted",
            expected=f"{num_draws} of {total}",
            got=len(found),
            hint="lower the bound to the potential's largest value, or raise max_batches",
        )
    return Pool(jnp.asarray(found[:num_draws]), len(found) / total)


def simulated_infilling(
    key: Any,
    lm: Any,
    prompt: Any,
    *,
    max_tokens: int,
    continuation_tokens: int,
    temperature: float = 1.0,
) -> tuple[Generation, Int[Array, " T"]]:
    """An infilling target with an exact draw of it: both made by the model itself.

    Args:
        key: one random key.
        lm, prompt, temperature: as in `generation`; all sequences have the full length.
        max_tokens: tokens between prompt and continuation.
        continuation_tokens: length of the continuation.

    Returns:
        The target, and the path that it was made from; for `smcinfer.bounds.sandwich` with ``one_draw=True``.
    """
    options: dict[str, Any] = {"temperature": temperature, "eos_id": None}
    base = generation(lm, prompt, max_tokens=max_tokens + continuation_tokens, **options)
    state: Any = run(key, base, 1, history="none").particles.state
    path = state.tokens[0, 0]
    target: Any = generation(lm, prompt, max_tokens=max_tokens, continuation=path[max_tokens:], **options)
    return target, path
