"""What each command does; every one returns the exit code."""

import argparse
import contextlib
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from smcinfer import api, checks
from smcinfer.cli.loading import load_object
from smcinfer.core.compose import Process, Proposal
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.files import check_writable
from smcinfer.kernels.base import Kernel
from smcinfer.paths.schedules import ESS, ConditionalESS, Schedule
from smcinfer.results import Result, load
from smcinfer.static.methods import Method, Tempering
from smcinfer.static.target import StaticTarget

OK, FAILED = 0, 1
"""Exit codes: all well; the run or the check went wrong."""

TARGETS = (StaticTarget, FeynmanKac)
PARTS = (StaticTarget, FeynmanKac, Kernel, Process, Proposal)

_MOST_ROWS = 40
_CHECKPOINT = "checkpoint.safetensors"


def sample(args: argparse.Namespace) -> int:
    """Sample a target; everything that can be wrong with the arguments is found before any work."""
    if args.out is not None:
        check_writable(args.out)
    if args.plots is not None:
        _make_folder(args.plots)
    schedule = parse_schedule(args.schedule, args.ess_threshold)
    method = choose_method(args.method, schedule, args.max_steps)
    with _precision(args.x64):
        result = _run(args, method)
    _show(result)
    console = _console()
    if args.out is not None:
        console.print(f"saved to {result.save(args.out)}")
    if args.plots is not None:
        _save_plots(console, result, args.plots)
    return FAILED if result.serious else OK


def _run(args: argparse.Namespace, method: Method | str | None) -> Result:
    return api.sample(
        jax.random.key(args.seed),
        load_object(args.target, TARGETS),
        num_particles=args.num_particles,
        num_runs=args.num_runs,
        kernel=args.kernel,
        method=method,
        history="ancestors" if args.plots is not None else "scalars",
        progress=not args.no_progress,
        checkpoint=_checkpoint_file(args.checkpoint),
    )


def summary(args: argparse.Namespace) -> int:
    """Print a saved result."""
    result = load(args.file)
    _show(result)
    return FAILED if result.serious else OK


def plot(args: argparse.Namespace) -> int:
    """Draw every figure of a saved result."""
    result = load(args.file)
    _save_plots(_console(), result, _make_folder(args.out))
    return OK


def check(args: argparse.Namespace) -> int:
    """Check that a part keeps the engine's contract."""
    with _precision(args.x64):
        report = checks.check(load_object(args.part, PARTS), jax.random.key(args.seed))
    Console(soft_wrap=True).print(report)
    return OK if report.passed else FAILED


def demo(args: argparse.Namespace) -> int:
    """Run the demonstration."""
    from smcinfer.cli import demo as demonstration

    return demonstration.main(_make_folder(args.out)) or OK


def choose_method(name: str | None, schedule: Any, max_steps: int | None) -> Method | str | None:
    """The method of a static target; ``None`` where nothing was said of it.

    Args:
        name: ``"tempering"``, ``"data_annealing"`` or ``None``.
        schedule: of tempering, as `parse_schedule` returns it.
        max_steps: of tempering.

    Raises:
        ArgumentError: for an unknown name, or settings of tempering with another method.
    """
    if schedule is None and max_steps is None:
        return name
    if (name or "tempering") != "tempering":
        validate.not_given(f"the method {name}", schedule=schedule, max_steps=max_steps)
    return Tempering("ess" if schedule is None else schedule, max_steps=max_steps)


def parse_schedule(text: str | None, threshold: float | None) -> Schedule | str | list[float] | None:
    """A schedule from its name or its exponents, with the ESS fraction where it is an adaptive one.

    Args:
        text: ``"ess"``, ``"conditional_ess"``, or exponents separated by commas.
        threshold: ESS after a step, as a fraction of what it could be.

    Raises:
        ArgumentError: neither a name nor numbers, or a threshold for a fixed schedule.
    """
    rules = {"ess": ESS, "conditional_ess": ConditionalESS}
    if text in rules or text is None:
        return text if threshold is None else rules[text or "ess"](fraction=threshold)
    try:
        exponents = [float(part) for part in text.split(",")]
    except ValueError as error:
        expected = "ess, conditional_ess, or exponents separated by commas that end at 1"
        raise ArgumentError("unknown schedule", expected=expected, got=text) from error
    if threshold is not None:
        raise ArgumentError(
            "--ess-threshold has no meaning with fixed exponents", got=text, hint="leave one of the two options out"
        )
    return exponents


def _precision(x64: bool) -> contextlib.AbstractContextManager[object]:
    return jax.enable_x64(True) if x64 else contextlib.nullcontext()


def _console() -> Console:
    """Plain text as it is: no wrapping, no colouring of numbers, no markup in names."""
    return Console(soft_wrap=True, highlight=False, markup=False)


def _show(result: Result) -> None:
    """The report and the table of variables."""
    _console().print(str(result))
    table = result.summary()
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("variable", no_wrap=True)
    for column in table.columns:
        shown.add_column(str(column), justify="right", no_wrap=True)
    for label, row in table.head(_MOST_ROWS).iterrows():
        *values, ess = row
        shown.add_row(str(label), *(f"{value:.4g}" for value in values), f"{ess:.0f}")
    console = _console()
    console.print()
    console.print(shown)
    if len(table) > _MOST_ROWS:
        console.print(f"... and {len(table) - _MOST_ROWS} more: smcinfer.load(path).summary() has them all")


def _save_plots(console: Console, result: Result, folder: Path) -> None:
    # Matplotlib and ArviZ take seconds to import, and only figures need them.
    from smcinfer import plots

    for path in plots.save_all(result, folder):
        console.print(f"drew {path}")


def _make_folder(folder: Path) -> Path:
    """The folder, made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError("cannot make the output folder", got=f"{folder}: {error.strerror or error}") from error
    check_writable(folder / "figure.png")
    return folder


def _checkpoint_file(path: Path | None) -> Path | None:
    """A folder stands for a file of a fixed name in it."""
    return path / _CHECKPOINT if path is not None and path.is_dir() else path
