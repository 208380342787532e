"""``smcinfer report`` and ``smcinfer compare``: saved results as a page, and side by side."""

import math
from pathlib import Path

import numpy as np

from smcinfer.cli.options import command
from smcinfer.cli.output import check_new, console, table
from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError
from smcinfer.results import Result, load
from smcinfer.results.evidence import Bound
from smcinfer.results.words import with_error


@command
def report(file: Path, /, *, out: Path | None = None, force: bool = False) -> int:
    """Write a saved result as one HTML page that needs nothing else.

    Args:
        file: a file that sample --out wrote.
        out: the page; beside the file, with the ending .html, if not given.
        force: overwrite what stands at --out.

    Returns:
        The exit code.
    """
    path = file.with_suffix(".html") if out is None else out
    check_new(path, force)
    record = load(file)
    # Matplotlib and ArviZ take seconds to import, and only figures need them.
    from smcinfer import plots

    console().print(f"wrote {plots.report(record, path)}")
    return int(record.serious)


@command
def compare(*files: Path) -> int:
    """Put models side by side by their evidence: log Z, the Bayes factor against the best, and their errors.

    Args:
        files: two or more files that sample --out wrote, of models of the same data.

    Returns:
        The exit code.
    """
    if len(files) < 2:
        raise ArgumentError("there is nothing to compare", expected="two files or more", got=len(files))
    results = {
        file: validate.instance(str(file), load(file), Result, "a result of sample, which has log Z") for file in files
    }
    ranked = sorted(results.items(), key=lambda pair: -pair[1].log_z)
    best, share = ranked[0][1], shares([result.log_z for _, result in ranked])
    shown = table("model", "log Z", "log Bayes factor", "share", "status")
    for (file, result), part in zip(ranked, share, strict=True):
        behind = Bound(result.log_z - best.log_z, math.hypot(result.log_z_se, best.log_z_se))
        factor = "best" if result is best else with_error(behind)
        status = result.status.name or "OK"
        shown.add_row(
            file.stem if len({one.stem for one in files}) == len(files) else str(file),
            with_error(Bound(result.log_z, result.log_z_se)),
            factor,
            f"{part:.2g}",
            status,
        )
    console().print(shown)
    console().print("share: probability of each model, were all as likely before the data")
    return int(any(result.serious for result in results.values()))


def shares(log_z: list[float]) -> list[float]:
    """Probabilities of models that were equally likely before the data.

    Args:
        log_z: log evidence of each, nats.
    """
    weights = np.exp(np.asarray(log_z) - np.max(log_z))
    return (weights / weights.sum()).tolist()
