"""How fast chains learn marginals that are known: error against time, to compare kernels with."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from smcinfer.graphs import FactorGraph, uniform_states
from smcinfer.graphs.block_gibbs import BlockGibbs
from smcinfer.ground.arrays import Array
from smcinfer.ground.programs import compiled
from smcinfer.run.runner import as_typed_key


class Curve(NamedTuple):
    """Error against time, one entry a look.

    Attributes:
        seconds: since the start; compiling and preparing the kernel are not counted.
        errors: mean absolute error of the means of *one* chain, averaged over variables and chains.
        num_sweeps: sweeps by the last look.
        acceptance: of the kernel's first kind of moves.
    """

    seconds: list[float]
    errors: list[float]
    num_sweeps: int
    acceptance: float


def error_curve(
    key: Any,
    graph: FactorGraph,
    kernel: BlockGibbs,
    reference: ArrayLike,
    *,
    seconds: float,
    num_chains: int = 16,
    sweeps: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Curve:
    """Run chains from uniform starts for some seconds and look at their means on the way.

    Args:
        key: ``jax.random.key(seed)``.
        graph: the graph.
        kernel: block Gibbs moves on it.
        reference: (variables,), the true means.
        seconds: how long.
        num_chains: side by side in one program.
        sweeps: between two looks.
        clock: in seconds; ``time.process_time`` leaves out what else the machine does.
    """
    start_key, warm_key, run_key = jax.random.split(as_typed_key(key), 3)
    x = uniform_states(start_key, graph, num_chains)
    total = jnp.zeros_like(x)
    jax.block_until_ready(_run(warm_key, x, total, graph, kernel, sweeps))
    truth, counts, spent = np.asarray(reference), np.zeros(2), 0.0
    times, errors = [], []
    while spent < seconds:
        started = clock()
        x, total, found = jax.block_until_ready(
            _run(jax.random.fold_in(run_key, len(times)), x, total, graph, kernel, sweeps)
        )
        spent += clock() - started
        counts += np.asarray(found)
        times.append(spent)
        errors.append(float(np.abs(np.asarray(total) / (sweeps * len(times)) - truth).mean()))
    return Curve(times, errors, sweeps * len(times), float(counts[0] / max(counts[1], 1.0)))


@compiled
def _run(
    key: Array, x: Array, total: Array, graph: FactorGraph, kernel: BlockGibbs, sweeps: int
) -> tuple[Array, Array, Array]:
    """States and sums of states after some sweeps; acceptance and number of proposals of the first kind of moves."""

    def one(carry: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], Array]:
        x, total = carry
        x, info = kernel.sweep(key, x, graph)
        return (x, total + x), jnp.stack([jnp.sum(info.acceptance[0]), jnp.sum(info.proposed[0])])

    (x, total), counts = jax.lax.scan(one, (x, total), jax.random.split(key, sweeps))
    return x, total, jnp.sum(counts, axis=0)
