"""Bounds for models over paths: the model's own runs from below, conditional runs through exact paths from above."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from smcinfer.core.compose import Composed
from smcinfer.core.conditional import condition
from smcinfer.ground.arrays import Array
from smcinfer.results.from_run import sandwich_of, settings_of
from smcinfer.results.sandwich import Sandwich
from smcinfer.run.runner import run

DIVERGENCE_DRAWS = 4096
"""Paths drawn for each of the two divergences between the proposal and the target."""


def path_sandwich(
    key: Array,
    model: Composed,
    exact_draw: Callable[[Any], Any],
    *,
    num_particles: int,
    num_runs: int,
    resampling: str,
    resample_below: float,
    one_draw: bool,
    progress: bool,
) -> Sandwich:
    """Bound log Z of a composed model from both sides (see `smcinfer.bounds.sandwich`, which checks what it passes on).

    Args:
        key: one random key.
        model: the target.
        exact_draw: ``key -> path``, an exact draw of the target, every leaf with leading axis ``num_steps + 1``.
        num_particles: particles of each run.
        num_runs: runs for each bound, at least two.
        resampling: name of the scheme.
        resample_below: resample where the ESS falls below this fraction of the particles.
        one_draw: whether ``exact_draw`` gives the same draw every time; KL(target || q) is then not estimated.
        progress: whether to show bars.
    """
    conditional = condition(model, exact_draw)
    keys = jax.random.split(key, 4)
    options: dict[str, Any] = {
        "num_runs": num_runs,
        "resampling": resampling,
        "resample_below": resample_below,
        "progress": progress,
    }
    lower = run(keys[0], model, num_particles, description="lower bound", **options)
    upper = run(keys[1], conditional, num_particles, description="upper bound", **options)
    # A population of one never resamples: its Z_hat is the weight of one path drawn by the proposal, or of the exact one.
    alone: dict[str, Any] = {"num_runs": DIVERGENCE_DRAWS, "resample_below": 0.0, "history": "none"}
    proposed = run(keys[2], model, 1, **alone)
    exact = run(keys[3], conditional, 1, **alone)
    return sandwich_of(
        lower,
        upper,
        settings_of(key, model, num_particles, num_runs=num_runs, resampling=resampling, resample_below=resample_below),
        one_draw=one_draw,
        proposal_log_weights=np.asarray(proposed.log_z),
        target_log_weights=None if one_draw else np.asarray(exact.log_z),
    )
