"""The front door of bounds: ``sandwich`` takes a target of any kind that has exact draws."""

from collections.abc import Callable
from typing import Any

from smcinfer.bounds.paths import path_sandwich
from smcinfer.bounds.static import static_sandwich
from smcinfer.core.compose import Composed
from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels.base import Kernel
from smcinfer.results.sandwich import Sandwich
from smcinfer.run.runner import as_typed_key
from smcinfer.static.target import StaticTarget


def sandwich(
    key: Any,
    target: Any,
    exact_draw: Callable[[Any], Any],
    *,
    num_particles: int = 1024,
    num_runs: int = 8,
    kernel: str | Kernel | None = None,
    schedule: Any = None,
    max_steps: int = 1000,
    max_move_steps: int = 100,
    autocorrelation: float = 0.2,
    resampling: str = "systematic",
    resample_below: float | None = None,
    one_draw: bool = False,
    progress: bool = False,
) -> Sandwich:
    """Bound log Z of a target from both sides.

    Args:
        key: one random key.
        target: a static target; or a model over paths, made by `state_space` or `compose`, whose proposal can
            weigh a given draw.
        exact_draw: ``key -> draw``, an exact draw of the target, called once a run, inside jit. For a static target the
            unconstrained vector, or a dict of the target's own names; for a model over paths x_0 .. x_T, every leaf with
            leading axis ``num_steps + 1``. For simulated data what the data were made from.
        num_particles, num_runs, resampling, progress: as in `smcinfer.sample`.
        kernel: of a static target, a name or a `Kernel`, which must be reversible; ``"hmc"`` where ``None``.
        schedule, max_steps, max_move_steps, autocorrelation: of a static target, as in `smcinfer.Tempering`.
        resample_below: of a model over paths; 0.5 where ``None``.
        one_draw: whether ``exact_draw`` gives the same draw every time, as it does for simulated data (`bidirectional`).

    Returns:
        `Sandwich`, which prints both ends with their errors; for models over paths also how far the proposal is from the
        target, KL(q || target) and KL(target || q), with q drawn from without resampling.

    Raises:
        ArgumentError: for fewer than two runs, or a setting of another kind of target.
        TargetError: for a draw of the wrong shape, a target of no such kind, or a run that did not reach it.
    """
    key = as_typed_key(key)
    if not callable(exact_draw):
        raise ArgumentError(
            "exact_draw is no function",
            expected="key -> an exact draw of the target",
            got=type(exact_draw).__name__,
            hint="draws that a run made are not exact, however good they are",
        )
    num_particles = validate.count("num_particles", num_particles)
    # Errors come from the spread of runs.
    num_runs, max_steps = validate.count("num_runs", num_runs, at_least=2), validate.count("max_steps", max_steps)
    one_draw, progress = validate.flag("one_draw", one_draw), validate.flag("progress", progress)
    if isinstance(target, Composed):
        validate.not_given("a model over paths", kernel=kernel, schedule=schedule)
        return path_sandwich(
            key,
            target,
            exact_draw,
            num_particles=num_particles,
            num_runs=num_runs,
            resampling=resampling,
            resample_below=0.5 if resample_below is None else resample_below,
            one_draw=one_draw,
            progress=progress,
        )
    if not isinstance(target, StaticTarget):
        raise TargetError(
            "bounds cannot be had for this kind of target",
            expected="a static target, or a model made by state_space, compose or twisted",
            got=type(target).__name__,
        )
    if resample_below is not None:
        raise ArgumentError(
            "resample_below is for models over paths", expected="None: the schedule says when", got=resample_below
        )
    return static_sandwich(
        key,
        target,
        exact_draw,
        num_particles=num_particles,
        num_runs=num_runs,
        kernel="hmc" if kernel is None else kernel,
        schedule=schedule,
        max_steps=max_steps,
        max_move_steps=max_move_steps,
        autocorrelation=autocorrelation,
        resampling=resampling,
        one_draw=one_draw,
        progress=progress,
    )
