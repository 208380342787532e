"""The front door of bounds: ``sandwich`` takes a target of any kind that has exact draws."""

from collections.abc import Callable
from typing import Any

from smcinfer.bounds.paths import path_sandwich
from smcinfer.bounds.static import static_sandwich
from smcinfer.core.compose import Composed
from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels.base import Kernel
from smcinfer.kernels.registry import by_name
from smcinfer.results.sandwich import Sandwich
from smcinfer.run.runner import as_typed_key
from smcinfer.static import methods
from smcinfer.static.methods import Method, Tempering
from smcinfer.static.target import StaticTarget


def sandwich(
    key: Any,
    target: Any,
    exact_draw: Callable[[Any], Any],
    *,
    num_particles: int = 1024,
    num_runs: int = 8,
    method: str | Method | None = None,
    kernel: str | Kernel | None = None,
    resampling: str = "systematic",
    resample_below: float | None = None,
    one_draw: bool = False,
    progress: bool = True,
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
        method, kernel: of a static target, as in `smcinfer.sample`: tempering that is led and keeps no chains, and a kernel
            that is reversible.
        resample_below: as in `smcinfer.sample`.
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
    num_runs = validate.count("num_runs", num_runs, at_least=2)
    one_draw, progress = validate.flag("one_draw", one_draw), validate.flag("progress", progress)
    if isinstance(target, Composed):
        validate.not_given(f"a {type(target).__name__}, which has moves of its own,", method=method, kernel=kernel)
        return path_sandwich(
            key,
            target,
            exact_draw,
            num_particles=num_particles,
            num_runs=num_runs,
            resampling=resampling,
            resample_below=target.plan.threshold(resample_below),
            one_draw=one_draw,
            progress=progress,
        )
    if not isinstance(target, StaticTarget):
        raise TargetError(
            "bounds cannot be had for this kind of target",
            expected="a static target, or a model made by state_space or compose",
            got=type(target).__name__,
        )
    way = methods.by_name(method)
    if not isinstance(way, Tempering) or not way.led or way.chain_length is not None:
        raise ArgumentError(
            "only a led tempering path can be walked back",
            expected="method=smcinfer.Tempering(...) with led=True and chain_length=None",
            got=way,
        )
    return static_sandwich(
        key,
        target,
        exact_draw,
        num_particles=num_particles,
        num_runs=num_runs,
        method=way,
        kernel=by_name("hmc" if kernel is None else kernel),
        resampling=resampling,
        resample_below=resample_below,
        one_draw=one_draw,
        progress=progress,
    )
