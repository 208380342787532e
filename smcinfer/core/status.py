"""What went wrong inside a compiled run, as bits that can be carried through jit.

Inside jit nothing can be raised, so trouble becomes a bit of an integer that travels with the run
and is spelled out on the host.
"""

import enum

import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Int


class Status(enum.IntFlag):
    """Bits of a run's status; zero is a run with nothing to report."""

    OK = 0
    ALL_WEIGHTS_ZERO = 1
    NON_FINITE_POTENTIAL = 2
    SCHEDULE_UNFINISHED = 4
    MOVES_TOO_SHORT = 8
    ERROR_BARS_DISAGREE = 16
    LOOP_CAP_REACHED = 32
    GENEALOGY_COALESCED = 64
    FEW_SURVIVORS = 128
    ROUNDED = 256
    WEIGHTS_COLLAPSED = 512
    CUT_OFF = 1024
    PHASE_TRANSITION = 2048
    PATHS_DISAGREE = 4096
    MASS_MISSED = 8192
    DIVERGED = 16384
    NO_ROUND_TRIPS = 65536


EXPLANATIONS: dict[Status, str] = {
    Status.ALL_WEIGHTS_ZERO: "every particle had weight zero at some step: log Z is -inf; widen the base or add particles",
    Status.NON_FINITE_POTENTIAL: "the target was NaN or +inf at some particles; they were given weight zero",
    Status.SCHEDULE_UNFINISHED: "the schedule did not reach its end within max_steps: log Z is of an intermediate target, "
    "levels stopped below what still matters, or iterations above their tolerance",
    Status.MOVES_TOO_SHORT: "moves stayed correlated with their start at the largest number of move steps: "
    "the error bar may be too small; raise max_steps of Moves or choose another kernel",
    Status.ERROR_BARS_DISAGREE: "the error bar within runs and the spread between runs disagree: the larger one is reported",
    Status.LOOP_CAP_REACHED: "a bounded loop inside a kernel reached its cap (the kernel stays exact but moves less)",
    Status.GENEALOGY_COALESCED: "too few families of particles are left to tell the error of a single run: "
    "rely on the spread between runs, or add particles",
    Status.FEW_SURVIVORS: "log Z rests on fewer than ten particles in all, or on runs that counted alike by chance: "
    "its error bar is what a count tells; add particles, or weigh earlier what decides",
    Status.WEIGHTS_COLLAPSED: "the final weights of a run of N particles are worth fewer than sqrt(N): a few particles decide, "
    "and log Z may be too low by more than its error bar; more particles, a twist, or a proposal closer to the target",
    Status.MASS_MISSED: "moves went on to find what the weights had missed, the neck of a funnel say: log Z is too low, and "
    "its error bar does not know; sample(..., kernel=kernels.Scales(HMC()), method=Tempering(moves=Moves.exactly(100))) comes "
    "nearer, coordinates without the neck are right",
    Status.ROUNDED: "log Z is known no better than the rounding of the numbers it was summed from: "
    "run in float64, or subtract a constant from the log density",
    Status.CUT_OFF: "every sequence was still going on at max_tokens, and none that is cut off there counts: raise max_tokens",
    Status.PHASE_TRANSITION: "at some exponent the particles are of two kinds with next to none between them: which share of "
    'them is of which kind was left to chance; believe a path of levels, method="nested"',
    Status.PATHS_DISAGREE: "another path to the same target found another log Z, by more than chance: either can only have "
    "missed something, so believe the larger until more particles make them agree",
    Status.NO_ROUND_TRIPS: "fewer than thirty states of a ladder came from the base to the target and back: modes and log Z "
    "still depend on where it started; more rungs, or more draws",
    Status.DIVERGED: "the moments of a Gaussian filter are no numbers from some step on, or no covariances: "
    "take another method, or float64",
}

# What makes a result wrong or partial, as against what only widens an error bar.
SERIOUS = Status.ALL_WEIGHTS_ZERO | Status.SCHEDULE_UNFINISHED | Status.DIVERGED


def raise_bit(status: Int[Array, ""], bit: Status, condition: Array) -> Int[Array, ""]:
    """A status with one more bit set where a condition holds; may be traced.

    Args:
        status: Int[""], bits of `Status`.
        bit: what is set.
        condition: Bool[""].
    """
    return jnp.where(condition, status | int(bit), status)


def explain(status: int) -> list[str]:
    """One sentence for each bit that is set."""
    return [f"{bit.name}: {text}" for bit, text in EXPLANATIONS.items() if int(status) & bit]
