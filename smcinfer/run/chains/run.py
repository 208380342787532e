"""The front door of Markov chains: ``mcmc`` warms up, freezes the kernel, draws, and returns a `Chains`."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.cache import use_cache
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.files import check_writable
from smcinfer.ground.keys import small
from smcinfer.kernels.base import Kernel
from smcinfer.kernels.registry import by_name
from smcinfer.results.chains import Chains
from smcinfer.run.chains.finish import chains_of, named
from smcinfer.run.chains.loop import drive
from smcinfer.run.chains.of_kernel import PACES, of_kernel
from smcinfer.run.chains.plan import checked, paired
from smcinfer.run.chains.sampler import LOCKSTEP
from smcinfer.run.chains.start import start
from smcinfer.run.runner import as_typed_key
from smcinfer.run.watch import compile_clock


def mcmc(
    key: Any,
    target: Any,
    kernel: str | Kernel = "hmc",
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
        target: made by `posterior`, `log_density` or `from_numpyro`; or a log density function of a vector.
        kernel: name of a move kernel, or a `Kernel`.
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
        checkpoint_seconds: least time between two writes, seconds.
        pace: for kernels of varying cost: ``"lockstep"`` waits for the slowest chain at each transition, ``"flat"`` lets each
            run at its own pace, ``"auto"`` decides from the warm-up. The draws are the same.

    Returns:
        `Chains`: prints R-hat, effective sizes and cost; ``to_arviz()``, ``summary()``, ``save``.

    Raises:
        ArgumentError, TargetError: before any work: a setting out of range, a kernel that cannot run in this dimension, a
            start where the target has no density or, for gradient kernels, no finite gradient.
        CheckpointError: a checkpoint that is damaged or belongs to another run.
        Interrupted: after Ctrl-C where there is a bar or a checkpoint, at the end of the transition under way.
    """
    started = time.perf_counter()
    num_chains, num_draws, num_warmup, thin = checked(num_chains, num_draws, num_warmup, thin)
    validate.one_of("pace", pace, PACES)
    validate.seconds("checkpoint_seconds", checkpoint_seconds)
    validate.flag("progress", progress)
    if checkpoint is not None:
        check_writable(checkpoint)
    if isinstance(target, str | Kernel):
        raise ArgumentError(
            "the target comes before the kernel", expected="mcmc(key, target, kernel)", got=repr(target)
        )
    chosen = by_name(kernel)
    use_cache()
    start_key, chain_key, share_key = jax.random.split(small(as_typed_key(key)), 3)
    with compile_clock() as compiling:
        first = start(start_key, chosen, target, initial, num_chains)
        sampler = of_kernel(chosen, first.density, first.states, pace)
        plan = paired(num_draws, num_warmup, thin)
        driven = drive(
            chain_key,
            sampler,
            plan,
            num_chains=num_chains,
            share_key=share_key,
            progress=progress,
            checkpoint=checkpoint,
            checkpoint_seconds=checkpoint_seconds,
            description="mcmc",
        )
        draws = named(first.constrain, jnp.asarray(driven.records["position"]))
    learned = driven.progress.params
    settings = {
        "kernel": kernel if isinstance(kernel, str) else type(chosen).__name__,
        "dim": first.states.position.shape[1],
        "thin": thin,
        "num_warmup": sum(segment.transitions for segment in plan if segment.tuning),
        "warmup_evals": float(learned.warmup_evals),
        "pace": "lockstep" if sampler.pace(learned, tuning=False) == LOCKSTEP else "flat",
        "lockstep_over_mean_evals": float(learned.lockstep_over_mean),
        "draw_seconds": driven.draw_seconds,
    }
    status = Status.NON_FINITE_POTENTIAL if first.undefined else Status.OK
    if driven.records["cap_reached"].any():
        status |= Status.LOOP_CAP_REACHED
    whole = driven._replace(seconds=time.perf_counter() - started, compile_seconds=compiling[0])
    return chains_of(Chains, key, whole, draws, settings, status)
