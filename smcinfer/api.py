"""The front door: ``sample`` takes a target of any kind and returns a `Result`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.ground.arrays import Array
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.ground.names import leaves_by_name
from smcinfer.kernels.base import Kernel
from smcinfer.kernels.registry import by_name as kernel_by_name
from smcinfer.paths import schedules
from smcinfer.paths.data_annealing import DataAnnealing, data_annealing
from smcinfer.paths.moves import Moves
from smcinfer.paths.schedules import Schedule
from smcinfer.paths.tempering import Tempering, tempering
from smcinfer.results import Result
from smcinfer.results.from_run import result_of, settings_of
from smcinfer.run.runner import as_typed_key, run
from smcinfer.state_space import StateSpace
from smcinfer.static.target import StaticTarget

# Moves forget most of where they were at each step, so noise that is three steps old no longer matters to log Z.
STATIC_LAG = 3
# Filters forget more slowly: over ten resamplings the single-run error bars of the ready models are right to a fifth.
FILTER_LAG = 10
PATHS = ("tempering", "data_annealing")


def sample(
    key: Any,
    target: Any,
    *,
    num_particles: int = 4096,
    num_runs: int = 4,
    kernel: str | Kernel = "hmc",
    path: str = "tempering",
    schedule: str | Schedule | Array | list[float] | None = None,
    max_steps: int = 1000,
    max_move_steps: int = 100,
    min_move_steps: int = 1,
    autocorrelation: float = 0.2,
    chain_length: int | None = None,
    batch_size: int = 1,
    led: bool = True,
    resampling: str = "systematic",
    resample_below: float | None = None,
    islands: int = 1,
    devices: Sequence[Any] | None = None,
    history: str = "scalars",
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> Result:
    """Sample a target, and estimate its normaliser with an error bar.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same result bit for bit.
        target: made by `posterior`, `log_density`, `from_numpyro` or `state_space`; or any `FeynmanKac`.
        num_particles: particles of each run.
        num_runs: independent runs, side by side in one program; their spread is part of the error bar.
        kernel: name of a move kernel, or a `Kernel` (``kernels.from_blackjax`` bridges any blackjax one).
        path: ``"tempering"``, or ``"data_annealing"`` for targets given with ``data``.
        schedule: ``"ess"`` (default), ``"conditional_ess"``, a list of exponents that ends at 1, or a `Schedule`.
        max_steps: the most exponents an adaptive schedule may take; fewer than needed shows in the status.
        max_move_steps, min_move_steps: bounds on kernel steps a move.
        autocorrelation: a move stops once the cloud's autocorrelation with its start is below this; 0 takes
            ``max_move_steps`` always.
        chain_length: where given, waste-free: keep every state of chains of this length.
        batch_size: data a step of data annealing.
        led: one run more is made, whose particles choose exponents, kernel parameters, resampling times and move lengths
            for all the others and are then left out: Z_hat of the others is exactly unbiased. ``False`` lets each run
            choose for itself: one run less, and a bias of order 1/N.
        resampling: name of a scheme.
        resample_below: resample where the ESS falls below this fraction of N; the schedule's own where ``None``.
        islands: parts of each population that never exchange particles, only weights.
        devices: share the particles of every run among these, ``jax.devices()`` say; with ``islands`` a multiple of their
            number no particle ever leaves its device.
        history: ``"none"``, ``"scalars"``, ``"ancestors"`` (genealogy plots) or ``"full"``.
        progress: draw a bar on stderr.
        checkpoint: a file to resume from and to save to.
        checkpoint_seconds: how often, at most.

    Returns:
        `Result`: prints log Z with its error bar; ``to_arviz()``, ``expectation``, ``draws``, ``save``.

    Raises:
        ArgumentError, TargetError: before any work, saying what to change.

    Properly weighted for: the target, run by run, with log Z unbiased on the scale of Z exactly where nothing adapts to
    their own particles (``led=True``; a `FeynmanKac` without ``adapt``) and up to a bias of order 1/N otherwise.
    """
    key = as_typed_key(key)
    common = {
        "num_runs": num_runs,
        "resampling": resampling,
        "history": history,
        "islands": islands,
        "devices": devices,
        "progress": progress,
        "checkpoint_seconds": checkpoint_seconds,
    }
    kept = {name: common[name] for name in ("num_runs", "resampling", "history", "islands")}
    if isinstance(target, FeynmanKac):
        below = 0.5 if resample_below is None else resample_below
        done = run(
            key,
            target,
            num_particles,
            resample_below=below,
            lag=FILTER_LAG,
            checkpoint=checkpoint,
            description="filtering",
            **common,
        )
        settings = settings_of(key, target, num_particles, resample_below=below, **kept)
        if isinstance(target, StateSpace):
            settings |= {
                "name": "filter",
                "what": "the filter at the end, p(x_T | y_0:T); log Z is the log likelihood of the data",
                "quantiles": target.quantiles,
            }
        return result_of(done, leaves_by_name(target.exported(done.particles)), settings)
    if not isinstance(target, StaticTarget):
        raise TargetError(
            "target is of no kind that can be sampled",
            expected="posterior(...), log_density(...), from_numpyro(...), state_space(...) or a FeynmanKac model",
            got=type(target).__name__,
            hint="smcinfer.posterior(prior=dist, log_likelihood=function) makes one from two parts",
        )
    moves = Moves(max_move_steps, min(min_move_steps, max_move_steps), autocorrelation)
    chosen_kernel = kernel_by_name(kernel)
    model: Tempering | DataAnnealing
    if path == "data_annealing":
        if chain_length is not None or schedule is not None:
            raise ArgumentError(
                "data annealing takes no schedule and no chain_length",
                expected="schedule=None, chain_length=None",
                got={"schedule": schedule, "chain_length": chain_length},
            )
        model = data_annealing(target, chosen_kernel, batch_size=batch_size, moves=moves, led=led)
        below = 0.5 if resample_below is None else resample_below
    elif path == "tempering":
        rule = schedules.by_name(schedule)
        below = _resample_below(rule, resample_below)
        model = tempering(
            target,
            chosen_kernel,
            rule,
            moves=moves,
            max_steps=max_steps,
            chain_length=chain_length,
            led=led,
        )
    else:
        raise ArgumentError("unknown path", expected=" or ".join(PATHS), got=path)
    done = run(
        key,
        model,
        num_particles,
        resample_below=below,
        lag=STATIC_LAG,
        checkpoint=checkpoint,
        description="sampling",
        **common,
    )
    settings = settings_of(key, model, num_particles, resample_below=below, **kept) | {
        "path": path,
        "kernel": kernel if isinstance(kernel, str) else type(chosen_kernel).__name__,
        "dim": target.dim,
        "led": led,
        "chain_length": chain_length,
    }

    def names(particles: Any) -> dict[str, Array]:
        states = particles.states if path == "data_annealing" else particles
        return jax.vmap(jax.vmap(target.constrain))(states.position)

    return result_of(done, names(done.particles), settings)


def _resample_below(rule: Schedule, asked: float | None) -> float:
    """A schedule that measures the ESS of all weights so far would freeze unless every step resamples."""
    if asked is None:
        return rule.resample_below
    if isinstance(rule, schedules.ESS) and asked < 1.0:
        raise ArgumentError(
            "the ESS schedule must resample at every temperature",
            expected="resample_below=1 (or None)",
            got=asked,
            hint='schedule="conditional_ess" allows steps without resampling',
        )
    return asked
