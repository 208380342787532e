"""``smcinfer check``: whether a part keeps the engine's contract."""

import jax

from smcinfer import checks
from smcinfer.cli.loading import load_object
from smcinfer.cli.options import command
from smcinfer.cli.output import console, precision
from smcinfer.core.compose import Process, Proposal
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.kernels.base import Kernel
from smcinfer.static.target import StaticTarget

PARTS = (StaticTarget, FeynmanKac, Kernel, Process, Proposal)


@command
def check(part: str, /, *, seed: int = 0, x64: bool = False) -> int:
    """Check a part, and print what was tried.

    Args:
        part: FILE.py:PART, the part or a function without arguments that returns it.
        seed: of the check's random numbers.
        x64: check in float64.

    Returns:
        The exit code.
    """
    with precision(x64):
        report = checks.check(load_object(part, PARTS), jax.random.key(seed))
    console().print(report)
    return int(not report.passed)
