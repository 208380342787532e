"""``smcinfer sample``: a target of a file, its report, its figures."""

from pathlib import Path
from typing import Annotated, Any

import jax

from smcinfer import api
from smcinfer.cli.loading import load_object
from smcinfer.cli.options import Door, command
from smcinfer.cli.output import check_new, checkpoint_file, console, new_folder, precision
from smcinfer.cli.saved import draw, show
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.paths.moves import Moves
from smcinfer.paths.schedules import ESS, ConditionalESS
from smcinfer.static.methods import METHODS
from smcinfer.static.target import StaticTarget

TARGETS = (StaticTarget, FeynmanKac)

SAMPLING = Door(
    api.sample,
    "Sampling",
    # On a command line --tolerance is where levels end.
    without=("key", "target", "devices", "tolerance"),
    objects={"method": tuple(METHODS.values()), "schedule": (ESS, ConditionalESS), "moves": (Moves,)},
    flat=("method",),
    types={"schedule": str | list[float], "survival": float, "check": str},
    help={
        "method": "of a static target: tempering (default), nested, or data_annealing for targets given with data.",
        "check": "of a static target: another method, which signs the result or contradicts it: nested.",
        "kernel": "of a static target: name of a move kernel; hmc if not given.",
        "schedule": "ess, conditional_ess, or exponents between commas that end at 1: .01,.1,1.",
        "checkpoint": "file or folder to save progress to and resume from.",
    },
)


@command
def sample(
    target: str,
    /,
    *,
    sampling: Annotated[dict[str, Any], SAMPLING],
    seed: int = 0,
    x64: bool = False,
    out: Path | None = None,
    plots: Path | None = None,
    force: bool = False,
) -> int:
    """Sample a target; everything that can be wrong with the arguments is found before any work.

    Args:
        target: FILE.py:TARGET, a target or a function without arguments that returns it.
        sampling: what `api.sample` is called with.
        seed: the same seed gives the same result.
        x64: compute in float64.
        out: save the result (netCDF).
        plots: draw every figure into this folder.
        force: overwrite what stands at --out and --plots.

    Returns:
        The exit code.
    """
    check_new(out, force)
    if plots is not None:
        new_folder(plots, force)
        # Figures of the genealogy need it recorded.
        sampling.setdefault("history", "ancestors")
    if sampling.get("checkpoint") is not None:
        sampling["checkpoint"] = checkpoint_file(sampling["checkpoint"])
    with precision(x64):
        result = api.sample(jax.random.key(seed), load_object(target, TARGETS), **sampling)
    show(result)
    if out is not None:
        console().print(f"saved to {result.save(out)}")
    if plots is not None:
        draw(result, plots)
    return int(result.serious)
