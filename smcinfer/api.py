"""The front door: ``sample`` takes a target of any kind and returns a `Result`."""

# pyright: reportArgumentType=true, reportCallIssue=true

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from smcinfer.bounds.importance import BATCH, finished
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.ground import validate
from smcinfer.ground.cache import use_cache
from smcinfer.ground.errors import TargetError
from smcinfer.kernels.base import Kernel
from smcinfer.kernels.registry import by_name, default_for
from smcinfer.results import Result
from smcinfer.results.from_run import record
from smcinfer.run.runner import as_typed_key, run
from smcinfer.static import methods
from smcinfer.static.methods import Method
from smcinfer.static.target import StaticTarget

CHECKED = 0x5160
"""Folded into the key of a run for the run that checks it."""

FINISHED = 0xF1A1
"""Folded into the key of a run for the draws that finish it."""

FEWEST = 128
"""Particles of the first of the runs that go on until an error is met."""

GROWTH = 4
"""The next of these runs has at most so many times as many."""

MOST_DRAWS = 2**20
"""The most draws that finish a run."""


def sample(
    key: Any,
    target: Any,
    *,
    num_particles: int = 4096,
    num_runs: int = 4,
    method: str | Method | None = None,
    kernel: str | Kernel | None = None,
    resampling: str = "systematic",
    resample_below: float | None = None,
    islands: int = 1,
    devices: Sequence[Any] | None = None,
    particle_batch: int | None = None,
    history: str = "scalars",
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    check: str | Method | None = None,
    tolerance: float | None = None,
) -> Result:
    """Sample a target, and estimate its normaliser with an error bar.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same result bit for bit.
        target: made by `posterior`, `log_density` or `from_numpyro` (a static target: a density on vectors); or a
            `FeynmanKac` model: one made by `state_space`, `annealed`, `language.generation`, `diffusion.alignment`,
            `compose`, or written by hand.
        num_particles: particles of each run; the most of them where a ``tolerance`` is given.
        num_runs: independent runs, side by side in one program; their spread is part of the error bar.
        method: of a static target, how to get there: ``"tempering"`` (default), ``"data_annealing"`` for targets given with
            ``data``, or one of them with settings of its own, ``smcinfer.Tempering(schedule="conditional_ess")`` say.
            A `FeynmanKac` model is its own method and takes none.
        kernel: of a static target, what moves the particles: a name, or a `Kernel` (``kernels.from_blackjax`` bridges any
            blackjax one). Where ``None``, ``"hmc"``, or ``"random_walk"`` where the target calls a function on the host that
            has no gradient. A `FeynmanKac` model has moves of its own and takes none.
        resampling: name of a scheme.
        resample_below: resample where the ESS falls below this fraction of N; where ``None``, what the model's own plan
            says: at every step on a path whose schedule asks for it, below one half in a filter. A model that is sound
            only if every step resamples refuses another number.
        islands: parts of each population that never exchange particles, only weights.
        devices: share the particles of every run among these, ``jax.devices()`` say; with ``islands`` a multiple of their
            number no particle ever leaves its device.
        particle_batch: particles of each run that likelihoods, moves and networks take at a time, so that memory holds what
            they compute for so many only; the numbers are those of all at once, to rounding. Where ``None``, all of them, or
            as many as fit into the memory that is free.
        history: ``"none"``, ``"scalars"``, ``"ancestors"`` (genealogy plots) or ``"full"``.
        progress: draw a bar on stderr.
        checkpoint: a file to resume from and to save to.
        checkpoint_seconds: how often, at most, seconds.
        check: of a static target, another way to go there, ``"nested"`` say, by which a quarter as many particles sign the
            result or contradict it (`certify`).
        tolerance: standard error of log Z that is wanted, nats. A few particles begin; independent draws from a mixture fitted
            to them finish (`smcinfer.bounds.finished`), or more particles begin anew, until it is met or there are
            ``num_particles``.

    Returns:
        `Result`: prints log Z with its error bar; ``to_arviz()``, ``expectation``, ``draws``, ``save``.

    Raises:
        ArgumentError, TargetError: before any work, saying what to change; an option that cannot act on this kind of target
            is one of them.

    Properly weighted for: what the result says (``settings["weighted_for"]``), run by run, with log Z unbiased on the scale
    of Z exactly where nothing adapts to their own particles (a led method; a `FeynmanKac` without ``adapt``) and up to a
    bias of order 1/N otherwise.
    """
    key = as_typed_key(key)
    use_cache()
    model = _model(target, method, kernel)
    if check is not None:
        _model(target, check, None)
    if tolerance is not None:
        validate.number("tolerance", tolerance, above=0.0)
        validate.not_given("a run to a tolerance, which is several,", checkpoint=checkpoint)
        way: dict[str, Any] = {"num_runs": num_runs, "method": method, "kernel": kernel, "resampling": resampling}
        way |= {"resample_below": resample_below, "islands": islands, "devices": devices, "history": history}
        way["particle_batch"] = particle_batch
        result = _to_tolerance(key, target, tolerance, num_particles, way | {"progress": progress})
        return (
            result if check is None else certify(_apart(key, CHECKED), target, result, method=check, progress=progress)
        )
    shape = {
        "num_runs": num_runs,
        "resampling": resampling,
        "resample_below": model.plan.threshold(resample_below),
        "history": history,
        "islands": islands,
    }
    done = run(
        key,
        model,
        num_particles,
        **shape,
        lag=model.plan.lag,
        devices=devices,
        particle_batch=particle_batch,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
    )
    result = record(key, done, model, num_particles, **shape)
    if check is None:
        return result
    # A key of its own: what is checked is the same with and without.
    return certify(_apart(key, CHECKED), target, result, method=check, progress=progress)


def certify(
    key: Any,
    target: Any,
    result: Result,
    *,
    method: str | Method = "nested",
    kernel: str | Kernel | None = None,
    num_particles: int | None = None,
    num_runs: int | None = None,
    progress: bool = True,
) -> Result:
    """Have a result signed by another path to the same target.

    The status of what comes back has ``PATHS_DISAGREE`` where the two estimates of log Z differ by more than chance, and
    ``PHASE_TRANSITION`` where levels saw what a path of powers cannot cross.

    Args:
        key: one random key, another than that of the result.
        target: the static target that the result is of.
        result: what `sample` returned.
        method: how to go there; levels where tempering went before, and ``"tempering"`` to check levels.
        kernel: what moves the particles; the method's own choice where ``None``.
        num_particles: a quarter of the result's where ``None``.
        num_runs: the result's where ``None``.
        progress: draw a bar on stderr.

    Returns:
        The same result with a `check`.

    Raises:
        ArgumentError, TargetError: before any work.
    """
    validate.instance("result", result, Result, "what smcinfer.sample returned")
    count = max(result.num_particles // 4, 1) if num_particles is None else num_particles
    runs = result.num_runs if num_runs is None else num_runs
    way: dict[str, Any] = {"num_particles": count, "num_runs": runs, "method": method, "kernel": kernel}
    other = sample(key, target, **way, progress=progress)
    signed = result.with_check(other)
    spent = (result.seconds + other.seconds, result.compile_seconds + other.compile_seconds)
    return dataclasses.replace(signed, seconds=spent[0], compile_seconds=spent[1])


def _to_tolerance(key: Any, target: Any, tolerance: float, most: int, way: dict[str, Any]) -> Result:
    """Runs of more and more particles, each of them new, until log Z is known well enough.

    Args:
        key: one random key.
        target: of any kind.
        tolerance: standard error that is wanted, nats.
        most: particles.
        way: the other options of `sample`.
    """
    validate.count("num_particles", most)
    finishes = isinstance(target, StaticTarget) and target.unconstrain is not None
    size, spent, seconds, compile_seconds = min(FEWEST, most), 0.0, 0.0, 0.0
    while True:
        result = sample(jax.random.fold_in(key, size), target, num_particles=size, **way)
        evaluations = result.num_evals
        if finishes and not result.log_z_se <= tolerance and np.isfinite(result.log_z):
            # No more draws than a run of all the particles would take evaluations.
            enough = max(BATCH, min(int(evaluations * most / size), MOST_DRAWS))
            draws_key = jax.random.fold_in(_apart(key, FINISHED), size)
            result = finished(draws_key, target, result, tolerance=tolerance, num_draws=enough)
        spent += evaluations + (0 if result.finish is None else result.finish.num_draws)
        seconds, compile_seconds = seconds + result.seconds, compile_seconds + result.compile_seconds
        if result.log_z_se <= tolerance or size >= most:
            settings = result.settings | {"tolerance": tolerance, "num_evals": spent}
            return dataclasses.replace(result, settings=settings, seconds=seconds, compile_seconds=compile_seconds)
        # No more than four times as many: a better fit may do what their number would.
        wanted = (result.log_z_se / tolerance) ** 2 if np.isfinite(result.log_z_se) else GROWTH
        size = min(most, size * (2 if wanted < 2 else GROWTH))


def _apart(key: Any, purpose: int) -> Any:
    """A key for another purpose than the run's."""
    return jax.random.fold_in(key, purpose)


def _model(target: Any, method: str | Method | None, kernel: str | Kernel | None) -> FeynmanKac:
    """The Feynman-Kac model of a target: itself, or what the method makes of it and the kernel."""
    if isinstance(target, FeynmanKac):
        validate.not_given(f"a {type(target).__name__}, which has moves of its own,", method=method, kernel=kernel)
        return target
    if not isinstance(target, StaticTarget):
        raise TargetError(
            "target is of no kind that can be sampled",
            expected="posterior(...), log_density(...), from_numpyro(...), state_space(...) or a FeynmanKac model",
            got=type(target).__name__,
            hint="smcinfer.posterior(prior=dist, log_likelihood=function) makes one from two parts",
        )
    target.check_precision()
    way = methods.by_name(method)
    preferred = way.kernel if kernel is None else kernel
    chosen = default_for(target.density(1.0), target.dim) if preferred is None else by_name(preferred)
    return way.model(target.as_arrays(), chosen)
