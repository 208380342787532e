"""The front door of parallel tempering: chains at every exponent that swap, for targets with modes apart, and log Z."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Float
from smcinfer.ground.cache import use_cache
from smcinfer.ground.keys import small
from smcinfer.kernels.base import Kernel
from smcinfer.kernels.registry import by_name, name_of
from smcinfer.paths.humps import sparseness
from smcinfer.results.tempered_chains import TemperedChains
from smcinfer.results.transition import SPARSE
from smcinfer.run.chains.finish import chains_of, named
from smcinfer.run.chains.ladder import Ladder
from smcinfer.run.chains.loop import drive
from smcinfer.run.chains.plan import checked, paired
from smcinfer.run.runner import as_typed_key
from smcinfer.run.watch import compile_clock
from smcinfer.static.target import StaticTarget

FEWEST_TRIPS = 30
"""Round trips of a ladder below which the shares of its modes are hardly known."""

LADDERS_DIFFER = 1.05
"""R-hat of a rung's potentials from which on ladders are said to have gone to different places."""


def parallel_tempering(
    key: Any,
    target: StaticTarget,
    kernel: str | Kernel = "hmc",
    *,
    num_rungs: int = 12,
    num_chains: int = 8,
    num_draws: int = 1000,
    num_warmup: int = 1000,
    thin: int = 1,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> TemperedChains:
    r"""Run ladders of chains from the base to the target, whose states swap.

    A ladder has a chain at every exponent of :math:`\pi_\lambda(x) \propto \mu(x) e^{\lambda \Phi(x)}`. At the foot states are
    drawn from the base, so that every state which climbs to the top is a fresh start; that carries chains between modes that
    no kernel could leave. The warm-up tunes a kernel for every rung, and the exponents.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same chains bit for bit.
        target: made by `posterior`, `log_density`, `from_numpyro` or another intake with a base.
        kernel: name of a move kernel, or a `Kernel`.
        num_rungs: exponents, 0 and 1 among them. Twice the barrier that the print shows is best.
        num_chains: ladders, side by side in one program. The error of log Z comes from their spread.
        num_draws: draws kept of each ladder.
        num_warmup: transitions of each ladder before them.
        thin: transitions a draw.
        progress: draw a bar on stderr.
        checkpoint: a file to resume from and to save to, complete or not at all.
        checkpoint_seconds: least time between two writes, seconds.

    Returns:
        `TemperedChains`: a `Chains` with log Z, its interval, refusals and round trips.

    Raises:
        ArgumentError: before any work: a setting out of range, or a target without a base.
        CheckpointError: a checkpoint that is damaged or belongs to another run.
        Interrupted: after Ctrl-C where there is a bar or a checkpoint, at the end of the transition under way.

    Source: Syed, Bouchard-Cote, Deligiannidis & Doucet (2022).
    """
    started = time.perf_counter()
    num_chains, num_draws, num_warmup, thin = checked(num_chains, num_draws, num_warmup, thin)
    num_rungs = validate.count("num_rungs", num_rungs, at_least=2)
    validate.instance("target", target, StaticTarget, "posterior(...), log_density(...) or from_numpyro(...)")
    chosen = by_name(kernel)
    target.check_precision()
    use_cache()
    chain_key, share_key = jax.random.split(small(as_typed_key(key)))
    plan = paired(num_draws, num_warmup, thin)
    with compile_clock() as compiling:
        driven = drive(
            chain_key,
            Ladder(target.as_arrays(), chosen, num_rungs),
            plan,
            num_chains=num_chains,
            share_key=share_key,
            progress=progress,
            checkpoint=checkpoint,
            checkpoint_seconds=checkpoint_seconds,
            description="parallel tempering",
        )
        draws = named(target.constrain, jnp.asarray(driven.records["positions"][:, :, -1]))
    records, learned = driven.records, driven.progress.params
    trips = records["round_trips"].sum(axis=1)
    status = Status.NO_ROUND_TRIPS if trips.min() < FEWEST_TRIPS else Status.OK
    if records["cap_reached"].any():
        status |= Status.LOOP_CAP_REACHED
    if two_kinds(records["potentials"]):
        status |= Status.PHASE_TRANSITION
    return chains_of(
        TemperedChains,
        key,
        driven._replace(seconds=time.perf_counter() - started, compile_seconds=compiling[0]),
        draws,
        {
            "kernel": name_of(chosen),
            "dim": target.dim,
            "thin": thin,
            "num_warmup": sum(segment.transitions for segment in plan if segment.tuning),
            "warmup_evals": float(learned.warmup_evals),
            "pace": "in step",
        },
        status,
        exponents=learned.exponents,
        potentials=records["potentials"],
        swap_rejection=records["swap_rejection"].sum(axis=1) / (num_draws * thin),
        round_trips=trips,
    )


def two_kinds(potentials: Float[np.ndarray, "chains draws rungs"]) -> bool:
    """Whether states of some rung are of two kinds with next to none between them, and ladders differ in how many of which.

    Modes of unlike height are of two kinds as well; where states travel between them, ladders agree.

    Args:
        potentials: of the states on all rungs, nats.
    """
    flat = jnp.asarray(potentials).reshape(-1, potentials.shape[2]).T
    sparse = np.asarray(jax.vmap(lambda each: sparseness(each, jnp.zeros_like(each)))(flat)) > SPARSE
    finite = np.where(np.isfinite(potentials), potentials, np.nan).astype(np.float64)
    within, between = np.nanmean(np.nanvar(finite, axis=1), axis=0), np.nanvar(np.nanmean(finite, axis=1), axis=0)
    # R-hat is the root of one plus this ratio.
    return bool(np.any(sparse & (between > (LADDERS_DIFFER**2 - 1) * within)))
