"""Bounds for static targets: tempering runs from below, runs back through exact draws from above."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.status import SERIOUS, explain
from smcinfer.ground.arrays import Array
from smcinfer.ground.errors import TargetError
from smcinfer.kernels.base import Kernel
from smcinfer.results.from_run import sandwich_of, settings_of
from smcinfer.results.sandwich import Sandwich
from smcinfer.run.runner import run
from smcinfer.static.conditional import Choices, ConditionalTempering
from smcinfer.static.methods import Tempering
from smcinfer.static.target import StaticTarget


def static_sandwich(
    key: Array,
    target: StaticTarget,
    exact_draw: Callable[[Any], Any],
    *,
    num_particles: int,
    num_runs: int,
    method: Tempering,
    kernel: Kernel,
    resampling: str,
    resample_below: float | None,
    one_draw: bool,
    progress: bool,
) -> Sandwich:
    """Bound log Z of a static target from both sides (see `smcinfer.bounds.sandwich`, which checks what it passes on).

    Args:
        key: one random key.
        target: the target.
        exact_draw: ``key -> draw``, an exact draw of the target: its unconstrained vector, or a dict of its own names.
        num_particles: particles of each run.
        num_runs: runs for each bound, at least two.
        method: tempering that is led and keeps no chains; its exponents are reused on the way back.
        kernel: a reversible kernel.
        resampling: name of the scheme.
        resample_below: resample where the ESS falls below this fraction of the particles; ``None`` as the method has it.
        one_draw: whether ``exact_draw`` gives the same draw every time.
        progress: whether to show bars.

    Raises:
        TargetError: the run from the base did not reach the target.
    """
    draw = _as_vector(target, exact_draw)
    forward_key, reverse_key = jax.random.split(key)
    model = dataclasses.replace(method.model(target, kernel), record_params=True)
    options: dict[str, Any] = {
        "num_runs": num_runs,
        "resampling": resampling,
        "resample_below": model.plan.threshold(resample_below),
        "progress": progress,
    }
    forward = run(forward_key, model, num_particles, description="lower bound", **options)
    status = int(np.bitwise_or.reduce(np.asarray(forward.status)))
    if status & SERIOUS:
        raise TargetError(
            "the run from the base did not reach the target, so there is no path to walk back",
            expected="a run that ends",
            got=explain(status),
        )
    steps = int(forward.num_steps[0])
    choices = Choices.of(forward.history, steps)
    conditional = ConditionalTempering(target, kernel, choices, draw, steps)
    reverse = run(reverse_key, conditional, num_particles, description="upper bound", **options)
    kept = {name: options[name] for name in ("num_runs", "resampling", "resample_below")}
    return sandwich_of(forward, reverse, settings_of(key, model, num_particles, **kept), one_draw=one_draw)


def _as_vector(target: StaticTarget, exact_draw: Callable[[Any], Any]) -> Callable[[Any], Array]:
    """The user's draw as an unconstrained vector, its shape checked."""

    def draw(key: Any) -> Array:
        value = exact_draw(key)
        if not isinstance(value, dict):
            return jnp.asarray(value)
        if target.unconstrain is None:
            raise TargetError(
                "this target has no map from named values", expected="the unconstrained vector", got="a dict"
            )
        return target.unconstrain(value)

    shape = jax.eval_shape(draw, jax.random.key(0)).shape
    if shape != (target.dim,):
        raise TargetError(
            "exact_draw returned the wrong shape", expected=f"a vector ({target.dim},) or a dict of names", got=shape
        )
    return draw
