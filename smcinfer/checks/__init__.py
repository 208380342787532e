"""Contract tests for your own parts: run them before you trust a result that rests on them.

``check(part, key)`` picks the right one; each returns a `Report` whose ``passed`` a test can assert.
"""

from typing import Any

from smcinfer.checks.functions import check_potential, check_twist
from smcinfer.checks.kernel import check_kernel
from smcinfer.checks.model import check_model
from smcinfer.checks.process import check_process
from smcinfer.checks.proposal import check_proposal
from smcinfer.checks.report import Check, Report
from smcinfer.checks.target import check_target
from smcinfer.core.compose import Process, Proposal, Twist
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels.base import Kernel
from smcinfer.run.runner import as_typed_key
from smcinfer.static.target import StaticTarget


def check(part: Any, key: KeyArray, **options: Any) -> Report:
    """Check that a part keeps the contract that the engine relies on.

    Args:
        part: a `Kernel`, a `StaticTarget`, a `Process`, a `FeynmanKac` model (a composed one with all its parts), or a
            `Proposal` that knows its process.
        key: random key.
        options: passed on to the part's own check (``num_draws``, ``num_steps``, ...).

    Returns:
        `Report`; print it, or assert its ``passed``.

    Raises:
        ArgumentError: for anything else, saying which check to call instead.
    """
    key = as_typed_key(key)
    if isinstance(part, Kernel):
        return check_kernel(part, key, **options)
    if isinstance(part, StaticTarget):
        return check_target(part, key, **options)
    if isinstance(part, FeynmanKac):
        return check_model(part, key, **options)
    if isinstance(part, Process):
        return check_process(part, key, **options)
    process = getattr(part, "process", None)
    if isinstance(part, Proposal) and isinstance(process, Process):
        return check_proposal(part, process, key, **options)
    hint = "a twist, a potential or a proposal alone needs its process: check_twist(twist, process, key, num_steps=...)"
    raise ArgumentError(
        f"part is a {type(part).__name__}, which cannot be checked by itself",
        expected="a Kernel, StaticTarget, FeynmanKac, Process, or a Proposal with a process",
        got=repr(part)[:80],
        hint=hint if isinstance(part, Twist | Proposal) or callable(part) else "",
    )


__all__ = [
    "Check",
    "Report",
    "check",
    "check_kernel",
    "check_model",
    "check_potential",
    "check_process",
    "check_proposal",
    "check_target",
    "check_twist",
]
