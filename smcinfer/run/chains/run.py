"""The front door of Markov chains: ``mcmc`` warms up, freezes the kernel, draws, and returns a `Chains`."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.status import Status
from smcinfer.ground.arrays import Array, Count, Key, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.files import check_writable
from smcinfer.ground.progress import bar
from smcinfer.kernels.base import Kernel, KernelState, TemperedDensity
from smcinfer.kernels.flat import LOCKSTEP, Trace, at_own_pace, flat, lockstep
from smcinfer.kernels.registry import by_name
from smcinfer.results.chains import Chains
from smcinfer.run.chains.start import Start, start
from smcinfer.run.checkpoint import Checkpoint, program_digest
from smcinfer.run.runner import as_typed_key, compile_clock

MAX_DOUBLINGS = 3
"""Lengths of warm-up rounds, each twice the one before; every length is used twice, so that the step size settles."""

MAX_CHUNKS = 10
"""Most chunks that the draws are made in: looks of the host, and waits of fast chains for slow ones."""

RECORDED = ("position", "acceptance", "num_evals", "cap_reached")
"""What is kept of every draw (fields of `Trace`)."""

PACES = ("auto", "flat", "lockstep")

FIRST_BURST = 4

FLAT_ABOVE = 2.5
"""Lockstep evaluations over useful ones, above which lanes run at their own pace: what a flat tick costs more."""


class Progress(eqx.Module):
    """A run between two chunks.

    Attributes:
        states: where the chains are.
        params: the kernel's parameters.
        acceptance: Float[""], mean acceptance of the last round.
        done: Int[""], transitions of each chain so far, warm-up included.
        warmup_evals: Float[""], density evaluations of the warm-up, all chains.
        lockstep_over_mean: Float[""], evaluations that lockstep would have made over those that were useful, in the
            last round of the warm-up.
        evals_per_step: Float[""], useful evaluations of a transition there.
        ticks: Float[""], batched evaluations of the draws.
    """

    states: KernelState
    params: PyTree[Any]
    acceptance: Scalar
    done: Count
    warmup_evals: Scalar
    lockstep_over_mean: Scalar
    evals_per_step: Scalar
    ticks: Scalar


class Chunk(NamedTuple):
    """Transitions made in one call: ``num_records`` records, one in ``thin`` transitions; tuning after it or not."""

    num_records: int
    thin: int
    tuning: bool


class _Problem(eqx.Module):
    """What stays fixed during a run."""

    keys: Key[Array, " chains"]
    share_key: Key[Array, ""]
    density: TemperedDensity
    kernel: Kernel


def mcmc(
    key: Any,
    kernel: str | Kernel,
    target: Any,
    *,
    num_chains: int = 64,
    num_draws: int = 1000,
    num_warmup: int = 1000,
    thin: int = 1,
    initial: Any = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    pace: str = "auto",
) -> Chains:
    """Run Markov chains side by side, with one kernel tuned from all of them.

    The warm-up goes in rounds whose length doubles every other time. After a round the kernel is tuned to the draws of all
    chains in it (their mean, their covariance, their acceptance), and after the last it is frozen: the draws that are kept
    come from one Markov chain each, whose invariant law is the target.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same chains bit for bit.
        kernel: name of a move kernel, or a `Kernel`.
        target: made by `posterior`, `log_density` or `from_numpyro`; or a log density function of a vector.
        num_chains: chains, side by side in one program. Tuning learns from all of them: have more than dimensions.
        num_draws: draws kept of each chain.
        num_warmup: transitions of each chain before them, at most; a few fewer where the rounds do not fill it. Zero keeps
            the kernel as it is first tuned, from where the chains start.
        thin: transitions a draw.
        initial: where to start. ``None``: draws of the base (prior) at which the target is not zero. Or unconstrained
            vectors ``(num_chains, dim)``, one vector for all, or a dict of named values with a leading axis of chains. For a
            plain function also its dimension: standard normal starts.
        progress: draw a bar on stderr.
        checkpoint: a file to resume from and to save to, complete or not at all.
        checkpoint_seconds: how often, at most.
        pace: for kernels of varying cost: ``"lockstep"`` waits for the slowest chain at each transition, ``"flat"`` lets each
            run at its own pace, ``"auto"`` decides from the warm-up. The draws are the same.

    Returns:
        `Chains`: prints R-hat, effective sizes and cost; ``to_arviz()``, ``summary()``, ``save``.

    Raises:
        ArgumentError, TargetError: before any work: a setting out of range, a kernel that cannot run in this dimension, a
            start where the target has no density or, for gradient kernels, no finite gradient.
        CheckpointError: a checkpoint that is damaged or belongs to another run.
    """
    started = time.perf_counter()
    _check_settings(num_chains, num_draws, num_warmup, thin, pace)
    if checkpoint is not None:
        check_writable(checkpoint)
    chosen = by_name(kernel)
    start_key, chain_key, share_key = jax.random.split(as_typed_key(key), 3)
    with compile_clock() as compiling, bar(progress, "mcmc") as report:
        first = start(start_key, chosen, target, initial, num_chains)
        problem = _Problem(jax.random.split(chain_key, num_chains), share_key, first.density, chosen)
        plan = _plan(num_draws, num_warmup, thin)
        store = _store(checkpoint, checkpoint_seconds, problem, first, plan, pace)
        t, state, records = store.load_or(lambda: (0, _begin(problem, first.states), [_blank(first.states)]))
        total = sum(chunk.num_records * chunk.thin for chunk in plan)
        draw_seconds = 0.0
        while t < len(plan):
            chunk, before = plan[t], time.perf_counter() - compiling[0]
            state, trace = _run_chunk(
                state,
                problem,
                chunk.num_records,
                jnp.asarray(chunk.thin, jnp.int32),
                chunk.tuning,
                jnp.asarray(_burst(pace, chunk, state), jnp.int32),
            )
            if not chunk.tuning:
                records.append({name: np.swapaxes(value, 0, 1) for name, value in _fields(trace).items()})
                draw_seconds += time.perf_counter() - compiling[0] - before
            t += 1
            report(int(state.done) / total, f"{'warm-up' if chunk.tuning else 'draws'}  {_glance(trace)}")
            store.save(t, state, records, final=t == len(plan))
        joined = {name: np.concatenate([record[name] for record in records], axis=1) for name in records[0]}
        draws = _constrained(first, joined.pop("position"))
    settings = {
        "kernel": kernel if isinstance(kernel, str) else type(chosen).__name__,
        "dim": first.states.position.shape[1],
        "thin": thin,
        "num_warmup": sum(chunk.num_records * chunk.thin for chunk in plan if chunk.tuning),
        "warmup_evals": float(state.warmup_evals),
        "pace": "lockstep" if not at_own_pace(chosen) or _burst(pace, plan[-1], state) == LOCKSTEP else "flat",
        "lockstep_over_mean_evals": float(state.lockstep_over_mean),
        "ticks": float(state.ticks),
        "draw_seconds": draw_seconds,
        "key": np.asarray(jax.random.key_data(as_typed_key(key))).tolist(),
        "precision": str(jnp.result_type(float)),
        "jax": jax.__version__,
    }
    status = Status.NON_FINITE_POTENTIAL if first.undefined else Status.OK
    if joined["cap_reached"].any():
        status |= Status.LOOP_CAP_REACHED
    return Chains(
        draws=draws,
        **joined,
        status=int(status),
        settings=settings,
        seconds=time.perf_counter() - started,
        compile_seconds=compiling[0],
    )


def _check_settings(num_chains: int, num_draws: int, num_warmup: int, thin: int, pace: str) -> None:
    counts = {
        "num_chains": (num_chains, 1),
        "num_draws": (num_draws, 1),
        "num_warmup": (num_warmup, 0),
        "thin": (thin, 1),
    }
    for name, (value, least) in counts.items():
        if value < least:
            raise ArgumentError(f"{name} is out of range", expected=f"at least {least}", got=value)
    if pace not in PACES:
        raise ArgumentError("unknown pace", expected=" | ".join(PACES), got=repr(pace))


def _plan(num_draws: int, num_warmup: int, thin: int) -> list[Chunk]:
    """Rounds of warm-up, then chunks of draws.

    Every round keeps the same number of records, so that one program serves them all: twice the length is twice the thinning.
    """
    doublings = min(MAX_DOUBLINGS, (num_warmup // 2 + 1).bit_length() - 1)
    rounds: list[Chunk] = []
    if doublings:
        records = num_warmup // (2 * (2**doublings - 1))
        rounds = [Chunk(records, 2 ** (number // 2), True) for number in range(2 * doublings)]
        left = num_warmup - sum(round.num_records * round.thin for round in rounds)
        rounds[-1] = Chunk(records, rounds[-1].thin + left // records, True)
    # All chunks have one length, so that one program serves them too, and the same whether or not anybody watches.
    chunks = max(n for n in range(1, MAX_CHUNKS + 1) if num_draws % n == 0)
    return rounds + [Chunk(num_draws // chunks, thin, False)] * chunks


def _burst(pace: str, chunk: Chunk, state: Progress) -> int:
    """Ticks between two looks for chains that have ended a transition (see `flat`)."""
    ratio, cost = float(state.lockstep_over_mean), float(state.evals_per_step)
    if pace == "lockstep" or (pace == "auto" and not chunk.tuning and ratio <= FLAT_ABOVE):
        return LOCKSTEP
    # A look costs as much as a few cheap evaluations; chains then wait for it about a fifth of a transition. Nobody knows
    # the cost of the first round, where a chain far out could make all others wait for very long.
    return FIRST_BURST if math.isnan(cost) else max(1, min(8, round(1 + 0.4 * cost)))


@eqx.filter_jit
def _begin(problem: _Problem, states: KernelState) -> Progress:
    """The kernel tuned to where the chains start, which alone gives it the scale of a vague prior."""
    dtype = jnp.result_type(float)
    num_chains, dim = states.position.shape
    nothing = jnp.asarray(jnp.nan, dtype)
    flat_weights = jnp.zeros((num_chains,), dtype)
    params = problem.kernel.tune(problem.kernel.parameters(dim), states.position, flat_weights, nothing)
    zero = jnp.zeros((), dtype)
    return Progress(states, params, nothing, jnp.zeros((), jnp.int32), zero, nothing, nothing, zero)


@eqx.filter_jit
def _run_chunk(
    state: Progress, problem: _Problem, num_records: int, thin: Count, tuning: bool, burst: Count
) -> tuple[Progress, Trace]:
    """One chunk of every chain, and the tuning after it."""
    kernel, density, params = problem.kernel, problem.density, state.params
    if at_own_pace(kernel):
        states, trace, ticks = flat(
            problem.keys, state.states, density, kernel, params, num_records, first=state.done, thin=thin, burst=burst
        )
    else:
        states, trace, ticks = lockstep(
            problem.keys,
            state.states,
            density,
            kernel,
            params,
            num_records,
            share_key=problem.share_key,
            first=state.done,
            thin=thin,
        )
    dtype = jnp.result_type(float)
    evals = trace.num_evals.astype(dtype)
    done = state.done + num_records * thin
    if not tuning:
        drawn = eqx.tree_at(lambda s: (s.states, s.done, s.ticks), state, (states, done, state.ticks + ticks))
        return drawn, trace
    acceptance = jnp.mean(trace.acceptance).astype(dtype)
    positions = trace.position.reshape(-1, trace.position.shape[-1])
    params = kernel.tune(params, positions, jnp.zeros(positions.shape[0], dtype), acceptance)
    last = trace.last_evals.astype(dtype)
    ratio = jnp.mean(jnp.max(last, axis=1)) / jnp.mean(last)
    spent = state.warmup_evals + jnp.sum(evals)
    return Progress(states, params, acceptance, done, spent, ratio, jnp.mean(last), state.ticks), trace


def _fields(trace: Trace) -> dict[str, np.ndarray]:
    return {name: np.asarray(getattr(trace, name)) for name in RECORDED}


def _blank(states: KernelState) -> dict[str, np.ndarray]:
    """The record of no draws yet: it gives names, shapes and dtypes."""
    num_chains, dim = states.position.shape
    shapes = {"position": (num_chains, 0, dim)}
    dtypes = {"position": states.position.dtype, "acceptance": jnp.result_type(float)}
    return {name: np.zeros(shapes.get(name, (num_chains, 0)), dtypes.get(name, np.int32)) for name in RECORDED}


def _store(
    path: str | Path | None, every_seconds: float, problem: _Problem, first: Start, plan: list[Chunk], pace: str
) -> Checkpoint:
    """Where the run keeps itself between chunks; does nothing without a path."""
    if path is None:
        return Checkpoint(None, "", None, every_seconds)
    template = eqx.filter_eval_shape(_begin, problem, first.states)
    record = {
        name: jax.ShapeDtypeStruct(value.shape[:1] + value.shape[2:], value.dtype)
        for name, value in _blank(first.states).items()
    }
    arrays = jax.tree.leaves(eqx.filter((problem, first.states), eqx.is_array))
    one = jnp.ones((), jnp.int32)
    identity = program_digest(
        ("mcmc", plan, pace, type(problem.kernel), problem.kernel),
        lambda state, problem: _run_chunk.__wrapped__(state, problem, plan[0].num_records, one, plan[0].tuning, one),
        (template, problem),
        arrays,
    )
    return Checkpoint(Path(path), identity, (template, record), every_seconds, jax.random.key_impl(problem.keys))


def _constrained(first: Start, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Draws by their own names, leading axes (chain, draw)."""
    return {key: np.asarray(value) for key, value in _named(first.constrain, jnp.asarray(positions)).items()}


@eqx.filter_jit
def _named(constrain: Callable[[Array], dict[str, Array]], positions: Array) -> dict[str, Array]:
    return jax.vmap(jax.vmap(constrain))(positions)


def _glance(trace: Trace) -> str:
    """A few words for the progress bar."""
    evals = float(jnp.mean(trace.num_evals))
    return f"acceptance {float(jnp.mean(trace.acceptance)):.2f}  evaluations {evals:.3g} a draw"
