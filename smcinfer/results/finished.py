"""What the loops on the host hand over: a finished run of particles, and finished Markov chains, before they are a record."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from smcinfer.ground.arrays import Array, Float, Int, PyTree


@dataclasses.dataclass
class Run:
    """A finished run of ``num_runs`` (R) populations of ``num_particles`` (N) over at most T steps.

    Arrays are numpy ones, but for particles, which stay where they are, and random keys.

    Attributes:
        particles: pytree of arrays ``(R, N, ...)``.
        log_weights: Float["R N"], normalised within each run.
        log_z: Float["R"], log of the unbiased estimate of the normaliser, nats.
        log_z_variance: Float["R"], relative variance of Z_hat as each run estimates it of itself.
        eve_variance: Float["R"], the same by families founded at t = 0, noisy once few are left.
        num_roots: Int["R"], initial particles with living descendants.
        num_steps: Int["R"], steps taken.
        status: Int["R"], bits of `Status`.
        history: dict of numpy arrays ``(R, T+1, ...)``; entries after a run's last step are padding.
        shared: the model's shared quantities at the end.
        seconds, compile_seconds: wall time of the whole run and the part of it spent compiling.
    """

    particles: PyTree[Any]
    log_weights: Float[Array | np.ndarray, "R N"]
    log_z: Float[Array | np.ndarray, " R"]
    log_z_variance: Float[Array | np.ndarray, " R"]
    eve_variance: Float[Array | np.ndarray, " R"]
    num_roots: Int[Array | np.ndarray, " R"]
    num_steps: Int[Array | np.ndarray, " R"]
    status: Int[Array | np.ndarray, " R"]
    history: dict[str, Any]
    shared: PyTree[Any]
    seconds: float
    compile_seconds: float


class Driven(NamedTuple):
    """What a finished run leaves.

    Attributes:
        records: arrays ``(num_chains, num_draws, ...)`` of what the sampler kept, with ``acceptance``.
        progress: where the chains ended.
        seconds, compile_seconds: wall time, and the part of it spent compiling.
        draw_seconds: wall time of the draws alone, compiling apart.
    """

    records: dict[str, Any]
    progress: PyTree[Any]
    seconds: float
    compile_seconds: float
    draw_seconds: float = 0.0
