"""What a result says of itself: log Z first, then how far to trust it."""

import math

import numpy as np

from smcinfer.core.status import Status
from smcinfer.results.estimates import Estimates
from smcinfer.results.evidence import Bound
from smcinfer.results.words import Lines, counted, decimals, spanned, with_error

UPPER_BOUND_MISSING = "needs an exact draw: see smcinfer.bounds"

# Bounds this many standard errors in the wrong order are not chance.
_CROSSING = 4.0


def lines(result: Estimates) -> Lines:
    """What to say about a result, besides what every record says.

    Args:
        result: the weighted particles.

    Returns:
        The (label, text) pairs, in reading order; what was not recorded is left out.
    """
    low, high = result.log_z_interval(0.99)
    interval = "no interval" if math.isnan(low) else f"99% interval [{low:.4g}, {high:.4g}]"
    if math.isfinite(low):
        digits = decimals(result.log_z_se)
        interval = f"99% interval [{low:.{digits}f}, {high:.{digits}f}]"
    return [
        ("log Z", f"{with_error(Bound(result.log_z, result.log_z_se))} nats, {interval} ({result.evidence.source})"),
        ("lower bound", f"{with_error(result.lower_bound)} nats, E[log Z_hat] <= log Z"),
        ("upper bound", _upper(result)),
        *_check(result),
        *_finish(result),
        ("ESS", _ess(result)),
        ("steps", _steps(result)),
    ]


def title(result: Estimates) -> str:
    """One line that says what was run: kernel, particles and runs."""
    names = [str(result.settings[key]) for key in ("name", "kernel") if result.settings.get(key)]
    size = f"{result.num_particles} particles x {counted(result.num_runs, 'run')}"
    return "smcinfer result: " + ", ".join([*names, size])


def bounds_cross(result: Estimates) -> bool:
    """Whether the lower bound exceeds the upper bound by more than their errors allow: a fault, not chance."""
    upper = result.upper_bound
    if upper is None:
        return False
    error = math.hypot(_or_zero(result.lower_bound.se), _or_zero(upper.se))
    return result.lower_bound.value - upper.value > _CROSSING * error


def _upper(result: Estimates) -> str:
    if result.upper_bound is None:
        return UPPER_BOUND_MISSING
    crossed = "; BELOW the lower bound by more than chance: one of them is wrong" if bounds_cross(result) else ""
    return f"{with_error(result.upper_bound)} nats, E[log Z_hat] from an exact draw >= log Z{crossed}"


def _check(result: Estimates) -> Lines:
    check = result.check
    if check is None:
        return []
    disagrees = " DISAGREES" if result.status & Status.PATHS_DISAGREE else " agrees"
    said = f"{check.method}{disagrees}: {with_error(Bound(check.log_z, check.log_z_se))} nats"
    if math.isfinite(check.low):
        digits = decimals(check.log_z_se)
        said += f", 99% interval [{check.low:.{digits}f}, {check.high:.{digits}f}]"
    return [("check", said)]


def _finish(result: Estimates) -> Lines:
    finish = result.finish
    if finish is None:
        return []
    said = f"{with_error(Bound(finish.log_z, finish.log_z_se))} nats from {finish.num_draws} independent draws"
    said += f", worth {finish.effective:.0f}" if finish.sound else ": their weights are too uneven, not used"
    return [("finish", said)]


def _ess(result: Estimates) -> str:
    final = result.ess
    text = f"final {spanned(final)} of {result.num_particles} particles"
    recorded = result.history.get("ess")
    if recorded is None or not np.isfinite(recorded).any():
        return text
    values = recorded[np.isfinite(recorded)]
    return f"{text}; over steps min {values.min():.0f}, median {np.median(values):.0f}"


def _steps(result: Estimates) -> str:
    parts = [spanned(result.num_steps)]
    exponent = result.history.get("exponent")
    if exponent is not None and result.status & Status.SCHEDULE_UNFINISHED:
        last = exponent[np.arange(result.num_runs), result.num_steps]
        parts.append(f"stopped at exponent {last.min():.3g}")
    acceptance = result.history.get("acceptance")
    if acceptance is not None and np.isfinite(acceptance).any():
        parts.append(f"mean acceptance {np.nanmean(acceptance):.2f}")
    evaluations = result.history.get("num_evals")
    if evaluations is not None:
        each = np.nansum(evaluations.astype(np.float64), axis=1).mean()
        total = each * result.num_particles * result.num_runs
        parts.append(f"{each:.4g} density evaluations a particle ({total:.2g} in all)")
    return ", ".join(parts)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
